"""`adopt` on the command line with PtychoPINN bundles and other files that are not ONNX."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import onnx
import pytest
from adopting import SCAN
from bundle_factory import make_bundle
from foreign_networks import ptychonn
from ptychopinn_bundles import KERAS, TORCH, Variant, repack, torch_bundle
from refusal import refused

from ptyonnx import load_scan, open_bundle, reconstruct
from ptyonnx.cli import main
from ptyonnx.exchange.adopting import SAME_GRAPH


def ptychopinn_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.dill", b"\x80\x04cos\nsystem\n")
        archive.writestr(TORCH, b"never read")
    return path


@pytest.fixture(scope="module")
def older_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PtychoPINN bundle of PyTorch with weights only."""
    folder = tmp_path_factory.mktemp("older")
    complete = torch_bundle(folder, Variant(scale=1)).path
    return repack(complete, folder / "wts.h5.zip", {"torch_scaling_metadata.pt": None, "manifest.dill": None})


def test_an_older_ptychopinn_bundle_asks_for_what_it_does_not_say(
    older_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "b.onnx"
    assert "declare --probe-big true|false" in refused(capsys, tmp_path, "adopt", older_bundle, "-o", output)
    line = refused(capsys, tmp_path, "adopt", older_bundle, "-o", output, "--probe_big", "true")
    assert "declare --amp-activation NAME" in line
    said = ["--probe-big", "true", "--amp-activation", "sigmoid"]
    assert main(["adopt", str(older_bundle), "-o", str(output), *said]) == 0
    bundle = open_bundle(output)
    assert bundle.trained_with == "PtychoPINN (PyTorch)"
    assert bundle.manifest.physics.mean_photons == 1024
    assert bundle.manifest.recipe.conventions["selftest"] == SAME_GRAPH  # type: ignore[union-attr]
    assert reconstruct(bundle, load_scan(SCAN), threads=1).flux.bundle_photons == 1024


def test_settings_of_ptychopinn_for_another_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(ptychonn(), tmp_path / "m.onnx")
    line = refused(capsys, tmp_path, "adopt", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", "--probe-big", "true")
    assert "'--probe-big': " in line


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert "not a file" in refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5", ".onnx"])
def test_a_probe_or_a_scan_that_is_a_pipe_is_refused_at_once(
    suffix: str, older_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, bundle = tmp_path / f"pipe{suffix}", make_bundle(tmp_path / "n.onnx").path
    os.mkfifo(pipe)
    for words in (
        ("adopt", older_bundle, "-o", tmp_path / "b.onnx", "--probe", pipe),
        ("reconstruct", bundle, "--data", pipe, "-o", tmp_path / "r.h5"),
    ):
        assert f"{pipe}: a pipe or a device, not a file" in refused(capsys, tmp_path, *words)


def test_declarations_for_a_ptychopinn_bundle_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ptychopinn_zip(tmp_path / "wts.h5.zip")
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", "--zero-frequency", "corner")
    assert "'--zero-frequency': the conventions of a PtychoPINN bundle are known" in line


@pytest.mark.parametrize("said", [(), ("--zero-frequency", "corner"), ("--probe-big", "true")])
def test_an_archive_that_is_no_ptychopinn_bundle_is_never_called_one(
    said: tuple[str, ...], older_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For every declaration: a scan, a network without its archive, an empty archive, another file."""
    (tmp_path / "scan.npz").write_bytes(SCAN.read_bytes())
    with zipfile.ZipFile(older_bundle) as archive:
        (tmp_path / "model.pth").write_bytes(archive.read(TORCH))
    for name, members in (
        ("model.keras", ["config.json", "model.weights.h5"]),
        ("text.docx", ["word.xml"]),
        ("no", []),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member in members:
                archive.writestr(member, b"")
    for name, details in (
        ("scan.npz", "found diffraction"),
        ("model.pth", f"as {TORCH}; "),
        ("model.keras", f"as {KERAS}; "),
        ("text.docx", "found word.xml, expected "),
        ("no", "found no member, expected "),
    ):
        line = refused(capsys, tmp_path, "adopt", tmp_path / name, "-o", tmp_path / "b.onnx", *said)
        assert line.startswith(f"{tmp_path / name}: ")
        assert details in line
