"""Training itself, in both frameworks: the same rules, the same numbers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from float32_bounds import of_losses
from small_training import SMALL, Losses, simulated_scan

from ptyonnx import backends
from ptyonnx.exchange.training import train
from ptyonnx.runs.checkpoints import CHECKPOINTS
from ptyonnx.runs.history import read_history
from ptyonnx.runs.run import Run
from ptyonnx.settings import Settings
from ptyonnx.training import Unobserved
from ptyonnx_bundles.errors import (
    CollapseError,
    DivergenceError,
    MissingDependencyError,
    ProviderError,
    RunError,
    SettingsError,
)
from ptyonnx_runtime import physics
from ptyonnx_runtime.scan import Scan

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture(params=backends.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.numerical
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gridsize": 2},
        {"loss": "amplitude_mse"},
        {"loss": "amplitude_mae"},
        {"train_probe": True},
        {"region_size": 1, "batch_size": 2},  # one pattern in a region: TensorFlow's products once crashed there
    ],
)
def test_both_frameworks_start_with_the_same_losses(tmp_path: Path, options: dict[str, object]) -> None:
    settings = Settings.model_validate({**SMALL, "epochs": 100, "region_size": 16, **options})
    curves = {}
    for name in backends.BACKENDS:
        observer = Losses(stop_after_epochs=2)
        with pytest.raises(KeyboardInterrupt):
            train(name, simulated_scan(), settings, tmp_path / name, observer=observer)
        curves[name] = np.array(observer.losses[:5])
    np.testing.assert_allclose(curves["tensorflow"], curves["pytorch"], rtol=of_losses(16 * 32 * 32))
    assert len(set(curves["pytorch"])) == 5


@pytest.mark.parametrize("modes", [1, 2])
def test_training_lowers_the_loss_and_leaves_a_readable_run(tmp_path: Path, backend: str, modes: int) -> None:
    observer = Losses()
    settings = Settings.model_validate({**SMALL, "epochs": 6, "rate": 4e-3})
    run = train(backend, simulated_scan(modes=modes), settings, tmp_path / "run", observer=observer)
    assert run.record.state == "complete"
    assert observer.rows[-1]["r_factor"] < observer.rows[0]["r_factor"]
    opened = Run.open(tmp_path / "run")
    assert (opened.backend, opened.settings, opened.recipe) == (backend, settings, settings.recipe(32))
    assert opened.history == observer.rows
    assert opened.metrics("best")["val_loss"] == min(row["val_loss"] for row in observer.rows)
    assert opened.metrics()["epoch"] == len(observer.rows)
    assert opened.probe().shape == (modes, 32, 32)
    assert set(opened.weights()) == {*settings.recipe(32).weight_shapes(), *settings.recipe(32).constant_shapes()}


def test_a_fixed_probe_stays_and_a_trained_one_moves(tmp_path: Path, backend: str) -> None:
    scan = simulated_scan()
    assert scan.probe is not None
    fixed = train(backend, scan, Settings.model_validate(SMALL), tmp_path / "fixed")
    np.testing.assert_array_equal(fixed.probe("last"), scan.probe)
    trained = train(backend, scan, Settings.model_validate({**SMALL, "train_probe": True}), tmp_path / "trained")
    change = np.abs(trained.probe("last") - scan.probe)
    assert change.max() > 1e-4 * np.abs(scan.probe).max()


def test_a_trained_probe_comes_closer_to_the_true_one(tmp_path: Path, backend: str) -> None:
    scan = simulated_scan()
    assert scan.probe is not None
    y, x = np.mgrid[:32, :32] - 16
    defocused = (scan.probe * np.exp(1j * (x**2 + y**2) / 60)).astype(np.complex64)
    wrong = Scan(scan.diffraction, scan.positions_px, defocused, name="wrong.npz")
    settings = Settings.model_validate({**SMALL, "epochs": 8, "rate": 8e-3, "train_probe": True, "probe_rate": 1.0})
    refined = train(backend, wrong, settings, tmp_path / "refined")
    kept = train(backend, wrong, settings.model_copy(update={"train_probe": False}), tmp_path / "kept")
    assert overlap(refined.probe(), scan.probe) > overlap(defocused, scan.probe) + 0.1
    assert refined.history[-1]["r_factor"] < 0.7 * kept.history[-1]["r_factor"]


def overlap(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> float:
    return float(abs(np.vdot(a, b)) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_interrupted_training_resumes_to_the_same_history_as_an_uninterrupted_one(tmp_path: Path, backend: str) -> None:
    settings = Settings.model_validate({**SMALL, "epochs": 4})
    scan = simulated_scan()
    whole = train(backend, scan, settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(backend, scan, settings, tmp_path / "parts", observer=Losses(stop_after_epochs=2))
    assert Run.open(tmp_path / "parts").record.state == "interrupted"
    resumed = train(backend, scan, settings, tmp_path / "parts", resume=True)
    assert resumed.record.state == "complete"
    for part, row in zip(resumed.history, whole.history, strict=True):
        assert {**part, "seconds": 0} == {**row, "seconds": 0}
    for which in CHECKPOINTS:
        for name, array in whole.weights(which).items():
            np.testing.assert_array_equal(resumed.weights(which)[name], array, name)


def test_interrupted_before_the_first_epoch_ends_resumes_from_the_start(tmp_path: Path, backend: str) -> None:
    settings = Settings.model_validate(SMALL)
    with pytest.raises(KeyboardInterrupt):
        train(backend, simulated_scan(), settings, tmp_path / "run", observer=Losses(stop_after_epochs=0))
    resumed = train(backend, simulated_scan(), settings, tmp_path / "run", resume=True)
    assert len(resumed.history) == settings.epochs


def test_resuming_with_other_data_or_another_backend_is_refused(tmp_path: Path, backend: str) -> None:
    settings = Settings.model_validate(SMALL)
    train(backend, simulated_scan(), settings, tmp_path / "run")
    with pytest.raises(RunError, match="trained on other data"):
        train(backend, simulated_scan(count=40), settings, tmp_path / "run", resume=True)
    other = next(name for name in backends.BACKENDS if name != backend)
    with pytest.raises(RunError, match=f'backend="{backend}"'):
        train(other, simulated_scan(), settings, tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="holds a run already"):
        train(backend, simulated_scan(), settings, tmp_path / "run")
    with pytest.raises(RunError, match="train"):
        train(backend, simulated_scan(), settings, tmp_path / "nothing", resume=True)


def test_a_rate_far_too_high_ends_in_collapse_or_divergence_and_never_in_a_bundle(tmp_path: Path, backend: str) -> None:
    from ptyonnx.exchange.exporting import export

    settings = Settings.model_validate({**SMALL, "rate": 3.0, "clip": 1e6, "warmup": 0, "epochs": 3})
    with pytest.raises((CollapseError, DivergenceError), match="rate="):
        train(backend, simulated_scan(), settings, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.record.state == "failed"
    with pytest.raises(RunError, match="the training failed"):
        export(run, tmp_path / "bundle.onnx")
    assert not (tmp_path / "bundle.onnx").exists()


def test_a_probe_of_infinite_scale_diverges_within_the_first_steps(tmp_path: Path, backend: str) -> None:
    scan = simulated_scan()
    assert scan.probe is not None
    absurd = Scan(scan.diffraction, scan.positions_px, scan.probe * np.float32(1e18), name="absurd.npz")
    with pytest.raises(DivergenceError, match="epoch 1"):
        train(backend, absurd, Settings.model_validate({**SMALL, "probe_photons": "as-is"}), tmp_path / "run")


def test_a_gpu_that_is_not_there_leaves_no_run_behind(tmp_path: Path, backend: str) -> None:
    with pytest.raises(ProviderError, match=r'sees no GPU.*device="cpu"'):
        train(backend, simulated_scan(), Settings.model_validate({**SMALL, "device": "gpu"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_size_that_cannot_be_halved_names_file_and_array(tmp_path: Path, backend: str) -> None:
    with pytest.raises(SettingsError, match=r"made.npz: 'diffraction': N = 40 is not a multiple of 16"):
        train(backend, simulated_scan(N=40), Settings.model_validate(SMALL), tmp_path / "run")


def test_patience_stops_training_early(tmp_path: Path, backend: str) -> None:
    settings = Settings.model_validate({**SMALL, "epochs": 30, "patience": 1, "rate": 0.02})
    run = train(backend, simulated_scan(), settings, tmp_path / "run")
    assert len(run.history) < 30
    assert run.record.state == "complete"


@pytest.mark.slow
def test_control_c_leaves_a_run_that_resume_completes(tmp_path: Path, backend: str) -> None:
    sample = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
    words = [sys.executable, "-m", "ptyonnx", "train", "--backend", backend, "-o", str(tmp_path / "run")]
    data = ["--data", str(sample), "--epochs", "200", "--set", "n_subsample=64", "--set", "filters_scale=0.125"]
    with subprocess.Popen([*words, *data], stderr=subprocess.PIPE, text=True) as process:
        history = tmp_path / "run" / "history.csv"
        deadline = time.monotonic() + 120
        while not (history.exists() and len(read_history(history)) > 1) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    assert Run.open(tmp_path / "run").record.state == "interrupted"
    done = len(Run.open(tmp_path / "run").history)
    assert 1 < done < 200
    observer = Losses(stop_after_epochs=1)
    from ptyonnx import load_scan

    with pytest.raises(KeyboardInterrupt):
        train(backend, load_scan(sample), Settings(), tmp_path / "run", resume=True, observer=observer)
    # the last line of the history may stand there before its checkpoint does: that epoch runs again
    assert observer.rows[0]["epoch"] in {done, done + 1}


@pytest.mark.parametrize("alias, name", backends.ALIASES.items())
def test_backends_have_short_names(alias: str, name: str) -> None:
    assert backends.canonical_name(alias) == backends.canonical_name(alias.upper()) == name


def test_an_unknown_backend_is_refused_with_the_list() -> None:
    with pytest.raises(SettingsError, match=r"found jax, expected one of tf, tensorflow, torch, pytorch"):
        backends.canonical_name("jax")


@pytest.mark.parametrize("name, extra", [("pytorch", "torch"), ("tensorflow", "tensorflow")])
def test_a_missing_framework_is_named_with_its_pip_command(
    monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    package = {"pytorch": "lightning", "tensorflow": "keras"}[name]
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, f"ptyonnx.backends.{name}.training", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'ptyonnx\[{extra}\]'"):
        backends.load(name)


def test_the_training_objective_is_the_forward_model_for_exact_patches() -> None:
    from ptyonnx.training.objective import expected_intensity
    from ptyonnx.training.task import prepare

    scan = simulated_scan(photons=1e8)
    assert scan.object is not None
    task = prepare(scan, Settings.model_validate(SMALL), Unobserved())
    members = task.epoch(0)[0]
    batch = task.training.batch(members)
    corners = task.training.positions_px[members.reshape(len(members), -1)].astype(int) - 16
    patches = np.stack([[scan.object[r : r + 32, c : c + 32] for r, c in region] for region in corners])
    constants = task.objective_constants(task.training.canvas)
    expected = expected_intensity(physics.pair_from_complex(patches), batch.offset_px, task.probe_pair, constants)
    measured = batch.diffraction.reshape(expected.shape)
    r_factor = np.sqrt(np.sum((np.sqrt(expected) - measured) ** 2) / np.sum(measured**2))
    assert r_factor < 0.01  # 1e8 photons leave 0.4 % of noise


@pytest.mark.parametrize("backend", ["pytorch"])
def test_numbers_near_zero_are_as_before_once_training_is_over(tmp_path: Path, backend: str) -> None:
    train(backend, simulated_scan(), Settings.model_validate({**SMALL, "epochs": 1}), tmp_path / "run")
    assert np.float32(1e-40) * np.float32(1) > 0
