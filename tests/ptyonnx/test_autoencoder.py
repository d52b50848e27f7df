"""The network inside its forward model, as one ONNX file, beside both frameworks and numpy.fft."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.ndimage
from bundle_factory import example_probe, example_weights, make_bundle
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray
from refusal import refused

from ptyonnx import backends, import_bundle
from ptyonnx.cli import main
from ptyonnx.exchange import autoencoder
from ptyonnx.exchange.autoencoder import AMPLITUDE_TOLERANCE, OBJECT_TOLERANCE, export_autoencoder, largest_amplitude
from ptyonnx_bundles import Bundle, Recipe, read_bundle
from ptyonnx_bundles.errors import BundleError, ConversionError

N = 32
POINTS = (0.3, 0.6, 0.9)
STANDARD = ("", "ai.onnx")
# Everything but the recipe's own operators. The overlap of gridsize > 1 needs the second set.
PHYSICS = {"Add", "MatMul", "Mul", "Sqrt", "Sub"}
OVERLAP = {
    "Abs",
    "Ceil",
    "Div",
    "Gather",
    "Range",
    "ReduceMax",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Transpose",
    "Unsqueeze",
}

CASES = pytest.mark.parametrize(
    "bundle", [(1, 1), (1, 3), (2, 1), (2, 2)], indirect=True, ids=lambda case: f"gridsize{case[0]}-modes{case[1]}"
)


@pytest.fixture(scope="module")
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Heads that differ from pattern to pattern and from vacuum by tenths."""
    gridsize, modes = request.param
    recipe = Recipe(N=N, gridsize=gridsize, filters_scale=0.125)
    weights = example_weights(recipe)
    for head in ("amplitude", "phase"):
        weights[f"decoder.{head}.output.weight"] = weights[f"decoder.{head}.output.weight"] * np.float32(20)
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "bundle.onnx", recipe, weights=weights, probe=example_probe(N, modes))


def run(path: Path, **inputs: NDArray[np.float32]) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    obj, amplitude = session.run(["object", "amplitude"], inputs)
    return obj.view(np.complex64)[..., 0], amplitude


def inputs(bundle: Bundle, positions: NDArray[np.float64] | None = None) -> dict[str, NDArray[np.float32]]:
    diffraction = bundle.selftest.diffraction
    if bundle.manifest.recipe.gridsize == 1:
        return {"diffraction": diffraction}
    if positions is None:
        positions = np.random.default_rng(1).uniform(0, 9, (*diffraction.shape[:2], 2))
    return {"diffraction": diffraction, "positions": positions.astype(np.float32)}


def far_field(patches: NDArray[np.complex128], probe: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Amplitude on the detector, by numpy.fft."""
    waves = np.fft.ifftshift(patches[:, :, np.newaxis] * probe, axes=(-2, -1))
    fields = np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1))
    return np.sqrt(np.sum(np.abs(fields) ** 2, axis=2))


def averaged(
    patches: NDArray[np.complex64], probe: NDArray[np.complex64], whole_px: NDArray[np.int64]
) -> NDArray[np.complex128]:
    """Overlap of patches at whole pixels, pixel by pixel on a dictionary: nothing of the code under test."""
    weight = np.sum(np.abs(probe.astype(np.complex128)) ** 2, axis=0)
    weight = weight / weight.max() + 1e-3
    result = np.empty(patches.shape, np.complex128)
    for group, corners in enumerate(whole_px):
        size = N + corners.max()
        sums, weights = np.zeros((size, size), complex), np.full((size, size), 1e-6)
        for patch, (y, x) in zip(patches[group], corners, strict=True):
            sums[y : y + N, x : x + N] += patch * weight
            weights[y : y + N, x : x + N] += weight
        for index, (y, x) in enumerate(corners):
            result[group, index] = (sums / weights)[y : y + N, x : x + N]
    return result


@CASES
@pytest.mark.parametrize("backend", backends.BACKENDS)
def test_the_file_computes_the_native_forward_pass_of_both_frameworks(
    tmp_path: Path, bundle: Bundle, backend: str
) -> None:
    recipe = bundle.manifest.recipe
    native = import_bundle(bundle, backend, tmp_path / "run")
    written = export_autoencoder(native, tmp_path / "autoencoder.onnx")
    assert written.reference == backend
    assert written.object_difference <= OBJECT_TOLERANCE
    assert written.amplitude_difference <= AMPLITUDE_TOLERANCE
    feeds = inputs(bundle)
    offset_px = feeds.get("positions")
    if offset_px is not None:
        offset_px = offset_px - offset_px.min(axis=1, keepdims=True)
    predict = backends.load_part(backend, "autoencoder").predict
    weights, canvas = native.weights(), N + 10
    expected = predict(recipe, weights, bundle.probe, feeds["diffraction"], offset_px=offset_px, canvas=canvas)
    found = run(written.path, **feeds)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=OBJECT_TOLERANCE)
    atol = AMPLITUDE_TOLERANCE * largest_amplitude(bundle.probe)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=atol)
    assert found[1].shape == feeds["diffraction"].shape
    assert found[1].std() > 100 * atol


@CASES
def test_the_predicted_amplitude_is_that_of_numpys_fourier_transform(tmp_path: Path, bundle: Bundle) -> None:
    written = export_autoencoder(bundle, tmp_path / "autoencoder.onnx")
    corners = np.random.default_rng(2).integers(0, 8, (*bundle.selftest.diffraction.shape[:2], 2))
    corners -= corners.min(axis=1, keepdims=True)
    obj, amplitude = run(written.path, **inputs(bundle, corners + 100.0))  # only differences count
    np.testing.assert_allclose(obj, bundle.selftest.object, rtol=0, atol=OBJECT_TOLERANCE)
    patches = obj.astype(np.complex128)
    if bundle.manifest.recipe.gridsize > 1:
        patches = averaged(obj, bundle.probe, corners)
        assert np.abs(patches - obj).max() > 0.05  # the patches of a group did not agree before
    atol = AMPLITUDE_TOLERANCE * largest_amplitude(bundle.probe)
    np.testing.assert_allclose(amplitude, far_field(patches, bundle.probe), rtol=0, atol=atol)


@pytest.mark.parametrize("bundle", [(2, 1)], indirect=True)
def test_patches_between_pixels_are_placed_by_linear_interpolation(tmp_path: Path, bundle: Bundle) -> None:
    written = export_autoencoder(bundle, tmp_path / "autoencoder.onnx")
    together = np.zeros((*bundle.selftest.diffraction.shape[:2], 2))
    apart = together + np.array([[0.0, 0.0], [0.25, 0.0], [0.0, 0.75], [0.5, 0.5]])
    obj, amplitude = run(written.path, **inputs(bundle, apart))
    weight = np.sum(np.abs(bundle.probe.astype(np.complex128)) ** 2, axis=0)
    weight = weight / weight.max() + 1e-3
    canvas = N + 2

    def shifted(array: NDArray[np.complex128], by: NDArray[np.float64]) -> NDArray[np.complex128]:
        """SciPy's bilinear shift with zeros outside."""
        padded = np.zeros((canvas + 2, canvas + 2), complex)
        padded[1 : N + 1, 1 : N + 1] = array
        parts = (scipy.ndimage.shift(part, by, order=1, mode="constant") for part in (padded.real, padded.imag))
        real, imag = parts
        return (real + 1j * imag)[1:-1, 1:-1]

    patches = np.empty(obj.shape, complex)
    for group, corners in enumerate(apart):
        pairs = list(zip(obj[group].astype(complex), corners, strict=True))
        total = sum(shifted(weight.astype(complex), by) for _, by in pairs) + 1e-6
        mean = sum(shifted(patch * weight, by) for patch, by in pairs) / total
        for index, by in enumerate(corners):
            whole = np.pad(mean, ((0, 1), (0, 1)))
            wide = [scipy.ndimage.shift(part, -by, order=1, mode="constant") for part in (whole.real, whole.imag)]
            patches[group, index] = (wide[0] + 1j * wide[1])[:N, :N]
    atol = AMPLITUDE_TOLERANCE * largest_amplitude(bundle.probe)
    np.testing.assert_allclose(amplitude, far_field(patches, bundle.probe), rtol=0, atol=atol)


@pytest.mark.parametrize("bundle", [(2, 1)], indirect=True)
def test_no_patch_falls_off_the_canvas_however_far_apart_they_lie(tmp_path: Path, bundle: Bundle) -> None:
    written = export_autoencoder(bundle, tmp_path / "autoencoder.onnx")
    apart = np.zeros((*bundle.selftest.diffraction.shape[:2], 2)) + np.arange(4)[:, np.newaxis] * 3 * N
    obj, amplitude = run(written.path, **inputs(bundle, apart))
    # nothing overlaps: each patch is averaged with itself
    atol = 1e-3 * largest_amplitude(bundle.probe)  # the floor under the weight takes a thousandth at the border
    np.testing.assert_allclose(amplitude, far_field(obj.astype(complex), bundle.probe), rtol=0, atol=atol)


@CASES
def test_the_file_has_standard_operators_only_and_everything_in_itself(tmp_path: Path, bundle: Bundle) -> None:
    recipe = bundle.manifest.recipe
    path = export_autoencoder(bundle, tmp_path / "autoencoder.onnx").path
    assert [entry.name for entry in tmp_path.iterdir()] == ["autoencoder.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (10, [("", 18)])
    own = {node.operator for node in recipe.nodes()}
    added = PHYSICS | (OVERLAP if recipe.gridsize > 1 else set())
    assert {node.op_type for node in model.graph.node} == own | added
    assert {node.domain for node in model.graph.node} <= set(STANDARD)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    wanted = ["diffraction"] + (["positions"] if recipe.gridsize > 1 else [])
    assert [value.name for value in model.graph.input] == wanted
    assert [value.name for value in model.graph.output] == ["object", "amplitude"]
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in {**recipe.weight_shapes(), **recipe.constant_shapes()}:
        assert held[name].tobytes() == bundle.weights[name].tobytes()
    np.testing.assert_array_equal(held["probe.0.real"] + 1j * held["probe.0.imag"], bundle.probe[0])
    assert {entry.key: entry.value for entry in model.metadata_props}["weights"] == bundle.manifest.digests.weights


@pytest.mark.parametrize("bundle", [(1, 2), (2, 1)], indirect=True, ids=["gridsize1", "gridsize2"])
def test_a_run_of_either_framework_and_the_bundle_give_the_same_file(tmp_path: Path, bundle: Bundle) -> None:
    contents = {export_autoencoder(bundle, tmp_path / "bundle.onnx").path.read_bytes()}
    for backend in backends.BACKENDS:
        native = import_bundle(bundle, backend, tmp_path / backend)
        contents.add(export_autoencoder(native, tmp_path / f"{backend}.onnx").path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("bundle", [(1, 1), (2, 2)], indirect=True, ids=["gridsize1", "gridsize2"])
@pytest.mark.parametrize("fault", ["probe", "dft", "head"])
def test_a_graph_that_computes_something_else_is_not_written(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    build = autoencoder._build
    if fault == "dft":  # zero frequency one pixel off
        wrong = autoencoder.dft_matrix(N)._replace(real=np.roll(autoencoder.dft_matrix(N).real, 1, axis=0))
        monkeypatch.setattr(autoencoder, "_build", None)
        original = autoencoder.dft_matrix

        def once(recipe: Recipe, weights: object, probe: object) -> bytes:
            monkeypatch.setattr(autoencoder, "dft_matrix", lambda _: wrong)
            try:
                return build(recipe, weights, probe)  # type: ignore[arg-type]
            finally:
                monkeypatch.setattr(autoencoder, "dft_matrix", original)

        monkeypatch.setattr(autoencoder, "_build", once)
    elif fault == "probe":
        monkeypatch.setattr(autoencoder, "_build", lambda recipe, weights, probe: build(recipe, weights, probe * 1.001))
    else:
        name = "decoder.phase.output.bias"
        monkeypatch.setattr(
            autoencoder, "_build",
            lambda recipe, weights, probe: build(recipe, {**weights, name: weights[name] + np.float32(1e-3)}, probe),
        )  # fmt: skip
    (tmp_path / "out.onnx").write_bytes(b"earlier")
    with pytest.raises(ConversionError) as error:
        export_autoencoder(bundle, tmp_path / "out.onnx")
    assert error.value.key == ("object" if fault == "head" else "amplitude")
    assert (tmp_path / "out.onnx").read_bytes() == b"earlier"


@pytest.mark.parametrize("bundle", [(1, 1)], indirect=True)
def test_a_graph_that_onnxruntime_does_not_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = autoencoder._build

    def misfit(*arguments: object) -> bytes:
        """The file as it is, but for an operator that nobody knows."""
        model = onnx.load_from_string(build(*arguments))  # type: ignore[arg-type]
        model.graph.node[-1].op_type = "Unheard"
        return model.SerializeToString()

    monkeypatch.setattr(autoencoder, "_build", misfit)
    output = tmp_path / "out.onnx"
    line = refused(capsys, tmp_path, "export", bundle.path, "--graph", "autoencoder", "-o", output)
    assert "Unheard" in line
    assert "Unheard" in line


def test_a_network_of_another_system_has_no_autoencoder(tmp_path: Path) -> None:
    foreign = make_foreign_bundle(tmp_path / "foreign.onnx")
    with pytest.raises(BundleError) as error:
        export_autoencoder(foreign, tmp_path / "out.onnx")
    assert error.value.file == str(tmp_path / "foreign.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("bundle", [(2, 1)], indirect=True, ids=["gridsize2"])
def test_the_command_writes_it_from_a_bundle_and_from_a_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    import_bundle(bundle, "torch", tmp_path / "run")
    capsys.readouterr()
    for words, reference in (([str(bundle.path), "-o", "a.onnx"], "self-test and NumPy"), (["run"], "pytorch")):
        assert main(["export", *words, "--graph", "autoencoder", "--json"]) == 0
        written = json.loads(capsys.readouterr().out)
        assert (written["compared_with"], written["object_tolerance"]) == (reference, 5e-5)
        assert written["object_difference"] <= written["object_tolerance"]
    assert (tmp_path / "run" / "autoencoder.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
    with pytest.raises(BundleError) as error:
        read_bundle(tmp_path / "a.onnx")
    assert error.value.key == "ptyonnx.manifest"
    assert "a.onnx: 'ptyonnx.manifest': missing" in refused(
        capsys, tmp_path, "export", "a.onnx", "--graph", "autoencoder"
    )
    line = refused(capsys, tmp_path, "export", str(bundle.path))
    assert line.startswith(f"{bundle.path}: ")
    assert "--graph autoencoder" in line
    words = ["export", str(bundle.path), "--graph", "autoencoder", "--profile", "ptychovit", "--batch", "8"]
    assert "'--profile, --graph': contradict each other" in refused(capsys, tmp_path, *words)
    assert "not one of 'bundle', 'autoencoder'" in refused(capsys, tmp_path, "export", "run", "--graph", "decoder")
