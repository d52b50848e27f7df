"""What frameworks find in the environment as they load, through whichever door."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptyonnx.backends.environment import prepare_for

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
DECIDING = ("TF_ENABLE_ONEDNN_OPTS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# Stands in for a framework: says what it finds and is not installed.
TELLTALE = """
import os, sys
print("FOUND", *(os.environ.get(name, "unset") for name in ("TF_ENABLE_ONEDNN_OPTS", "GOMP_SPINCOUNT")), flush=True)
raise ModuleNotFoundError("it only looks like one", name="tensorflow")
"""
DOORS = {
    "python": "import ptyonnx; ptyonnx.train({backend!r}, ptyonnx.load_scan({scan!r}), ptyonnx.Settings(), {run!r})",
    "engine": "from ptyonnx import backends; backends.load_part({backend!r}, 'engine')",
    "network": "import ptyonnx.backends.{backend}.network",
    "command line": "from ptyonnx.cli import main; main(['train', '--backend', {backend!r}, '--data', {scan!r}, '-o', {run!r}])",
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("backend, found", [("tensorflow", "1 unset"), ("pytorch", "unset 1000")])
def test_a_framework_finds_the_defaults_as_it_loads(backend: str, found: str, door: str, tmp_path: Path) -> None:
    for name in ("tensorflow", "keras", "torch", "lightning"):
        (tmp_path / f"{name}.py").write_text(TELLTALE, encoding="utf-8")
    program = DOORS[door].format(backend=backend, scan=str(SAMPLE), run=str(tmp_path / "run"))
    environment = {name: value for name, value in os.environ.items() if name not in DECIDING}
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert f"FOUND {found}" in outcome.stdout, outcome.stderr


@pytest.mark.parametrize("module", ["from_tensorflow", "from_pytorch"])
def test_a_converter_loads_no_framework_of_its_own_accord(module: str) -> None:
    program = f"import sys, ptyonnx_converters.{module}; print({{'tensorflow', 'torch'}} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "set()\n"


@pytest.mark.parametrize(
    "package, decided",
    [
        ("tensorflow", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
        ("torch", {"GOMP_SPINCOUNT": "7"}),
        ("torch", {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_what_the_user_has_set_stays(package: str, decided: dict[str, str]) -> None:
    environment = dict(decided)
    prepare_for(package, environment, loaded=set())
    assert environment == decided


@pytest.mark.parametrize("package", ["tensorflow", "torch"])
def test_nothing_is_set_for_a_framework_that_is_loaded_already(package: str) -> None:
    environment: dict[str, str] = {}
    prepare_for(package, environment, loaded={package})
    assert environment == {}
