"""Killed at any of its file operations, a run is what it was before or what it would have become."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from killing import every_kill
from refusal import contents, refused
from small_training import SMALL, simulated_scan

from ptyonnx import import_bundle
from ptyonnx.exchange.training import train
from ptyonnx.formats import write_scan
from ptyonnx.runs.checkpoints import Snapshot, State, load, path_of, reconcile, save, save_epoch
from ptyonnx.runs.folder import check_unlocked, install_run, locked
from ptyonnx.runs.history import best_epoch
from ptyonnx.runs.run import Record, Run
from ptyonnx.settings import Settings
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import RunError

LOSSES = {"better": (3.0, 2.0, 1.0), "worse": (3.0, 1.0, 2.0)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", Recipe(N=32, filters_scale=0.125))


@pytest.fixture(scope="module")
def record(bundle: Bundle) -> Record:
    manifest = bundle.manifest
    return Record.model_validate(
        {"backend": "pytorch"}
        | {name: getattr(manifest, name) for name in ("producer", "recipe", "physics", "training_data")}
    )


def snapshot(number: float) -> Snapshot:
    """A network whose every number is that of its epoch."""
    values = np.full(3, number, np.float32)
    return Snapshot({"w": values}, np.full((1, 2, 2), number, np.complex64), State({"m": values}, "outline"))


def rows_of(losses: tuple[float, ...]) -> list[dict[str, float]]:
    return [
        {"epoch": number, "loss": loss, "r_factor": 0.1, "val_loss": loss, "val_r_factor": 0.1}
        for number, loss in enumerate(losses, 1)
    ]


def whole_run(directory: Path, record: Record, epochs: int, losses: tuple[float, ...]) -> None:
    with locked(directory):

        def write(folder: Path) -> None:
            save(path_of(folder, "last"), snapshot(0), 0)
            Run(folder, record, Settings()).write()

        install_run(directory, write)
        for done in range(1, epochs + 1):
            save_epoch(directory, rows_of(losses)[:done], snapshot(done))


def epochs_seen(directory: Path) -> int:
    """How many epochs are complete, as every reader sees it."""
    run = Run.open(directory)
    rows = run.history
    last, best = run.trained("last"), run.trained("best")
    assert last.weights["w"][0] == last.probe[0, 0, 0] == last.metrics["epoch"] == len(rows)
    assert best.weights["w"][0] == best.metrics["epoch"] == best_epoch(rows) + 1
    assert run.metrics("best") == best.metrics
    return len(rows)


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_an_epoch_counts_wholly_or_not_at_all(tmp_path: Path, record: Record, losses: tuple[float, ...]) -> None:
    rows = rows_of(losses)
    whole_run(tmp_path / "whole", record, 3, losses)
    whole_run(tmp_path / "two", record, 2, losses)
    directory = tmp_path / "run"
    seen = set()
    shutil.copytree(tmp_path / "two", directory)
    for _ in every_kill(lambda: save_epoch(directory, rows, snapshot(3))):
        seen.add(epochs_seen(directory))
        with locked(directory):  # as the next training does
            done = reconcile(directory, load(path_of(directory, "last")))
            for number in range(len(done) + 1, 4):
                save_epoch(directory, rows[:number], snapshot(number))
        assert contents(directory) == contents(tmp_path / "whole")
        shutil.rmtree(directory)
        shutil.copytree(tmp_path / "two", directory)
    assert seen == {2, 3}


def test_a_run_is_replaced_wholly_or_not_at_all(tmp_path: Path, record: Record) -> None:
    directory = tmp_path / "run"
    new = record.model_copy(update={"message": "new"})

    def replace() -> None:
        with locked(directory):
            install_run(directory, lambda folder: Run(folder, new, Settings()).write() and None)

    whole_run(tmp_path / "older", record, 3, LOSSES["worse"])
    (tmp_path / "older" / "notes.txt").write_text("mine", encoding="utf-8")
    shutil.copytree(tmp_path / "older", directory)
    seen = set()
    for _ in every_kill(replace):
        message = Run.open(directory).record.message
        seen.add(message)
        with locked(directory):  # as the next training does
            pass
        if message == "":
            assert contents(directory) == contents(tmp_path / "older")
        else:
            assert sorted(contents(directory)) == ["notes.txt", "run.json", "settings.yaml"]
        shutil.rmtree(directory)
        shutil.copytree(tmp_path / "older", directory)
    assert seen == {"", "new"}
    assert sorted(contents(directory)) == ["notes.txt", "run.json", "settings.yaml"]


@pytest.mark.parametrize("older", [True, False])
def test_a_killed_import_repeated_leaves_what_an_uninterrupted_one_leaves(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    monkeypatch.setattr(
        "ptyonnx.exchange.importing._check_native_network", lambda *_: None
    )  # the framework is no part of this
    directory = tmp_path / "run"

    def begin() -> None:
        shutil.rmtree(directory, ignore_errors=True)
        if older:
            import_bundle(bundle, "tensorflow", directory)

    begin()
    import_bundle(bundle, "torch", directory, overwrite=older)
    whole = contents(tmp_path)
    begin()
    for _ in every_kill(lambda: import_bundle(bundle, "torch", directory, overwrite=older)):
        import_bundle(bundle, "torch", directory, overwrite=True)
        assert contents(tmp_path) == whole
        begin()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_a_killed_training_resumed_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path, backend: str) -> None:
    """Every renaming of the last epoch and of what follows it is a place to die at."""
    scan, settings = simulated_scan(), Settings.model_validate(SMALL)
    whole = train(backend, scan, settings, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    directory = tmp_path / "run"
    files, arrival, record, epoch = 3, 2 + 3, 2, 3  # renamings until the first epoch is complete
    kills = 0
    for _ in every_kill(
        lambda: train(backend, scan, settings, directory), ("replace", "rename"), files + arrival + record + epoch
    ):
        kills += 1
        resumed = train(backend, scan, settings, directory, resume=True)
        assert resumed.record == whole.record
        found = contents(directory)
        assert found.keys() == expected.keys()
        for name in ("run.json", "settings.yaml"):
            assert found[name] == expected[name]
        for which in ("last", "best"):
            saved, wanted = (load(path_of(folder, which)) for folder in (directory, tmp_path / "whole"))
            assert saved.epoch == wanted.epoch
            for name, array in wanted.snapshot.weights.items():
                np.testing.assert_array_equal(saved.snapshot.weights[name], array)
        for row, other in zip(resumed.history, whole.history, strict=True):
            assert {**row, "seconds": 0} == {**other, "seconds": 0}
        shutil.rmtree(directory)
    assert kills in {2 + 2, 3 + 2}  # history, last, best if it is; settings and record of the complete run


HOLDER = """
import sys
from pathlib import Path
from ptyonnx.runs.folder import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_second_to_write_into_a_run_is_refused_and_a_kill_frees_it(
    tmp_path: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    write_scan(tmp_path / "scan.npz", simulated_scan())
    assert bundle.path is not None
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for words in (
            ["train", "--backend", "torch", "--data", tmp_path / "scan.npz", "-o", directory, "--overwrite"],
            ["import", bundle.path, "--backend", "torch", "-o", directory],
        ):
            line = refused(capsys, tmp_path, *words)
            assert line.startswith(f"{directory}: another process writes there, found process {holder.pid}; wait")
        with pytest.raises(RunError, match="another process writes there"):
            train("torch", simulated_scan(), Settings.model_validate(SMALL), directory)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert list(contents(directory)) == [".lock"]
    check_unlocked(directory)
    assert contents(directory) == {}


def test_what_is_locked_by_this_process_is_locked_for_its_other_threads(tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(RunError, match="another process"), locked(tmp_path / "run"):
        pass
    assert contents(tmp_path) == {}
