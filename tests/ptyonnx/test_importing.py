"""Where an imported run goes: nothing that stands there, nor the bundle that it comes from, is lost on the way."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from bundle_factory import make_bundle
from refusal import contents, refused
from small_training import simulated_scan

from ptyonnx import export, import_bundle, open_bundle
from ptyonnx.cli import main
from ptyonnx.formats import write_scan
from ptyonnx.runs.run import Run
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import OutputError, RunError

Output = pytest.CaptureFixture[str]
VERBS = pytest.mark.parametrize(
    "words", ["import {} --backend torch", "train --backend torch --data scan.npz --from {} --epochs 1"]
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", Recipe(N=32, filters_scale=0.125))


@pytest.fixture
def own(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run and what was exported from it, beside a scan to train on."""
    monkeypatch.chdir(tmp_path)
    write_scan(tmp_path / "scan.npz", simulated_scan())
    export(import_bundle(bundle, "torch", tmp_path / "own"), tmp_path / "own" / "bundle.onnx")
    return tmp_path / "own"


@VERBS
@pytest.mark.parametrize("source", ["own/bundle.onnx", "own", "link.onnx", "own/checkpoints/mine.onnx"])
def test_a_run_is_not_replaced_by_what_is_made_of_a_bundle_in_it(
    capsys: Output, tmp_path: Path, own: Path, words: str, source: str
) -> None:
    shutil.copy(own / "bundle.onnx", own / "checkpoints" / "mine.onnx")
    Path("link.onnx").symlink_to("own/bundle.onnx")
    Run.open(own).write(bundle=own / "bundle.onnx")
    line = refused(capsys, tmp_path, *words.format(source).split(), "-o", "own", "--overwrite")
    assert line.startswith("own: ")
    name = "bundle.onnx" if source == "own" else Path(source).name
    assert f", found {name}; " in line
    assert line.endswith("name another directory")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Ctrl-C when the next file or folder but `count` is about to be renamed."""
    moved = itertools.count()
    for name in ("replace", "rename"):
        move = getattr(os, name)

        def rename(source: Path, target: Path, move: Any = move) -> None:
            if next(moved) == count:
                raise KeyboardInterrupt
            move(source, target)

        monkeypatch.setattr(os, name, rename)


def test_an_import_that_is_interrupted_anywhere_leaves_one_run_whole(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ptyonnx.exchange.importing._check_native_network", lambda *_: None
    )  # the framework is no part of this
    older = import_bundle(bundle, "torch", tmp_path / "run")
    (older.directory / "bundle.onnx").write_bytes(bundle.model)
    (older.directory / "notes.txt").write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    new = ["checkpoints", "notes.txt", "run.json", "settings.yaml"]
    arrived = []
    for count in itertools.count():
        with monkeypatch.context() as patch:
            interrupt_after(patch, count)
            try:
                import_bundle(bundle, "tensorflow", tmp_path / "run", overwrite=True)
            except KeyboardInterrupt:
                arrived.append(Run.open(tmp_path / "run").backend == "tensorflow")
                assert contents(tmp_path) == before or sorted(p.name for p in older.directory.iterdir()) == new
            else:
                break
        if arrived[-1]:
            import_bundle(bundle, "torch", tmp_path / "run", overwrite=True)
            (older.directory / "bundle.onnx").write_bytes(bundle.model)
    assert arrived == sorted(arrived)
    assert set(arrived) == {False, True}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_import_that_is_interrupted_where_no_run_stood_leaves_nothing_or_the_run(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptyonnx.exchange.importing._check_native_network", lambda *_: None)
    for count in range(5):  # two checkpoints, settings and record become complete; then the run arrives
        with monkeypatch.context() as patch:
            interrupt_after(patch, count)
            with pytest.raises(KeyboardInterrupt):
                import_bundle(bundle, "torch", tmp_path / "run")
        assert contents(tmp_path) == {}


def test_an_import_that_fails_before_the_new_run_is_complete_leaves_the_older_run(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_bundle(bundle, "torch", tmp_path / "run")
    before = contents(tmp_path)

    def full(*_: object) -> None:
        raise OutputError("no room")

    monkeypatch.setattr("ptyonnx.exchange.importing.save", full)
    with pytest.raises(OutputError):
        import_bundle(bundle, "tensorflow", tmp_path / "run", overwrite=True)
    assert contents(tmp_path) == before


def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the disk fail where a file or folder of this name is to be renamed."""
    move = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return move(self, target)

    monkeypatch.setattr(Path, "rename", rename)


def test_a_disk_that_fails_while_a_run_takes_its_place_is_said_and_the_next_to_open_it_goes_on(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptyonnx.exchange.importing._check_native_network", lambda *_: None)
    import_bundle(bundle, "torch", tmp_path / "run")
    with monkeypatch.context() as patch:
        failing(patch, "settings.yaml")
        with pytest.raises(OutputError, match="Input/output error"):
            import_bundle(bundle, "tensorflow", tmp_path / "run", overwrite=True)
        with pytest.raises(OutputError, match="Input/output error"):
            Run.open(tmp_path / "run")
    assert Run.open(tmp_path / "run").backend == "tensorflow"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoints", "run.json", "settings.yaml"]


def test_a_disk_that_fails_says_so_in_one_line_and_the_older_run_stays(
    capsys: Output, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_bundle(bundle, "torch", tmp_path / "run")
    failing(monkeypatch, ".incoming")
    line = refused(capsys, tmp_path, "import", bundle.path, "--backend", "torch", "-o", tmp_path / "run", "--overwrite")
    assert line.endswith("run: cannot be written (Input/output error); make room, or name another directory")


@pytest.mark.parametrize("name", ["settings.yaml", "checkpoints/mine.txt"])
def test_files_that_are_not_a_runs_are_not_replaced(tmp_path: Path, bundle: Bundle, name: str) -> None:
    mine = tmp_path / "folder" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine", encoding="utf-8")
    before = contents(tmp_path)
    with pytest.raises(RunError) as error:
        import_bundle(bundle, "torch", tmp_path / "folder", overwrite=True)
    assert (error.value.file, error.value.found) == (str(tmp_path / "folder"), Path(name).parts[0])
    assert contents(tmp_path) == before


def test_a_bundle_below_a_directory_without_a_run_is_no_obstacle(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "one.onnx").write_bytes(bundle.model)
    import_bundle(open_bundle("bundles/one.onnx"), "torch", ".")
    assert (Run.open(".").backend, (tmp_path / "bundles" / "one.onnx").read_bytes()) == ("pytorch", bundle.model)


def test_inspect_names_the_run_and_its_framework_beside_its_bundle(
    capsys: Output, tmp_path: Path, bundle: Bundle
) -> None:
    export(import_bundle(bundle, "tensorflow", tmp_path / "run"), tmp_path / "run" / "bundle.onnx")
    assert main(["inspect", str(tmp_path / "run")]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert rows["run"] == str(tmp_path / "run")
    assert rows["framework"] == "tensorflow"
    assert rows["state"] == "imported (imported from bundle.onnx)"
    assert rows["bundle"].startswith(str(tmp_path / "run" / "bundle.onnx"))
    assert main(["inspect", "--json", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["framework"] == "tensorflow"


@pytest.mark.parametrize("mode", ["--graph autoencoder", "--profile ptychovit --batch 2"])
@pytest.mark.parametrize("source", ["own", "own/bundle.onnx", "link.onnx"])
def test_what_is_no_bundle_is_not_written_over_the_bundle_that_it_is_made_of(
    capsys: Output, tmp_path: Path, own: Path, source: str, mode: str
) -> None:
    Path("link.onnx").symlink_to("own/bundle.onnx")
    Run.open(own).write(bundle=own / "bundle.onnx")
    line = refused(capsys, tmp_path, "export", source, *mode.split(), "-o", "own/bundle.onnx")
    assert line == "own/bundle.onnx: would replace a file that it is computed from; name another file"
