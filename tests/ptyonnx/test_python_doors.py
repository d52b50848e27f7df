"""Python's functions take opened things, paths and run directories alike; a wrong argument is named."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle
from small_training import SMALL, simulated_scan

import ptyonnx
from ptyonnx import Bundle, Reconstruction, Run, Settings
from ptyonnx.exchange.autoencoder import export_autoencoder
from ptyonnx.exchange.profiles import export_profile
from ptyonnx.formats import write_scan
from ptyonnx.runs.run import Record
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import BundleError, PtyonnxError, ScanError, SettingsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, a bundle, and a run that has this bundle."""
    folder = tmp_path_factory.mktemp("doors")
    write_scan(folder / "scan.npz", simulated_scan(count=24))
    bundle = make_bundle(folder / "bundle.onnx", Recipe(N=32, filters_scale=0.0625))
    manifest = bundle.native_manifest("a test")
    parts = {name: getattr(manifest, name) for name in ("producer", "recipe", "physics", "training_data")}
    Run(folder / "run", Record(backend="pytorch", **parts), Settings()).write()
    (folder / "run" / "bundle.onnx").write_bytes(bundle.model)
    return folder


SOURCES: dict[str, Callable[[Path], Any]] = {
    "an opened bundle": lambda folder: ptyonnx.open_bundle(folder / "bundle.onnx"),
    "a path": lambda folder: folder / "bundle.onnx",
    "a path as text": lambda folder: str(folder / "bundle.onnx"),
    "a run directory": lambda folder: folder / "run",
    "an opened run": lambda folder: Run.open(folder / "run"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_whatever_leads_to_a_bundle_is_taken(folder: Path, tmp_path: Path, kind: str) -> None:
    source, scan = SOURCES[kind](folder), folder / "scan.npz"
    assert isinstance(ptyonnx.open_bundle(source), Bundle)
    assert ptyonnx.reconstruct(source, scan).object.shape
    assert ptyonnx.compare(source, folder / "bundle.onnx", str(scan)).same_function
    assert ptyonnx.verify(source).passed
    export_profile(source, tmp_path / "vit.onnx", "ptychovit", batch=1)
    if "run" not in kind:  # of a run, its weights in its framework
        assert export_autoencoder(source, tmp_path / "a.onnx").path.is_file()


def test_a_scan_is_taken_opened_or_by_its_path(folder: Path) -> None:
    opened = ptyonnx.load_scan(folder / "scan.npz")
    results = [ptyonnx.reconstruct(folder / "run", scan) for scan in (opened, folder / "scan.npz")]
    np.testing.assert_array_equal(results[0].object, results[1].object)


def test_an_engine_may_be_named(folder: Path) -> None:
    assert ptyonnx.reconstruct(folder / "run", folder / "scan.npz", engine="ort").engine == "onnxruntime"
    with pytest.raises(SettingsError) as caught:
        ptyonnx.reconstruct(folder / "run", folder / "scan.npz", engine="torhc")
    assert caught.value.key == "engine"


def test_simulating_takes_files(folder: Path) -> None:
    scan = ptyonnx.load_scan(folder / "scan.npz")
    assert scan.object is not None
    path = folder / "scan.npz"
    made = ptyonnx.simulate(path, str(path), scan.positions_px, noise=False)
    assert scan.probe is not None
    np.testing.assert_array_equal(
        made.diffraction[:], ptyonnx.simulate(scan.object, scan.probe, scan.positions_px, noise=False).diffraction[:]
    )


@pytest.mark.slow
def test_training_and_exporting_take_paths(folder: Path, tmp_path: Path) -> None:
    run = ptyonnx.train(
        "torch", folder / "scan.npz", Settings.model_validate({**SMALL, "epochs": 1}), tmp_path / "run", test_scan=str(folder / "scan.npz")
    )  # fmt: skip
    assert isinstance(ptyonnx.export(run.directory, tmp_path / "run" / "bundle.onnx"), Bundle)
    again = ptyonnx.train("torch", folder / "scan.npz", run.settings, tmp_path / "again", initial=run.directory)
    assert again.record.initial is not None
    assert ptyonnx.import_bundle(run, "torch", tmp_path / "imported").recipe == run.recipe
    export_autoencoder(run.directory, tmp_path / "a.onnx")


def bundle(folder: Path) -> Bundle:
    return ptyonnx.open_bundle(folder / "bundle.onnx")


def scan(folder: Path) -> Any:
    return ptyonnx.load_scan(folder / "scan.npz")


WRONG: dict[str, tuple[Callable[[Path], Any], type[PtyonnxError]]] = {
    "reconstruct: bundle": (lambda f: ptyonnx.reconstruct(scan(f), bundle(f)), SettingsError),
    "reconstruct: bundle ": (lambda f: ptyonnx.reconstruct(f / "scan.npz", f / "bundle.onnx"), BundleError),
    "reconstruct: scan": (lambda f: ptyonnx.reconstruct(bundle(f), bundle(f)), SettingsError),
    "reconstruct: scan ": (lambda f: ptyonnx.reconstruct(bundle(f), f / "bundle.onnx"), ScanError),
    "reconstruct: scan  ": (lambda f: ptyonnx.reconstruct(bundle(f), np.zeros((3, 32, 32))), SettingsError),
    "reconstruct: bundle  ": (lambda f: ptyonnx.reconstruct(None, scan(f)), SettingsError),
    "reconstruct: threads": (lambda f: ptyonnx.reconstruct(bundle(f), scan(f), threads="all"), SettingsError),
    "reconstruct: provider": (lambda f: ptyonnx.reconstruct(bundle(f), scan(f), provider=0), SettingsError),
    "reconstruct: phases": (lambda f: ptyonnx.reconstruct(bundle(f), scan(f), phases="some"), SettingsError),
    "reconstruct: flux": (lambda f: ptyonnx.reconstruct(bundle(f), scan(f), flux="some"), SettingsError),
    "compare: a": (lambda f: ptyonnx.compare(scan(f), bundle(f)), SettingsError),
    "compare: b": (lambda f: ptyonnx.compare(bundle(f), scan(f)), SettingsError),
    "compare: scan": (lambda f: ptyonnx.compare(bundle(f), bundle(f), bundle(f)), SettingsError),
    "compare: tolerance": (lambda f: ptyonnx.compare(bundle(f), bundle(f), tolerance="x"), SettingsError),
    "train: backend": (lambda f: ptyonnx.train(scan(f), "torch", Settings(), f / "r"), SettingsError),
    "train: scan": (lambda f: ptyonnx.train("torch", Settings(), scan(f), f / "r"), SettingsError),
    "train: settings": (lambda f: ptyonnx.train("torch", scan(f), {"epochs": 3}, f / "r"), SettingsError),
    "train: settings ": (lambda f: ptyonnx.train("torch", scan(f), f / "r", Settings()), SettingsError),
    "train: directory": (lambda f: ptyonnx.train("torch", scan(f), Settings(), None), SettingsError),
    "train: initial": (lambda f: ptyonnx.train("torch", scan(f), Settings(), f / "r", initial=scan(f)), SettingsError),
    "export: run": (lambda f: ptyonnx.export(bundle(f), f / "b.onnx"), SettingsError),
    "export: path": (lambda f: ptyonnx.export(f / "run", 3), SettingsError),
    "export: which": (lambda f: ptyonnx.export(f / "run", f / "b.onnx", which="first"), SettingsError),
    "import: bundle": (lambda f: ptyonnx.import_bundle("torch", bundle(f), f / "r"), (BundleError, SettingsError)),
    "import: backend": (lambda f: ptyonnx.import_bundle(bundle(f), f / "r", "torch"), SettingsError),
    "verify: bundle": (lambda f: ptyonnx.verify(scan(f)), SettingsError),
    "simulate: probe": (lambda f: ptyonnx.simulate(np.ones((99, 99)), scan(f), np.zeros((2, 2))), SettingsError),
    "simulate: obj": (lambda _: ptyonnx.simulate(None, np.ones((1, 32, 32)), np.zeros((2, 2))), SettingsError),
    "adopt: declaration": (lambda f: ptyonnx.adopt(f / "bundle.onnx", f / "b.onnx", "ptychonn"), SettingsError),
    "load_scan: path": (lambda f: ptyonnx.load_scan(scan(f)), SettingsError),
    "check_parity: source": (lambda f: ptyonnx.check_parity(scan(f), backends=["torch"]), SettingsError),
    "open_bundle: source": (lambda f: ptyonnx.open_bundle(scan(f)), SettingsError),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named(folder: Path, case: str) -> None:
    call, kind = WRONG[case]
    with pytest.raises(kind) as caught:
        call(folder)
    error = caught.value
    assert error.key == case.split(":")[1].strip()
    assert "\n" not in str(error)
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.onnx", "run", "scan.npz"]


def test_swapped_arguments_are_called_swapped(folder: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        ptyonnx.reconstruct(scan(folder), bundle(folder))  # type: ignore[arg-type]
    assert (caught.value.key, caught.value.found) == ("bundle", "a scan")
    assert "swapped" in str(caught.value.remedy)


@pytest.mark.parametrize("engine", [None, 3, np.zeros])
def test_what_is_not_an_engine_is_refused_by_name(folder: Path, engine: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        ptyonnx.reconstruct(bundle(folder), scan(folder), engine=engine)
    assert caught.value.key == "engine"


@pytest.mark.parametrize("name, near", [("epoch", "epochs"), ("nepochs", "epochs"), ("filter_scale", "filters_scale")])
def test_an_unknown_setting_says_which_is_near_it(name: str, near: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**{name: 3})
    assert caught.value.key == name
    assert f"'{near}'" in str(caught.value.remedy)


@pytest.mark.parametrize("name, value", [("epochs", 0), ("epochs", "many"), ("loss", "l2"), ("rate", float("nan"))])
def test_an_unusable_setting_is_named(name: str, value: object) -> None:
    for make in (lambda: Settings(**{name: value}), lambda: Settings.model_validate({name: value})):  # type: ignore[arg-type]
        with pytest.raises(SettingsError) as caught:
            make()
        assert caught.value.key == name


# What the user asks Python about.


def documented(text: str | None) -> set[str]:
    """Names of parameters and attributes, as numpydoc has them: before a colon at the beginning of a line."""
    lines = inspect.cleandoc(text or "").splitlines()
    heads = [line.split(" : ")[0] for line in lines if " : " in line and not line.startswith(" ")]
    return {name.strip() for head in heads for name in head.split(",")}


@pytest.mark.parametrize(
    "name", ["reconstruct", "train", "compare", "export", "import_bundle", "simulate", "adopt", "check_parity", "verify", "open_bundle", "load_scan"]
)  # fmt: skip
def test_the_help_of_a_function_names_every_parameter(name: str) -> None:
    function = getattr(ptyonnx, name)
    assert set(inspect.signature(function).parameters) <= documented(function.__doc__)


def test_the_help_of_a_reconstruction_names_every_attribute() -> None:
    assert {field.name for field in fields(Reconstruction)} <= documented(Reconstruction.__doc__)


def test_rooms_are_there_after_importing_the_face_and_nothing_is_loaded_before() -> None:
    code = """
import sys, ptyonnx
assert not {"numpy", "h5py", "pydantic", "torch"} & set(sys.modules), "import ptyonnx loads something"
assert ptyonnx.formats.load_scan and ptyonnx.comparison.compare and ptyonnx.backends.engines.open_engine
assert ptyonnx.simulation.scan_positions and ptyonnx.report.write_report
assert not {"torch", "tensorflow"} & set(sys.modules)
try:
    ptyonnx.nothing
except AttributeError:
    print("done")
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "done\n"
