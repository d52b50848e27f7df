"""Going on with a run whose files are damaged, or were written by an older version."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from refusal import refused
from safetensors.numpy import save_file
from small_training import SMALL, Losses, simulated_scan

from ptyonnx.backends import BACKENDS, load_part
from ptyonnx.exchange.training import train
from ptyonnx.formats import write_scan
from ptyonnx.runs.checkpoints import CHECKPOINTS, Checkpoint, State, load, path_of, save
from ptyonnx.runs.run import Run
from ptyonnx.settings import Settings
from ptyonnx.training.observer import Unobserved
from ptyonnx.training.task import prepare
from ptyonnx_bundles.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Callable

LAST = "checkpoints/last.safetensors"
SETTINGS = Settings.model_validate({**SMALL, "train_probe": True})


@pytest.fixture(scope="module", params=BACKENDS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(request.param, simulated_scan(), SETTINGS, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def begun(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that was interrupted after its first epoch."""
    directory = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(whole.backend, simulated_scan(), SETTINGS, directory, observer=Losses(stop_after_epochs=1))
    return Run.open(directory)


def same(run: Run, other: Run, *checkpoints: Checkpoint) -> None:
    for which in checkpoints or CHECKPOINTS:
        saved, wanted = (load(path_of(each.directory, which)) for each in (run, other))
        assert saved.epoch == wanted.epoch
        np.testing.assert_array_equal(saved.snapshot.probe, wanted.snapshot.probe)
        for name, array in wanted.snapshot.weights.items():
            np.testing.assert_array_equal(saved.snapshot.weights[name], array, name)
    assert [{**row, "seconds": 0} for row in run.history] == [{**row, "seconds": 0} for row in other.history]


def as_an_older_version_left_it(run: Run, directory: Path) -> Path:
    """The framework's own checkpoint beside weights without a word about the epoch."""
    shutil.copytree(run.directory, directory)
    snapshot = load(path_of(directory, "last")).snapshot
    arrays = {**snapshot.weights, "probe.real": snapshot.probe.real, "probe.imag": snapshot.probe.imag}
    for which in ("last", "best"):
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path_of(directory, which))
    if run.backend == "pytorch":
        import torch

        torch.save(load_part("pytorch", "checkpoint").from_state(snapshot.state), directory / "checkpoints/last.ckpt")
    else:
        import tensorflow as tf

        module = load_part("tensorflow", "training")
        model = module._compiled(prepare(simulated_scan(), SETTINGS, Unobserved()))
        module.restore(model.trained(), snapshot.state)
        folder = str(directory / "checkpoints/last")
        checkpoint = tf.train.Checkpoint(**model.trained())
        manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1, checkpoint_name="epoch")
        manager.save(checkpoint_number=len(run.history))
    return directory


def test_a_run_of_an_older_version_is_gone_on_with_to_the_same_weights(tmp_path: Path, whole: Run, begun: Run) -> None:
    directory = as_an_older_version_left_it(begun, tmp_path / "run")
    assert len(Run.open(directory).history) == 1
    resumed = train(whole.backend, simulated_scan(), SETTINGS, directory, resume=True)
    same(resumed, whole)
    assert sorted(path.name for path in resumed.checkpoints.iterdir()) == ["best.safetensors", "last.safetensors"]


def test_what_an_older_version_had_not_written_when_it_was_killed_is_written(tmp_path: Path, whole: Run) -> None:
    """Its checkpoint was that of the last epoch, its weights those of the epoch before."""
    directory = as_an_older_version_left_it(whole, tmp_path / "run")
    weights = load(path_of(directory, "last")).snapshot.weights
    stale = {name: array * 2 for name, array in weights.items()}
    for which in ("last", "best"):
        save_file(
            {**stale, "probe.real": whole.probe().real, "probe.imag": whole.probe().imag}, path_of(directory, which)
        )
    Run.open(directory).write(state="training")
    resumed = train(whole.backend, simulated_scan(), SETTINGS, directory, resume=True)
    assert resumed.record.state == "complete"
    same(resumed, whole, "last")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage, name",
    [(cut, LAST), (flip, LAST), (empty, LAST), (cut, "history.csv"), (empty, "history.csv")],  # text has no check sum
)
def test_damage_is_said_in_one_line_with_the_file(
    tmp_path: Path, begun: Run, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], name: str
) -> None:
    directory = shutil.copytree(begun.directory, tmp_path / "run")
    write_scan(tmp_path / "scan.npz", simulated_scan())
    damage(directory / name)
    line = refused(capsys, directory, "train", "--resume", "--data", tmp_path / "scan.npz", "-o", directory)
    assert line.startswith(f"{directory / name}: ")


def test_a_damaged_checkpoint_of_an_older_version_is_named(tmp_path: Path, begun: Run) -> None:
    directory = as_an_older_version_left_it(begun, tmp_path / "run")
    path = directory / "checkpoints" / {"pytorch": "last.ckpt", "tensorflow": "last"}[begun.backend]
    for file in path.glob("epoch*") if path.is_dir() else (path,):
        cut(file)
    with pytest.raises(RunError) as refusal:
        train(begun.backend, simulated_scan(), SETTINGS, directory, resume=True)
    assert refusal.value.file == str(path)


def without_one(state: State) -> State:
    return State(dict(list(state.arrays.items())[1:]), state.outline)


def of_another_shape(state: State) -> State:
    arrays = {name: np.ones((7, 5), array.dtype) if array.ndim else array for name, array in state.arrays.items()}
    return State(arrays, state.outline)


def without_an_outline(state: State) -> State:
    return State({"weights.0": np.ones(3)} if not state.outline else state.arrays, "[]")


@pytest.mark.parametrize("change", [without_one, of_another_shape, without_an_outline])
def test_a_state_that_is_not_this_networks_is_refused_by_name(
    tmp_path: Path, begun: Run, change: Callable[[Any], Any]
) -> None:
    directory = shutil.copytree(begun.directory, tmp_path / "run")
    path = path_of(directory, "last")
    saved = load(path)
    save(path, saved.snapshot._replace(state=change(saved.snapshot.state)), saved.epoch)
    with pytest.raises(RunError) as refusal:
        train(begun.backend, simulated_scan(), SETTINGS, directory, resume=True)
    assert refusal.value.file == str(path)
