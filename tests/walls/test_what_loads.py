"""What the command line loads before it does its work: a user waits for every module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_factory import make_bundle

from ptyonnx import load_scan
from ptyonnx.formats import write_scan

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
# Runs the command line, then prints every module that it loaded, as the last line.
WATCH = """
import sys
from ptyonnx.cli import main
code = main(sys.argv[1:])
print()
print(*sorted(sys.modules))
sys.exit(code)
"""
# Packages with what is below them. SciPy takes a quarter of a second, and one pattern needs none of it.
NOT_FOR_ONE_PATTERN = {
    "scipy", "tqdm", "PIL", "matplotlib", "jinja2", "onnx", "torch", "tensorflow", "numpy.f2py", "numpy.testing",
    "asyncio", "ptyonnx.simulation", "ptyonnx.comparison", "ptyonnx.report", "ptyonnx.training",
}  # fmt: skip
NOT_FOR_HELP = {
    *NOT_FOR_ONE_PATTERN, "numpy", "pydantic", "yaml", "h5py", "onnxruntime", "importlib.metadata", "email",
    "subprocess", "socket", "http", "logging", "ptyonnx_runtime", "ptyonnx_converters",
}  # fmt: skip


def _loaded(*words: object) -> set[str]:
    """Modules and the packages above them."""
    command = [sys.executable, "-c", WATCH, *map(str, words)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    modules = outcome.stdout.splitlines()[-1].split()
    return {".".join(parts[:n]) for parts in (name.split(".") for name in modules) for n in range(1, len(parts) + 1)}


def test_the_help_loads_no_more_than_it_shows() -> None:
    assert _loaded("--help") & NOT_FOR_HELP == set()


def test_one_pattern_is_reconstructed_without_what_it_does_not_need(tmp_path: Path) -> None:
    scan, bundle, result = (tmp_path / name for name in ("one.npz", "bundle.onnx", "result.h5"))
    write_scan(scan, load_scan(SAMPLE, limit=1))
    make_bundle(bundle)
    loaded = _loaded("reconstruct", bundle, "--data", scan, "-o", result)
    assert result.exists()
    assert {"onnxruntime", "h5py", "ptyonnx_runtime.stitching.phasing"} <= loaded, "the watch sees what is loaded"
    assert loaded & NOT_FOR_ONE_PATTERN == set()


@pytest.mark.parametrize("decided, found", [(None, "1"), ("3", "3")])
def test_the_command_line_loads_numpy_without_threads_of_its_own(decided: str | None, found: str) -> None:
    program = "import os\nfrom ptyonnx.cli import main\nmain(['--version'])\nprint('FOUND', os.environ['OPENBLAS_NUM_THREADS'])"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {} if decided is None else {"OPENBLAS_NUM_THREADS": decided}
    command = [sys.executable, "-c", program]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert outcome.stdout.endswith(f"FOUND {found}\n")
