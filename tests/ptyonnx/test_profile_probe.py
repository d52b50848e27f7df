"""The probe in a file for PtychoViT's pipelines: found as they look for it, and of use for what they do with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from adopting import PLAIN, adopted
from bundle_factory import example_probe, make_bundle
from float32_bounds import of_bundle, of_polar
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx import open_bundle
from ptyonnx.cli import main
from ptyonnx_bundles import Bundle
from ptyonnx_converters import to_ptychovit
from ptyonnx_converters.foreign.declaration import Declaration, Source
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical

N, BATCH = 64, 2
NAMES = ("probe_real", "probe_imag")
ORIENTATIONS = {  # of a detector: what has to be done to a pattern
    f"{turns} quarter turns{', transposed' if transposed else ''}": (turns, transposed)
    for turns in range(4)
    for transposed in (False, True)
}


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def probe_by_outputs(content: bytes) -> NDArray[np.complex64]:
    """As an inference session finds it: by the names of the outputs, after one run on zeros."""
    session = session_of(content)
    kinds = {value.name: (value.type, value.shape) for value in session.get_outputs()}
    assert all(kinds[name] == ("tensor(float)", [N, N]) for name in NAMES)
    real, imaginary = session.run(list(NAMES), {"input": np.zeros((BATCH, 1, N, N), np.float32)})
    return np.asarray(real + 1j * imaginary, np.complex64)


def probe_by_weights(content: bytes) -> NDArray[np.complex64]:
    """As a pipeline finds it that reads the file without running it: by the names of the constants."""
    model = onnx.load_model_from_string(content)
    real, imaginary = (
        numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == name)) for name in NAMES
    )
    assert real.ndim == imaginary.ndim == 2
    return np.asarray(real + 1j * imaginary, np.complex64)


@pytest.mark.parametrize("place", ["centre", "corner"])
def test_the_strongest_mode_is_output_and_constant(place: str, tmp_path: Path) -> None:
    probe = example_probe(N, modes=2, photons=1e5)
    probe = probe[np.argsort(np.sum(np.abs(probe) ** 2, axis=(1, 2)))]  # the strongest comes last
    bundle = make_foreign_bundle(tmp_path / "b.onnx", N, probe=probe)
    content = to_ptychovit.convert(bundle, BATCH, zero_frequency=place)
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    np.testing.assert_array_equal(probe_by_outputs(content), probe[-1])
    np.testing.assert_array_equal(probe_by_weights(content), probe[-1])


def vacuum(folder: Path, probe: NDArray[np.complex64]) -> Bundle:
    """A network that sees vacuum everywhere, whatever it is shown."""
    arrays = {"none": np.zeros((1, 1, 1, 1), np.float32)}
    shape = ["b", 1, N, N]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "none"], ["phase"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("phase", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return adopted(model, folder, Declaration(**{**vars(PLAIN), "phase": Source("phase", None)}), probe=probe)


def lopsided_probe() -> NDArray[np.complex64]:
    """No turn and no reflection, of amplitude or phase, gives it again."""
    y, x = (np.indices((N, N)) - N // 2) / N
    spot = np.exp(-(x**2) / 0.02 - y**2 / 0.01) + 0.5 * np.exp(-((x - 0.15) ** 2) / 0.005 - (y + 0.1) ** 2 / 0.01)
    return np.asarray(100 * spot * np.exp(1j * (20 * x**2 + 9 * x * y + 4 * y)), np.complex64)[np.newaxis]


def test_the_pipelines_orientation_check_finds_the_right_one(tmp_path: Path) -> None:
    """Patches behind the probe, propagated, against the patterns as measured: the right orientation correlates best."""
    probe = lopsided_probe()
    content = to_ptychovit.convert(vacuum(tmp_path, probe), BATCH)
    measured = np.abs(np.fft.fftshift(np.fft.fft2(probe[0]))) ** 2
    found, session = probe_by_outputs(content), session_of(content)
    scores = {}
    for name, (turns, transposed) in ORIENTATIONS.items():
        shown = np.rot90(measured.T if transposed else measured, turns)
        fed = np.repeat(np.sqrt(shown)[np.newaxis, np.newaxis].astype(np.float32), BATCH, axis=0)
        (output,) = session.run(["output"], {"input": fed})
        wave = found * output[0, 0] * np.exp(1j * output[0, 1])
        pattern = np.fft.fftshift(np.abs(np.fft.fft2(wave)) ** 2)
        scores[name] = np.sum(pattern * shown) / np.sqrt(np.sum(pattern**2) * np.sum(shown**2))
    assert max(scores, key=lambda name: scores[name]) == "0 quarter turns"
    assert scores["0 quarter turns"] == pytest.approx(1, abs=1e-5)  # quadratic in float32's error
    assert sorted(scores.values())[-2] < 0.95


def test_the_lit_square_is_where_the_probe_is(tmp_path: Path) -> None:
    """What a pipeline crops to: the square in the circle where the amplitude is above half of its maximum."""
    y, x = np.indices((N, N)) - N // 2
    disc = np.asarray((np.hypot(x, y) < 16) * 50.0, np.complex64)[np.newaxis]
    bundle = make_foreign_bundle(tmp_path / "b.onnx", N, probe=disc)
    found = np.abs(probe_by_weights(to_ptychovit.convert(bundle, BATCH)))
    radius = np.hypot(x, y)[found > found.max() / 2].max()
    assert 15 < radius < 16


def test_a_bundle_without_a_probe_has_one_output_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = make_foreign_bundle(tmp_path / "bare.onnx", N, probe=np.zeros((0, N, N), np.complex64))
    own = make_bundle(tmp_path / "own.onnx")
    for bundle, outputs in ((bare, ["output"]), (own, ["output", *NAMES])):
        words = ("export", bundle.path, "--profile", "ptychovit", "--batch", BATCH, "-o", tmp_path / "v.onnx")
        assert main([str(word) for word in words]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("probe"))
        assert ("probe_real" in line) == (len(outputs) == 3)
        session = session_of((tmp_path / "v.onnx").read_bytes())
        assert [value.name for value in session.get_outputs()] == outputs


def test_a_file_with_a_probe_comes_in_again(tmp_path: Path) -> None:
    """Outputs that depend on no pattern are no part of the object: one channel beside them is still alone."""
    bundle = make_bundle(tmp_path / "own.onnx")
    model = onnx.load_model_from_string(to_ptychovit.convert(bundle, BATCH))
    rest = ("--system", "ptychovit", "--zero-frequency", "centre", "--scale", "factor=1", "--limit", "none")
    onnx.save(model, tmp_path / "two.onnx")
    words = ("adopt", tmp_path / "two.onnx", "-o", tmp_path / "b.onnx", *rest, "--mean-photons", "unknown")
    assert main([str(word) for word in words]) == 0
    diffraction = bundle.selftest.diffraction
    expected = Session(bundle, threads=1).run(diffraction)
    atol = of_bundle(bundle.model, diffraction, roundings=4) + of_polar(float(np.abs(expected).max()), np.pi)
    found = Session(open_bundle(tmp_path / "b.onnx"), threads=1).run(diffraction)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    phase = model.graph.node[-1].input[1]  # of Concat
    model.graph.node[-1].CopyFrom(helper.make_node("Identity", [phase], ["output"]))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    words = (
        "adopt",
        tmp_path / "one.onnx",
        "-o",
        tmp_path / "b.onnx",
        *rest,
        "--mean-photons",
        "unknown",
        "--phase",
        "output",
    )
    assert main([str(word) for word in words]) == 0
    found = Session(open_bundle(tmp_path / "b.onnx"), threads=1).run(diffraction)
    np.testing.assert_allclose(found, expected / np.abs(expected), rtol=0, atol=atol / np.abs(expected).min())
