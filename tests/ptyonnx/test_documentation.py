"""What the documentation shows is parsed or run here, so that it cannot rot."""

import doctest
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bundle_factory import make_bundle

from ptyonnx import load_scan
from ptyonnx.cli import VERBS, main
from ptyonnx.settings.configuration import configure

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PACKAGES = ("bundles", "converters", "ptyonnx", "runtime")
PAGES = (
    README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / package / "README.md" for package in PACKAGES),
)  # fmt: skip
SAMPLE = "samples/siemens_star_64.npz"
LARGEST_PICTURE_BYTES = 400_000


def _blocks(page: Path, language: str) -> list[str]:
    """Fenced code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def _typed(page: Path, program: str) -> Iterator[list[str]]:
    """Words of every command line of a page, fenced or indented."""
    indented = re.findall(r"^    (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    for line in chain(*(block.splitlines() for block in _blocks(page, "sh")), indented):
        if line.startswith(f"{program} "):
            yield shlex.split(line, comments=True)[1:]


def _relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


COMMANDS = [
    pytest.param(words, id=f"{_relative(page)}: {' '.join(words)}")
    for page in PAGES
    for words in _typed(page, "ptyonnx")
]


def _first_words(block: str) -> list[str]:
    """Program and verb of every line."""
    return [" ".join(line.split()[:2]) for line in block.splitlines()]


def test_the_readme_begins_with_a_session_and_then_the_two_commands_that_prove_and_show_it() -> None:
    session, clone = _blocks(README, "sh")[:2]
    verbs = ("train", "export", "reconstruct", "diff")
    assert _first_words(session) == ["pip install", *(f"ptyonnx {verb}" for verb in verbs)]
    assert _first_words(clone) == ["make test", "make demo"]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_line_is_one_that_the_command_line_understands(words: list[str]) -> None:
    verb, *arguments = words
    if verb == "VERB":
        return
    command = importlib.import_module(f"ptyonnx.cli.{verb}").command
    with command.make_context(verb, arguments) as context:
        if verb == "train":
            given = dict(context.params)
            config = given.pop("config")
            own = ("assignments", "source", "resume", "overwrite", "exporting")
            flags = {name: value for name, value in given.items() if name not in own}
            configure(ROOT / config if config and (ROOT / config).exists() else None, flags, given["assignments"])


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone in which the README's training and demo have been run."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    for name in ("run", "demo"):
        (tmp_path / name).mkdir()
    make_bundle(tmp_path / "run" / "bundle.onnx")
    make_bundle(tmp_path / "star.onnx", framework="pytorch")
    for seed, backend in enumerate(("tensorflow", "pytorch")):
        make_bundle(tmp_path / "demo" / f"{backend}.onnx", seed=seed, framework=backend)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readmes_session_runs_as_it_is_shown(clone: Path) -> None:
    (session,) = (block for block in _blocks(README, "python") if block.startswith(">>>"))
    test = doctest.DocTestParser().get_doctest(session, {}, "README.md", str(README), 0)
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(test)
    assert (result.attempted, result.failed) == (8, 0)
    assert (clone / "star.h5").exists()
    assert (clone / "star.png").exists()


def test_the_readmes_command_lines_run_where_nothing_is_trained(clone: Path) -> None:
    codes = [
        (verb, main([verb, *arguments]))
        for verb, *arguments in _typed(README, "ptyonnx")
        if verb in {"inspect", "verify", "reconstruct", "diff", "simulate"}
    ]
    two_unlike_networks, one_in_two_engines = ("diff", 1), ("diff", 0)
    others = [(verb, 0) for verb in ("inspect", "verify", "reconstruct", "simulate")]
    assert sorted(codes) == sorted([*others, two_unlike_networks, one_in_two_engines])
    assert "ptyonnx" in (clone / "page.html").read_text(encoding="utf-8")
    assert load_scan(clone / "simulated.npz").mean_photons == pytest.approx(1e6, rel=0.1)


def test_the_scan_that_the_page_on_formats_writes_can_be_read(clone: Path) -> None:
    (program,) = _blocks(ROOT / "docs" / "formats.md", "python")
    generator = np.random.default_rng(0)
    counts = generator.poisson(30 * np.hanning(32)[:, None] * np.hanning(32), (5, 32, 32))
    y_m, x_m = generator.uniform(0, 1e-6, (2, 5))
    with h5py.File(clone / "scan_dp.hdf5", "w") as file:
        file["dp"] = counts
    with h5py.File(clone / "scan_para.hdf5", "w") as file:
        file["probe"] = np.ones((1, 2, 32, 32), np.complex64)
        file["probe_position_y_m"], file["probe_position_x_m"] = y_m, x_m
        file.create_dataset("object", data=np.ones((1, 150, 150), np.complex64)).attrs["pixel_height_m"] = 1e-8
    exec(compile(program, "formats.md", "exec"), {})  # noqa: S102 - our own page
    scan = load_scan(clone / "scan.npz", values="amplitude")
    assert scan.mean_photons == pytest.approx(counts.sum() / 5, rel=1e-6)
    assert scan.probe is not None
    assert scan.probe.shape == (2, 32, 32)
    np.testing.assert_allclose(scan.positions_px, np.stack([y_m, x_m], axis=1) / 1e-8)


def test_the_program_of_the_page_on_exchange_runs(clone: Path) -> None:
    (program,) = _blocks(ROOT / "docs" / "exchange.md", "python")
    assert (clone / "run" / "bundle.onnx").exists()
    names: dict[str, Any] = {}
    exec(compile(program, "exchange.md", "exec"), names)  # noqa: S102 - our own page
    assert names["result"].engine == "pytorch"
    assert list(names["layers"]) == [node.name for node in names["bundle"].manifest.recipe.nodes()]


@pytest.mark.slow
def test_the_readmes_training_runs_in_both_frameworks(clone: Path) -> None:
    (program,) = (block for block in _blocks(README, "python") if "train(" in block)
    quick = program.replace("epochs=20", "epochs=1, n_subsample=32, n_groups=16, filters_scale=0.0625")
    assert quick != program
    outcome = subprocess.run(
        [sys.executable, "-c", quick], cwd=clone, capture_output=True, text=True, check=False, timeout=300
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "phase correlation" in outcome.stdout
    assert (clone / "tensorflow.onnx").exists()


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{_relative(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, f"{_relative(page)}: {target}"


def _slug(heading: str) -> str:
    """The anchor of a heading, as web sites that show Markdown make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_every_script_and_make_target_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for script, arguments in re.findall(r"python ((?:\w+/)+\w+\.py)([^`\n]*)", text):
        source = (ROOT / script).read_text(encoding="utf-8")
        assert all(f'"{flag}"' in source for flag in re.findall(r"--[\w-]+", arguments)), f"{script}{arguments}"
    for target in re.findall(r"(?:`|^)make ([a-z-]+)(?:`|\s+#)", text, re.MULTILINE):
        assert target in targets, target


def test_the_readme_lists_every_verb_in_the_order_of_work() -> None:
    section = README.read_text(encoding="utf-8").split("## Commands")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == VERBS


def test_the_readme_lists_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = README.read_text(encoding="utf-8")
    section = text.split("## Install")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == list(project["optional-dependencies"])
    assert set(re.findall(r"ptyonnx\[(\w+)\]", text)) <= set(project["optional-dependencies"])


def test_the_page_on_dependencies_names_every_one() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = content["project"], content["dependency-groups"]
    wanted = [*project["dependencies"], *groups["dev"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[<>=\[ ]", requirement)[0] for requirement in wanted} - {"ptyonnx"}
    named = set(re.findall(r"`([\w.-]+)`", (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")))
    stubs = {name for name in names if name.startswith("types-")}
    assert names - stubs <= named


def test_pictures_are_small_enough_for_a_page_that_everybody_loads() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert all(picture.stat().st_size < LARGEST_PICTURE_BYTES for picture in pictures)


def test_the_readmes_folder_map_shows_folders_that_exist() -> None:
    section = README.read_text(encoding="utf-8").split("## Where things are")[1].split("\n## ")[0]
    shown = set(re.findall(r"(\w+)/ ", section))
    assert set(PACKAGES) < shown
    assert all((ROOT / folder).is_dir() for folder in shown)
