"""What a machine does not have is said, with what exists or the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bundle_factory import make_bundle
from refusal import contents, error_line, refused

from ptyonnx_runtime.inference.onnx_session import PROVIDERS, providers

Output = pytest.CaptureFixture[str]
SCAN = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(folder / "other.onnx", seed=1)
    return Path(make_bundle(folder / "bundle.onnx").path or "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.h5").write_bytes(b"earlier work")
    return tmp_path


@pytest.mark.parametrize("name", ["jax", "pytroch", "", "none"])
def test_an_unknown_backend_is_refused_with_those_that_exist(capsys: Output, folder: Path, name: str) -> None:
    line = refused(capsys, folder, "train", "--backend", name, "--data", SCAN, "-o", "run")
    assert "backend" in line.split(":")[0]
    assert "tf, tensorflow, torch, pytorch" in line


def commands(bundle: Path) -> dict[str, tuple[object, ...]]:
    return {
        "reconstruct": ("reconstruct", bundle, "--data", SCAN, "-o", "result.h5"),
        "verify": ("verify", bundle),
        "diff": ("diff", bundle, bundle.with_name("other.onnx")),
    }


@pytest.mark.parametrize("verb", ["reconstruct", "verify", "diff"])
def test_an_unknown_provider_is_refused_with_those_that_exist(
    capsys: Output, folder: Path, bundle: Path, verb: str
) -> None:
    line = refused(capsys, folder, *commands(bundle)[verb], "--provider", "abacus")
    assert line.startswith("unknown provider 'abacus', expected auto, ")
    assert all(name in line for name in PROVIDERS)
    assert line.endswith(f"this machine has {', '.join(providers())}")


@pytest.mark.parametrize("verb", ["reconstruct", "verify", "diff"])
def test_a_provider_that_this_machine_lacks_is_refused(capsys: Output, folder: Path, bundle: Path, verb: str) -> None:
    absent = next(name for name in PROVIDERS if name not in providers())
    line = refused(capsys, folder, *commands(bundle)[verb], "--provider", absent)
    assert line.startswith(f"provider '{absent}' is not available")
    assert f"this machine has {', '.join(providers())}" in line


# Without a package: None in sys.modules is what Python calls a module that cannot be found.
WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
from ptyonnx.cli import main
sys.exit(main())
"""


def without(module: str, folder: Path, *words: object) -> str:
    before = contents(folder)
    command = [sys.executable, "-c", WITHOUT, module, *map(str, words)]
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert (outcome.returncode, outcome.stdout) == (2, ""), outcome.stderr
    line = error_line(outcome.stderr)
    assert contents(folder) == before
    return line


@pytest.mark.parametrize(
    "backend, module, command",
    [
        ("pytorch", "torch", "pip install 'ptyonnx[torch]'"),
        ("torch", "lightning", "pip install 'ptyonnx[torch]'"),
        ("tensorflow", "tensorflow", "pip install 'ptyonnx[tensorflow]'"),
    ],
)
def test_a_framework_that_is_not_installed_is_named_with_the_command(
    folder: Path, backend: str, module: str, command: str
) -> None:
    line = without(module, folder, "train", "--backend", backend, "--data", SCAN, "-o", "run")
    assert line.startswith("ptyonnx: error: the backend '")
    assert f"needs {module}" in line
    assert line.endswith(command)


@pytest.mark.parametrize("engine, module", [("torch", "torch"), ("tf", "tensorflow")])
def test_an_engine_that_is_not_installed_is_named_with_the_command(
    folder: Path, bundle: Path, engine: str, module: str
) -> None:
    line = without(module, folder, *commands(bundle)["reconstruct"], "--engine", engine)
    assert f"needs {module}, which is not installed; pip install 'ptyonnx[{module}]'" in line


@pytest.mark.parametrize("verb", ["reconstruct", "verify", "diff"])
def test_without_onnxruntime_the_command_is_named(folder: Path, bundle: Path, verb: str) -> None:
    line = without("onnxruntime", folder, *commands(bundle)[verb])
    assert line.startswith("ptyonnx: error: onnxruntime is not installed; pip install 'ptyonnx[cpu]'")
