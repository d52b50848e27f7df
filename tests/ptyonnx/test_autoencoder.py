"""The autoencoder: the network inside its forward model, as one ONNX file, beside independent forward passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import example_probe, example_weights, make_bundle
from numpy.typing import NDArray
from refusal import refused
from scipy import ndimage

from ptyonnx import backends, import_bundle
from ptyonnx.autoencoder import AMPLITUDE_TOLERANCE, OBJECT_TOLERANCE, export_autoencoder, largest_amplitude
from ptyonnx.cli import main
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_runtime.physics import WEIGHT_FLOOR
from ptyonnx_runtime.session import Session

Output = pytest.CaptureFixture[str]


def made(folder: Path, gridsize: int, modes: int) -> Bundle:
    recipe = Recipe(N=32, gridsize=gridsize, filters_scale=0.125)
    probe = example_probe(32, modes)
    return make_bundle(folder / "b.onnx", recipe, weights=example_weights(recipe), probe=probe)


def run(
    path: Path, diffraction: NDArray[np.float32], positions_px: NDArray[np.float32] | None
) -> tuple[NDArray, NDArray]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    feeds = {"diffraction": diffraction} | ({} if positions_px is None else {"positions": positions_px})
    assert [value.name for value in session.get_inputs()] == list(feeds)
    obj, amplitude = session.run(["object", "amplitude"], feeds)
    return obj.view(np.complex64)[..., 0], amplitude


def detected(patches: NDArray, probe: NDArray) -> NDArray:
    """The forward model with NumPy's FFT, in double precision: (..., y, x) -> amplitude."""
    waves = patches[..., np.newaxis, :, :].astype(complex) * probe
    fields = np.fft.fft2(np.fft.ifftshift(waves, axes=(-2, -1)), norm="ortho")
    return np.sqrt(np.sum(np.abs(np.fft.fftshift(fields, axes=(-2, -1))) ** 2, axis=-3))


def agreed(patches: NDArray, positions_px: NDArray, probe: NDArray) -> NDArray:
    """Patches of one group after they were averaged on a canvas: SciPy's linear interpolation both ways."""
    N = patches.shape[-1]
    illumination = np.sum(np.abs(probe.astype(complex)) ** 2, axis=0)
    weight = illumination / illumination.max() + WEIGHT_FLOOR
    offsets = positions_px - positions_px.min(axis=0)
    size = N + int(np.ceil(offsets.max())) + 1

    def placed(image: NDArray, offset: NDArray) -> NDArray:
        wide = np.zeros((size + 2, size + 2), image.dtype)
        wide[1 : N + 1, 1 : N + 1] = image
        parts = [ndimage.shift(part, offset, order=1, mode="grid-constant") for part in (wide.real, wide.imag)]
        return (parts[0] + 1j * parts[1])[1:-1, 1:-1]

    total = sum(placed(weight.astype(complex), offset).real for offset in offsets) + WEIGHT_FLOOR**2
    mean = sum(placed(patch * weight, offset) for patch, offset in zip(patches, offsets, strict=True)) / total
    back = []
    for y, x in offsets:
        shifted = [
            ndimage.shift(np.pad(part, 1), (-y, -x), order=1, mode="grid-constant") for part in (mean.real, mean.imag)
        ]
        back.append((shifted[0] + 1j * shifted[1])[1 : N + 1, 1 : N + 1])
    return np.stack(back)


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("gridsize", [1, 2])
def test_the_graph_computes_object_and_patterns(tmp_path: Path, gridsize: int, modes: int) -> None:
    bundle = made(tmp_path, gridsize, modes)
    written = export_autoencoder(bundle, tmp_path / "auto.onnx")
    diffraction = np.random.default_rng(1).gamma(2, 5, (3, gridsize**2, 32, 32)).astype(np.float32)
    positions_px = np.random.default_rng(2).uniform(100, 106, (3, gridsize**2, 2)).astype(np.float32)
    obj, amplitude = run(written.path, diffraction, positions_px if gridsize > 1 else None)
    np.testing.assert_allclose(obj, Session(bundle).run(diffraction), atol=OBJECT_TOLERANCE)
    patches = (
        obj
        if gridsize == 1
        else np.stack([agreed(*group, bundle.probe) for group in zip(obj, positions_px, strict=True)])
    )
    expected = detected(patches, bundle.probe)
    assert np.abs(amplitude - expected).max() <= AMPLITUDE_TOLERANCE * largest_amplitude(bundle.probe)
    if gridsize > 1:  # that the patches agree matters here
        assert np.abs(detected(obj, bundle.probe) - expected).max() > 10 * AMPLITUDE_TOLERANCE * largest_amplitude(
            bundle.probe
        )


@pytest.mark.parametrize("backend", backends.BACKENDS)
@pytest.mark.parametrize("gridsize, modes", [(1, 1), (2, 2)])
def test_a_run_is_compared_with_the_forward_pass_of_its_framework(
    tmp_path: Path, backend: str, gridsize: int, modes: int
) -> None:
    imported = import_bundle(made(tmp_path, gridsize, modes), backend, tmp_path / "run")
    written = export_autoencoder(imported, tmp_path / "auto.onnx")
    assert written.reference == backend
    assert 0 < written.amplitude_difference <= AMPLITUDE_TOLERANCE
    assert 0 < written.object_difference <= OBJECT_TOLERANCE
    again = export_autoencoder(made(tmp_path, gridsize, modes), tmp_path / "again.onnx")
    assert written.path.read_bytes() == again.path.read_bytes()


def test_only_differences_of_positions_count(tmp_path: Path) -> None:
    path = export_autoencoder(made(tmp_path, 2, 1), tmp_path / "auto.onnx").path
    diffraction = np.random.default_rng(1).gamma(2, 5, (1, 4, 32, 32)).astype(np.float32)
    positions_px = np.array([[[0, 0], [3.5, 1], [0, 5.25], [2, 2]]], np.float32)
    here, there = (run(path, diffraction, positions_px + shift)[1] for shift in (0, 64))
    np.testing.assert_allclose(here, there, atol=1e-3)


def test_the_file_is_an_ordinary_model_of_standard_operators(tmp_path: Path) -> None:
    path = export_autoencoder(made(tmp_path, 2, 2), tmp_path / "auto.onnx").path
    model = onnx.load_model(path)
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (10, [("", 18)])
    operators = {node.op_type for node in model.graph.node}
    assert {"MatMul", "Sqrt"} <= operators
    assert "DFT" not in operators
    assert not any(node.attribute and any(a.HasField("g") for a in node.attribute) for node in model.graph.node)


def test_a_wrong_forward_model_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptyonnx import autoencoder

    def shifted(N: int, dtype: object = np.float32) -> object:
        from ptyonnx_runtime.physics import Pair, dft_matrix

        return Pair(*(np.roll(part, 1, axis=0) for part in dft_matrix(N, dtype)))

    bundle = made(tmp_path, 1, 1)
    monkeypatch.setattr(
        autoencoder,
        "dft_matrix",
        lambda N, dtype=np.float32: (
            shifted(N, dtype) if dtype is np.float32 else shifted.__globals__["_right"](N, dtype)
        ),
    )
    monkeypatch.setitem(
        shifted.__globals__, "_right", __import__("ptyonnx_runtime.physics", fromlist=["dft_matrix"]).dft_matrix
    )
    with pytest.raises(ConversionError, match="computes other patterns than self-test and NumPy"):
        export_autoencoder(bundle, tmp_path / "auto.onnx")
    assert not (tmp_path / "auto.onnx").exists()


def test_the_command_takes_runs_and_bundles(tmp_path: Path, capsys: Output) -> None:
    bundle = made(tmp_path, 1, 2)
    assert main(["export", str(bundle.path), "--graph", "autoencoder", "-o", str(tmp_path / "auto.onnx")]) == 0
    assert "self-test and NumPy" in capsys.readouterr().out
    words = ["export", str(bundle.path), "--graph", "autoencoder", "--profile", "ptychovit", "--batch", "8"]
    assert "'--profile, --graph': contradict each other" in refused(capsys, tmp_path, *words)
