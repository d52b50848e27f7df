"""Importing the converters loads no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "tensorflow", "keras", "onnx", "onnxscript", "tf2onnx", "onnxruntime")
PROBE = "import sys; import {module}; print([name for name in {heavy} if name in sys.modules])"


def loaded_by(module: str) -> str:
    code = PROBE.format(module=module, heavy=HEAVY)
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("module", ["ptyonnx_converters", "ptyonnx_converters.selftest"])
def test_importing_loads_neither_a_framework_nor_onnx(module: str) -> None:
    assert loaded_by(module) == "[]"


def test_the_canonical_pass_loads_no_framework() -> None:
    assert loaded_by("ptyonnx_converters.canonical") == "['onnx']"
