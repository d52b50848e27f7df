"""Weights that travel: from a bundle into either framework and back, bit for bit, and training that goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundle_factory import example_probe, example_weights, make_bundle
from float32_bounds import of_losses, of_roundings, of_sums
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray
from refusal import refused
from small_training import SMALL, Losses, simulated_scan

from ptyonnx import backends, export, import_bundle, open_bundle, train
from ptyonnx.cli import main
from ptyonnx.formats import write_scan
from ptyonnx.runs.run import Run
from ptyonnx.settings import Settings
from ptyonnx.training.start import Start, continued_settings
from ptyonnx.training.task import prepare
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import BundleError, ConversionError, RunError, ScanError, SettingsError
from ptyonnx_runtime.inference.verify import verify
from ptyonnx_runtime.scan import Scan

PROBE_SCALED = of_sums(2 * 32 * 32) + of_roundings(4)  # its photons, their root, and two products

Output = pytest.CaptureFixture[str]
TINY = Recipe(N=32, filters_scale=0.125)
SMALLEST = np.finfo(np.float32).smallest_subnormal


def awkward_weights(recipe: Recipe, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """What exporters lose: an all-zero bias, numbers below the normal ones, zeros with a sign, two equal layers."""
    weights = example_weights(recipe, seed)
    generator = np.random.default_rng(seed)
    for name, array in weights.items():
        if name.endswith(".bias"):
            weights[name] = (array + 0.1 * generator.standard_normal(array.shape)).astype(np.float32)
    weights["encoder.0.conv.1.bias"] = np.zeros_like(weights["encoder.0.conv.1.bias"])
    weights["encoder.1.conv.0.bias"] = np.copysign(np.zeros_like(weights["encoder.1.conv.0.bias"]), np.float32(-1))
    kernel = weights["encoder.0.conv.0.weight"].copy()
    kernel.reshape(-1)[:4] = SMALLEST, -SMALLEST, np.float32(-0.0), np.float32(1e-39)
    weights["encoder.0.conv.0.weight"] = kernel
    bias = weights["decoder.phase.0.conv.0.bias"].copy()
    bias[:1] = np.float32(3e-42)
    weights["decoder.phase.0.conv.0.bias"] = bias
    for part in ("weight", "bias"):
        weights[f"decoder.phase.0.conv.1.{part}"] = weights[f"decoder.amplitude.0.conv.1.{part}"]
    mean = weights["whitening.mean"].copy()
    mean[0, :2] = SMALLEST, -0.0
    weights["whitening.mean"] = mean
    return weights


def bits(arrays: dict[str, NDArray[np.float32]]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        TINY,
        Recipe(N=32, gridsize=2, filters_scale=0.25),
        Recipe(N=64),
        Recipe(N=64, gridsize=2, filters_scale=0.0625, depth=2),
        Recipe(N=128, filters_scale=0.125),
        Recipe(name="two-headed-cnn-1", N=32, filters_scale=0.25),
    ],
    ids=lambda recipe: f"N{recipe.N}-gridsize{recipe.gridsize}-filters{recipe.filters_scale}-{recipe.name[-1]}",
)
def test_a_round_trip_through_both_frameworks_gives_the_same_digests(tmp_path: Path, recipe: Recipe) -> None:
    weights = awkward_weights(recipe)
    bundle = first = make_bundle(
        tmp_path / "first.onnx", recipe, weights=weights, probe=example_probe(recipe.N, modes=2)
    )
    for step, backend in enumerate(("pytorch", "tensorflow", "pytorch")):
        run = import_bundle(bundle, backend, tmp_path / f"run{step}")
        assert (run.backend, run.record.state) == (backend, "imported")
        assert bits(run.weights()) == bits(weights)  # type: ignore[arg-type]
        bundle = export(run, tmp_path / f"{step}.onnx")
        assert bundle.manifest.digests == first.manifest.digests
        assert {name: array.tobytes() for name, array in bundle.weights.items()} == {
            name: array.tobytes() for name, array in first.weights.items()
        }
        np.testing.assert_array_equal(bundle.probe, first.probe)
        assert verify(bundle, "cpu").passed
    for part in ("recipe", "physics", "training_data", "settings", "metrics"):
        assert getattr(bundle.manifest, part) == getattr(first.manifest, part)
    assert bundle.manifest.producer.framework == "pytorch"
    assert {"torch", "tensorflow", "keras"} < set(bundle.manifest.producer.versions)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network of the scan's size that has its own probe, twice as bright as the scan's."""
    folder = tmp_path_factory.mktemp("bundle")
    probe = example_probe(32, photons=2e5)
    return make_bundle(folder / "made.onnx", TINY, weights=awkward_weights(TINY), probe=probe, mean_photons=2e5)


@pytest.fixture(params=backends.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Listener(Losses):
    """Hears what is said, and stops a training before its first step."""

    def __init__(self, stop_after_epochs: int = 10**9) -> None:
        super().__init__(stop_after_epochs)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_an_imported_run_opens_without_a_framework_and_keeps_licence_and_notes(
    tmp_path: Path, bundle: Bundle, backend: str
) -> None:
    run = import_bundle(bundle, backend, tmp_path / "run")
    opened = Run.open(tmp_path / "run")
    assert opened == run
    assert (opened.recipe, opened.record.initial) == (TINY, bundle.manifest)
    assert bits(opened.weights("best")) == bits(opened.weights("last"))
    assert opened.bundle is None
    assert opened.settings.recipe(32) == TINY
    exported = export(run, tmp_path / "out.onnx", licence="CC0-1.0", notes="passed on")
    assert (exported.manifest.licence, exported.manifest.notes) == ("CC0-1.0", "passed on")
    licensed = exported
    again = export(import_bundle(licensed, backend, tmp_path / "again"), tmp_path / "again.onnx")
    assert (again.manifest.licence, again.manifest.notes) == ("CC0-1.0", "passed on")


def test_training_goes_on_with_the_bundles_weights_scales_and_probe(
    tmp_path: Path, bundle: Bundle, backend: str
) -> None:
    observer = Listener()
    settings = Settings.model_validate({"epochs": 2, "region_size": 4, "threads": 1})
    run = train(backend, simulated_scan(), settings, tmp_path / "run", initial=bundle, observer=observer)
    assert sum("made.onnx" in note for note in observer.notes) == 3  # its weights, its photons and its probe
    (scaled,) = (note for note in observer.notes if "scaled by " in note)
    factor = float(scaled.split("scaled by ")[1].split()[0])
    assert factor == pytest.approx(np.sqrt(2e5 / simulated_scan().mean_photons), rel=0.01)  # 5 % are held out
    assert any("probe" in note and "bundle made.onnx is used" in note for note in observer.notes)
    assert run.recipe == TINY
    np.testing.assert_array_equal(run.probe(), bundle.probe)
    weights = run.weights()
    for name in TINY.constant_shapes():
        assert weights[name].tobytes() == bundle.weights[name].tobytes()
    assert run.record.physics.mean_photons == bundle.manifest.physics.mean_photons
    assert weights["encoder.1.conv.1.weight"].tobytes() != bundle.weights["encoder.1.conv.1.weight"].tobytes()
    exported = export(run, tmp_path / "out.onnx").manifest
    assert exported.settings["initial"] == bundle.manifest.digests.weights
    assert exported.producer.framework == backend
    assert exported.physics.mean_photons == bundle.manifest.physics.mean_photons


def test_a_network_of_the_first_family_stays_one_while_it_goes_on(tmp_path: Path, backend: str) -> None:
    recipe = Recipe(name="two-headed-cnn-1", N=32, filters_scale=0.125)
    old = make_bundle(tmp_path / "old.onnx", recipe, weights=example_weights(recipe))
    settings = Settings.model_validate({**SMALL, "epochs": 1, "filters_scale": 0.125})
    run = train(backend, simulated_scan(), settings, tmp_path / "run", initial=old)
    bundle = export(run, tmp_path / "new.onnx")
    assert bundle.manifest.recipe == recipe
    assert (bundle.manifest.protocol, bundle.manifest.digests.graph) == (1, old.manifest.digests.graph)
    assert bundle.manifest.digests.weights != old.manifest.digests.weights


@pytest.mark.numerical
def test_both_frameworks_go_on_from_a_bundle_with_the_same_losses(tmp_path: Path, bundle: Bundle) -> None:
    settings = Settings.model_validate({"epochs": 100, "region_size": 16, "threads": 1})
    curves = {}
    for name in backends.BACKENDS:
        observer = Losses(stop_after_epochs=2)
        with pytest.raises(KeyboardInterrupt):
            train(name, simulated_scan(), settings, tmp_path / name, initial=bundle, observer=observer)
        curves[name] = np.array(observer.losses[:5])
    np.testing.assert_allclose(curves["tensorflow"], curves["pytorch"], rtol=of_losses(16 * 32 * 32))


@pytest.mark.numerical
def test_what_a_training_had_learned_is_there_when_the_other_framework_goes_on(tmp_path: Path, backend: str) -> None:
    other = next(name for name in backends.BACKENDS if name != backend)
    settings = Settings.model_validate({**SMALL, "epochs": 6, "rate": 4e-3})
    first = train(backend, simulated_scan(), settings, tmp_path / "first")
    halfway = export(first, tmp_path / "halfway.onnx")
    observer = Listener()
    slow = settings.model_copy(update={"epochs": 1, "rate": 1e-9})
    train(other, simulated_scan(), slow, tmp_path / "second", initial=halfway, observer=observer)
    # at a rate of nothing the other framework's validation loss is that of the last epoch
    assert observer.rows[0]["val_loss"] == pytest.approx(first.history[-1]["val_loss"], rel=of_losses(4 * 32 * 32))
    assert observer.notes == [note for note in observer.notes if "new optimiser" in note]  # nothing had to be scaled


@pytest.mark.slow
def test_an_interrupted_continuation_resumes_to_the_same_history(tmp_path: Path, bundle: Bundle, backend: str) -> None:
    """Interrupted before the first epoch ends, and again after it."""
    settings = Settings.model_validate({"epochs": 2, "region_size": 4, "threads": 1})
    whole = train(backend, simulated_scan(), settings, tmp_path / "whole", initial=bundle)
    directory = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        train(backend, simulated_scan(), settings, directory, initial=bundle, observer=Losses(stop_after_epochs=0))
    with pytest.raises(KeyboardInterrupt):
        train(backend, simulated_scan(), settings, directory, resume=True, observer=Losses(stop_after_epochs=1))
    resumed = train(backend, simulated_scan(), settings, directory, resume=True)
    for part, row in zip(resumed.history, whole.history, strict=True):
        assert {**part, "seconds": 0} == {**row, "seconds": 0}


def test_a_scan_without_a_probe_can_be_gone_on_with(bundle: Bundle) -> None:
    scan = simulated_scan()
    bare = Scan(scan.diffraction, scan.positions_px, name="bare.npz")
    settings = continued_settings(bundle, Settings())
    with pytest.raises(ScanError) as error:
        prepare(bare, settings, Listener())
    assert error.value.key == "probeGuess"
    task = prepare(bare, settings, Listener(), start=Start.from_bundle(bundle))
    np.testing.assert_array_equal(task.probe, bundle.probe)


def test_a_probe_is_scaled_only_where_that_is_asked_for(bundle: Bundle) -> None:
    dim = Start.from_bundle(bundle)._replace(probe=bundle.probe / np.float32(10))
    settings = continued_settings(bundle, Settings())
    np.testing.assert_array_equal(prepare(simulated_scan(), settings, Listener(), start=dim).probe, dim.probe)
    asked = settings.model_copy(update={"probe_photons": "patterns"})
    np.testing.assert_allclose(
        prepare(simulated_scan(), asked, Listener(), start=dim).probe, bundle.probe, rtol=PROBE_SCALED
    )


def test_what_is_said_about_the_network_must_agree_with_the_bundle(bundle: Bundle) -> None:
    agreed = continued_settings(bundle, Settings(gridsize=1, filters_scale=0.125, depth=None, epochs=7))
    assert (agreed.recipe(32), agreed.epochs) == (TINY, 7)
    for name, value in (("gridsize", 2), ("filters_scale", 0.5), ("depth", 2)):
        with pytest.raises(SettingsError) as error:
            continued_settings(bundle, Settings.model_validate({name: value}))
        assert (error.value.key, error.value.found) == (name, value)


def test_an_imported_run_cannot_be_resumed(tmp_path: Path, bundle: Bundle, backend: str) -> None:
    import_bundle(bundle, backend, tmp_path / "run")
    with pytest.raises(RunError) as caught:
        train(backend, simulated_scan(), Settings(), tmp_path / "run", resume=True)
    assert "initial=" in str(caught.value.remedy)


def test_an_imported_run_whose_weights_were_changed_is_not_exported_under_the_old_name(
    tmp_path: Path, bundle: Bundle
) -> None:
    run = import_bundle(bundle, "torch", tmp_path / "run")
    other = import_bundle(make_bundle(tmp_path / "other.onnx", TINY, seed=3), "torch", tmp_path / "other")
    for which in ("last", "best"):
        content = (other.checkpoints / f"{which}.safetensors").read_bytes()
        (run.checkpoints / f"{which}.safetensors").write_bytes(content)
    with pytest.raises(RunError) as error:
        export(run, tmp_path / "out.onnx")
    assert error.value.file == str(run.checkpoints)
    assert not (tmp_path / "out.onnx").exists()


def test_a_framework_that_computes_something_else_is_not_given_the_weights(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    engine = backends.load_part(backend, "engine").NativeEngine
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda self, diffraction: run(self, diffraction) + 1e-3)
    with pytest.raises(ConversionError) as error:
        import_bundle(bundle, backend, tmp_path / "run")
    assert error.value.file == str(bundle.path)
    assert not (tmp_path / "run").exists()


def test_settings_of_another_version_do_not_stop_an_import(
    tmp_path: Path, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    stated = {"epochs": "many", "filters_scale": 3}
    manifest = bundle.manifest.model_copy(update={"settings": stated})
    changed = Bundle(bundle.model, manifest, bundle.probe, bundle.selftest, bundle.graph, bundle.path)
    run = import_bundle(changed, "torch", tmp_path / "run")
    assert [record.args for record in caplog.records if record.name == "ptyonnx.exchange.importing"] == [(bundle.name,)]
    assert Run.open(run.directory).settings.recipe(32) == TINY
    assert Run.open(run.directory).record.initial == manifest


def test_a_network_of_another_system_is_neither_imported_nor_gone_on_with(tmp_path: Path) -> None:
    foreign = make_foreign_bundle(tmp_path / "foreign.onnx")
    for attempt in (
        lambda: import_bundle(foreign, "torch", tmp_path / "run"),
        lambda: train("torch", simulated_scan(), Settings(), tmp_path / "run", initial=foreign),
    ):
        with pytest.raises(BundleError) as error:
            attempt()
        assert error.value.file == str(foreign.path)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> Path:
    """Where commands run: a bundle, scans, a run, an ordinary file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle.onnx").write_bytes(bundle.model)
    write_scan(tmp_path / "scan.npz", simulated_scan())
    write_scan(tmp_path / "large.npz", simulated_scan(N=64))
    import_bundle(bundle, "torch", tmp_path / "run")
    (tmp_path / "text.onnx").write_text("no model", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "words, expected",
    [
        ("import bundle.onnx -o new", "'--backend': missing, expected one of tf, tensorflow, torch, pytorch"),
        ("import bundle.onnx --backend jax -o new", "no such backend, found jax"),
        ("import bundle.onnx --backend torch -o run", "run: holds a run already"),
        ("import absent.onnx --backend torch -o new", "absent.onnx: cannot be read (No such file or directory)"),
        ("import text.onnx --backend torch -o new", "text.onnx: not a readable ONNX model"),
        ("import scan.npz --backend torch -o new", "scan.npz: a ZIP archive, not a bundle"),
        ("import bundle.onnx --backend torch -o text.onnx/run", "text.onnx/run"),
        ("train --backend torch --data scan.npz -o new --from bundle.onnx --gridsize 2", "'--gridsize': contradicts"),
        (
            "train --backend torch --data scan.npz -o new --from bundle.onnx --filters-scale 1",
            "'--filters-scale': contra",
        ),
        ("train --backend torch --data scan.npz -o new --from bundle.onnx --set depth=1", "'--depth': contradicts"),
        ("train --backend torch --data large.npz -o new --from bundle.onnx", "found N = 64, expected N = 32"),
        ("train --backend torch --data scan.npz -o new --from bundle.onnx --N 64", "'--N': "),
        (
            "train --backend torch --data scan.npz -o new --from bundle.onnx --probe scan.npz",
            "'--from, --probe': contra",
        ),
        ("train --data scan.npz -o run --from bundle.onnx --resume", "'--from, --resume': contradict"),
        ("train --backend torch --data scan.npz -o run --resume", "there is no optimiser state to resume from"),
        ("train --backend torch --data scan.npz -o new --from scan.npz", "scan.npz: a ZIP archive, not a bundle"),
        ("train --backend torch --data scan.npz -o new --from .", "run.json: cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(capsys: Output, folder: Path, words: str, expected: str) -> None:
    assert expected in refused(capsys, folder, *words.split())


def test_the_commands_lead_from_a_bundle_to_a_run_and_on(capsys: Output, folder: Path) -> None:
    assert main(["import", "bundle.onnx", "--backend", "tf", "-o", "tf"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    digests = open_bundle("bundle.onnx").manifest.digests
    assert said == {"backend": "tensorflow", "run": "tf", "weights": digests.weights, "graph": digests.graph}
    assert main(["export", "tf"]) == 0
    words = "train --backend torch --data scan.npz -o on --from tf --epochs 1 --threads 1"
    assert main(words.split()) == 0
    assert "note: training starts from the weights of" in capsys.readouterr().err
    assert open_bundle(folder / "on" / "bundle.onnx").manifest.settings["initial"] == digests.weights
