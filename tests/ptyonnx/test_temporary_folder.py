"""Without a usable folder for temporary files every verb that needs one says so in one line, before the work."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from refusal import refused
from small_training import simulated_scan

import ptyonnx
from ptyonnx.cli import main
from ptyonnx.formats import write_scan
from ptyonnx_bundles import Recipe, temporary_folder
from ptyonnx_bundles.errors import OutputError

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_scan("scan.npz", simulated_scan(count=24))
    with np.load("scan.npz") as arrays:
        np.savez_compressed("compressed.npz", **arrays)
        np.savez(
            "turned.npz", **{**arrays, "diffraction": np.ascontiguousarray(arrays["diffraction"].transpose(1, 2, 0))}
        )
    make_bundle(tmp_path / "b.onnx", Recipe(N=32, filters_scale=0.0625))
    make_bundle(tmp_path / "c.onnx", Recipe(N=32, filters_scale=0.0625), seed=1)
    return tmp_path


@pytest.fixture(params=["absent", "a file", "none at all"])
def unusable(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """TMPDIR is wrong, or Python's own places are all gone, as on a machine whose disks are full."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    if request.param == "none at all":
        monkeypatch.delenv("TMPDIR", raising=False)
        monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(folder / "gone")])
    else:
        monkeypatch.setenv("TMPDIR", str(folder / ("b.onnx" if request.param == "a file" else "gone")))
    return str(request.param)


NEEDING = {
    "train": ("train", "--backend", "torch", "--data", "scan.npz", "-o", "run"),
    "train in TensorFlow": ("train", "--backend", "tf", "--data", "scan.npz", "-o", "run"),
    "import": ("import", "b.onnx", "--backend", "torch", "-o", "run"),
    "parity": ("parity", "--from", "b.onnx", "--backends", "torch"),
    "reconstruct": ("reconstruct", "b.onnx", "--data", "scan.npz", "-o", "r.h5"),
    "reconstruct with a framework": ("reconstruct", "b.onnx", "--data", "scan.npz", "-o", "r.h5", "--engine", "torch"),
    "reconstruct a compressed scan": ("reconstruct", "b.onnx", "--data", "compressed.npz", "-o", "r.h5"),
    "reconstruct a turned scan": ("reconstruct", "b.onnx", "--data", "turned.npz", "--axes", "yxn", "-o", "r.h5"),
    "diff": ("diff", "b.onnx", "c.onnx", "--data", "compressed.npz"),
    "diff with a framework": ("diff", "b.onnx", "b.onnx@torch"),
}


@pytest.mark.parametrize("case", NEEDING)
def test_a_verb_that_needs_temporary_files_is_refused(capsys: Output, folder: Path, unusable: str, case: str) -> None:
    line = refused(capsys, folder, *NEEDING[case])
    assert "TMPDIR" in line
    assert "set TMPDIR to" in line
    if unusable == "absent":
        assert str(folder / "gone") in line


@pytest.mark.usefixtures("unusable")
def test_a_verb_that_needs_none_runs(folder: Path) -> None:
    for words in (
        ("inspect", "b.onnx"),
        ("verify", "b.onnx"),
        ("simulate", "--object", "scan.npz", "--probe", "scan.npz", "--count", "4", "-o", "s.npz"),
        ("reconstruct", "b.onnx", "--data", "scan.npz", "--phases", "network", "-o", "r.h5", "--plot", "r.svg"),
        ("export", "b.onnx", "--graph", "autoencoder", "-o", "a.onnx"),
    ):
        assert main(list(words)) == 0
    assert (folder / "r.svg").is_file()


@pytest.mark.usefixtures("unusable")
def test_python_is_told_the_same(folder: Path) -> None:
    with pytest.raises(OutputError) as caught:
        temporary_folder()
    assert caught.value.key == "TMPDIR"
    with pytest.raises(OutputError):
        ptyonnx.load_scan(folder / "compressed.npz")
    with pytest.raises(OutputError):
        ptyonnx.reconstruct(folder / "b.onnx", folder / "scan.npz")
