"""YAML of settings: what YAML 1.1 has and users write, and nothing that takes time, memory or a trace."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from bundle_factory import make_bundle
from hypothesis import given
from hypothesis import strategies as st

from ptyonnx.runs.run import Record, Run
from ptyonnx.settings import Settings
from ptyonnx.settings.configuration import configure
from ptyonnx.settings.strict_yaml import LARGEST_BYTES, parse_yaml
from ptyonnx_bundles.errors import RunError, SettingsError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# What is understood.


@pytest.mark.parametrize(
    "text",
    [
        "model: &m\n  gridsize: 2\nsampling:\n  <<: *m\n  n_groups: 20\n",
        "base: &b\n  gridsize: 2\n  n_groups: 3\n<<: *b\nn_groups: 20\n",
        "a: &a {gridsize: 2}\nb: &b {gridsize: 1, n_groups: 20}\n<<: [*a, *b]\n",
        "a: &a {gridsize: 2}\nb: &b {<<: *a, n_groups: 20}\n<<: *b\n",
        "gridsize: &n 2\nn_groups: 20\nneighbor_count: *n\n",
    ],
)
def test_merge_keys_and_anchors_are_those_of_yaml(write: Write, text: str) -> None:
    settings = configure(write(text)).settings
    assert (settings.gridsize, settings.n_groups) == (2, 20)


def test_a_mapping_that_nothing_merges_is_no_template(write: Write) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(write("base: &b\n  gridsize: 2\nepochs: 3\n"))
    assert caught.value.key == "base"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text("ab -:#'é", max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
        max_leaves=12,
    )
)  # fmt: skip
def test_what_yaml_writes_is_read_as_pyyaml_reads_it(value: object) -> None:
    text = yaml.safe_dump(value)
    assert parse_yaml(text).content == yaml.safe_load(text)


@pytest.mark.parametrize("name", ["2026", "2026.10", "0x10", "on", "2026-11-28", "1:30", "1_000", "~x", "'null'"])
def test_a_path_is_taken_as_it_is_written(write: Write, name: str) -> None:
    wanted = Path(name.strip("'"))
    for key in ("output", "output_dir", "data", "train_data_file"):
        found = configure(write(f"{key}: {'./' if name[0] == '~' else ''}{name}\n"))
        assert (found.output or found.data) == wanted
    assert configure(assignments=["output=2026"]).output == Path("2026")


def test_a_number_that_is_a_name_for_one_key_is_a_number_for_another(write: Write) -> None:
    found = configure(write("output: &n 7\nseed: *n\n"))
    assert (found.output, found.settings.seed) == (Path("7"), 7)


@pytest.mark.parametrize("text", ["output: null\n", "output:\n", "output: ~\n"])
def test_null_is_no_path(write: Write, text: str) -> None:
    assert configure(write(text), assignments=["data=null"]).output is None


def test_the_home_directory_stands_for_a_tilde(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = configure(
        write("data: ~/scan.npz\noutput_dir: ~\ntest_data_file: '~/t.npz'\nprobe: a~b\n"), assignments=["output=~/run"]
    )
    assert found.data == Path("/home/me/scan.npz")
    assert (found.test_data, found.output, found.probe) == (Path("/home/me/t.npz"), Path("/home/me/run"), Path("a~b"))
    with pytest.raises(SettingsError) as caught:
        configure(write("data: ~nobody-of-this-name/scan.npz\n"))
    assert caught.value.key == "data"


@pytest.mark.parametrize("value", ["2026-11-28", "2026-13-45", "2026-11-28T25:61:61"])
def test_a_date_is_text_which_is_no_number(write: Write, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(write(f"epochs: {value}\n"))
    assert (caught.value.key, caught.value.found) == ("epochs", repr(value))


# What is refused, in one line that names file and line.

DOUBLING = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 26)), "data: *a25"])
MERGING = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], b{n}: 1}}" for n in range(1, 26)), "<<: *a25"]
)
LINES = {
    "aliases that double": (DOUBLING, 11),
    "merge keys that double": (MERGING, 10),
    "an anchor in itself": ("a: &a [*a]", 1),
    "a mapping merged into itself": ("a: &a\n  <<: *a", 2),
    "a list in lists": ("a: " + "[" * 1000, 1),
    "mappings in mappings": ("\n".join(" " * n + "a:" for n in range(30)), 16),
    "many duplicates": ("\n".join(f"k{n % 3000}: 1" for n in range(3100)), 2048),
    "duplicates": ("epochs: 1\nseed: 3\nepochs: 2", 3),
    "duplicates in a block": ("model:\n  gridsize: 1\n  gridsize: 1", 3),
    "duplicates, spelled otherwise": ('epochs: 1\n"epochs": 1', 2),
    "an integer of many digits": ("epochs: " + "9" * 4301, 1),
    "no boolean": ("\ntrain_probe: !!bool x", 2),
    "no integer": ("epochs: !!int ''", 1),
    "no number": ("rate: !!float x", 1),
    "a scalar that is to be a mapping": ("epochs: !!map x", 1),
    "an impossible date": ("epochs: !!timestamp 2026-13-45", 1),
    "bytes": ("output: !!binary eA==", 1),
    "a set": ("epochs: !!set {a, b}", 1),
    "an object of Python": ("epochs: !!python/object/apply:os.getcwd []", 1),
    "a tag of one's own": ("epochs: !mine 3", 1),
    "a list as key": ("? [a, b]\n: 1", 1),
    "merging what is no mapping": ("a: &a [1]\n<<: *a", 1),
    "half a character": ('output: "\\udcff"', 1),
    "two documents": ("epochs: 1\n---\nepochs: 2", 2),
    "an unknown alias": ("a: *b", 1),
    "an open bracket": ("epochs: [", 1),
}


@pytest.mark.parametrize("case", LINES)
def test_what_settings_do_not_need_is_refused_with_its_line(write: Write, case: str) -> None:
    text, line = LINES[case]
    path = write(text)
    start = time.perf_counter()
    with pytest.raises(SettingsError, match=rf"YAML in line {line}: ") as caught:
        configure(path)
    assert time.perf_counter() - start < 5
    assert caught.value.file == str(path)
    assert "\n" not in str(caught.value)


def test_a_refusal_takes_little_memory(write: Write) -> None:
    for text in (DOUBLING, MERGING):
        path = write(text)
        tracemalloc.start()
        with pytest.raises(SettingsError):
            configure(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000


def test_a_file_that_is_too_large_is_not_read(write: Write) -> None:
    configure(write("#" * (LARGEST_BYTES - 1) + "\n"))
    path = write("#" * LARGEST_BYTES + "\n")
    with pytest.raises(SettingsError) as caught:
        configure(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize("text", ["9" * 4301, "!!bool x", "2026-13-45", "&a [*a]", "[" * 500])
def test_flags_are_read_in_the_same_way(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(assignments=[f"epochs={text}"])
    assert caught.value.key == "epochs"


# What is no file at all, as --config and in a run.


def run_in(folder: Path) -> Path:
    manifest = make_bundle(folder / "bundle.onnx").native_manifest("a test")
    parts = {name: getattr(manifest, name) for name in ("producer", "recipe", "physics", "training_data")}
    return Run(folder / "run", Record(backend="pytorch", **parts), Settings()).write().directory


def nothing(path: Path) -> None:
    path.unlink(missing_ok=True)


def fifo(path: Path) -> None:
    nothing(path)
    os.mkfifo(path)


def endless(path: Path) -> None:
    nothing(path)
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    nothing(path)
    with path.open("wb") as stream:
        stream.truncate(2**33)


def binary(path: Path) -> None:
    nothing(path)
    path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize("make", [nothing, fifo, endless, large, binary])
def test_neither_config_nor_a_runs_files_may_be_pipes_devices_or_giants(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    config = tmp_path / "c.yaml"
    make(config)
    with pytest.raises(SettingsError) as said:
        configure(config)
    assert said.value.file == str(config)
    run = run_in(tmp_path)
    assert Run.open(run)
    make(run / "settings.yaml")
    with pytest.raises(RunError) as caught:
        Run.open(run)
    assert caught.value.file == str(run / "settings.yaml")
    make(run / "run.json")
    with pytest.raises(RunError) as caught:
        Run.open(run)
    assert caught.value.file == str(run / "run.json")


def test_hostile_settings_of_a_run_are_errors_of_the_run(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    for text in (DOUBLING, "epochs: " + "9" * 4301, "epochs: 1\nepochs: 2", "- 1", "", "epoch: 3", "epochs: 0"):
        (run / "settings.yaml").write_text(text)
        with pytest.raises(RunError) as caught:
            Run.open(run)
        assert caught.value.file == str(run / "settings.yaml")
