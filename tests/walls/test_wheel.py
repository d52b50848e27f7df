"""What a beamline machine gets: the wheel with `[cpu]` alone, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from bundle_factory import make_bundle
from float32_bounds import of_bundle
from refusal import error_line

from ptyonnx import load_scan, reconstruct
from ptyonnx_bundles import Bundle

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCAN = ROOT / "samples" / "siemens_star_64.npz"
# Measured: 380 MB without pip, of which SciPy 118, onnxruntime 76, NumPy 61. A framework
# that slips into the dependencies brings several hundred more.
LARGEST_MB = 450
ABSENT = ("torch", "lightning", "tensorflow", "keras", "onnx", "onnx_ir", "onnxscript", "tf2onnx", "pytest")

IMPORT_ALL = """
import importlib, pkgutil, sys
for floor in sys.argv[1:]:
    package = importlib.import_module(floor)
    for module in pkgutil.walk_packages(package.__path__, floor + "."):
        importlib.import_module(module.name)
        print(module.name)
"""


def _run(*command: object, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program that knows nothing of this repository and of the environment that tests it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    outcome = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert outcome.returncode == code, outcome.stderr
    return outcome


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of the fresh environment lie."""
    folder = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", folder, folder=folder)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    _run(folder / "bin/python", *install, "-c", ROOT / "constraints.txt", f"{wheel}[cpu]", folder=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Made here, with the sample's own probe."""
    scan = load_scan(SCAN)
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", probe=scan.probe, mean_photons=4.4e5)


def test_a_scan_is_reconstructed_as_it_is_here(binaries: Path, bundle: Bundle, tmp_path: Path) -> None:
    words = ("--data", SCAN, "-o", "result.h5", "--plot", "result.png", "--threads", 1)
    outcome = _run(binaries / "ptyonnx", "reconstruct", bundle.path, *words, folder=tmp_path)
    assert "R-factor" in outcome.stdout
    expected = reconstruct(bundle, load_scan(SCAN), threads=1)
    with h5py.File(tmp_path / "result.h5") as file:
        found, mask = file["object"][0], file["ptyonnx/mask"][()]
    np.testing.assert_array_equal(mask, expected.mask)
    atol = of_bundle(bundle.model, bundle.selftest.diffraction)
    np.testing.assert_allclose(found[~mask], expected.object[~mask], rtol=0, atol=atol)
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_a_bundle_is_verified_and_inspected(binaries: Path, bundle: Bundle, tmp_path: Path) -> None:
    assert "passed" in _run(binaries / "ptyonnx", "verify", bundle.path, folder=tmp_path).stdout
    assert bundle.manifest.digests.weights in _run(binaries / "ptyonnx", "inspect", bundle.path, folder=tmp_path).stdout
    assert "same function" in _run(binaries / "ptyonnx", "diff", bundle.path, bundle.path, folder=tmp_path).stdout


def test_python_runs_it_as_a_module_too(binaries: Path, tmp_path: Path) -> None:
    module = _run(binaries / "python", "-m", "ptyonnx", "--help", folder=tmp_path)
    assert module.stdout == _run(binaries / "ptyonnx", "--help", folder=tmp_path).stdout


@pytest.mark.parametrize("backend, extra", [("pytorch", "torch"), ("tensorflow", "tensorflow")])
def test_training_names_the_command_that_installs_the_framework(
    binaries: Path, backend: str, extra: str, tmp_path: Path
) -> None:
    words = ("train", "--backend", backend, "--data", SCAN, "-o", "run")
    outcome = _run(binaries / "ptyonnx", *words, folder=tmp_path, code=2)
    line = error_line(outcome.stderr)
    assert line.startswith(f"ptyonnx: error: the backend '{backend}' needs ")
    assert line.endswith(f"; pip install 'ptyonnx[{extra}]'")
    assert list(tmp_path.iterdir()) == []


def test_no_framework_came_with_it(binaries: Path, tmp_path: Path) -> None:
    program = f"from importlib.util import find_spec; print([name for name in {ABSENT} if find_spec(name)])"
    assert _run(binaries / "python", "-c", program, folder=tmp_path).stdout == "[]\n"


def test_every_module_of_the_lower_floors_can_be_imported(binaries: Path, tmp_path: Path) -> None:
    outcome = _run(binaries / "python", "-c", IMPORT_ALL, "ptyonnx_bundles", "ptyonnx_runtime", folder=tmp_path)
    floors = {"bundles": "ptyonnx_bundles", "runtime": "ptyonnx_runtime"}
    paths = [
        path.relative_to(ROOT / floor) for floor in floors for path in (ROOT / floor / floors[floor]).rglob("*.py")
    ]
    files = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    assert set(outcome.stdout.split()) == files - set(floors.values())


def test_the_environment_stays_light(binaries: Path) -> None:
    (packages,) = binaries.parent.glob("lib/python*/site-packages")
    sizes = {
        entry.name: sum(path.stat().st_size for path in (entry, *entry.rglob("*")) if path.is_file()) / 1e6
        for entry in packages.iterdir()
        if not entry.name.startswith("pip")
    }
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    print(f"{sum(sizes.values()):.0f} MB:", *(f"{name} {size:.0f}" for name, size in largest))  # noqa: T201
    assert sum(sizes.values()) < LARGEST_MB, largest


def test_the_wheel_holds_the_four_floors_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    roots = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert roots == {"ptyonnx", "ptyonnx_bundles", "ptyonnx_converters", "ptyonnx_runtime"}
    assert {f"{root}/py.typed" for root in roots} <= set(names)
    assert "ptyonnx_bundles/schema.json" in names
    parts = {path.name for path in (ROOT / "ptyonnx" / "report" / "templates").iterdir()}
    assert {"page.html.j2", "page.css", "page.js"} < parts
    assert {f"ptyonnx/report/templates/{part}" for part in parts} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
