"""A bundle written for another system: the interface that it loads, and the same object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import make_bundle
from float32_bounds import of_bundle, of_functions, of_polar, of_roundings
from foreign_factory import make_foreign_bundle
from foreign_networks import ptychonn
from numpy.typing import NDArray
from refusal import refused

from ptyonnx.cli import main
from ptyonnx.exchange.adopting import adopt
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import ConversionError, SettingsError
from ptyonnx_converters import to_ptychovit
from ptyonnx_converters.foreign.declaration import Declaration, Limit, Scale, Source
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical


def load_as_ptychoml_does(path: Path) -> tuple[onnxruntime.InferenceSession, str, int]:
    """The first input, by index, and its static batch; the output by its name."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    outputs = [value.name for value in session.get_outputs()]
    assert outputs[0] == "output"
    assert outputs[1:] in ([], ["probe_real", "probe_imag"])
    assert first.type == "tensor(float)"
    batch, channels, height, width = first.shape
    assert (channels, height) == (1, width)
    return session, first.name, batch


def feed(counts: NDArray[np.float64], norm: float) -> NDArray[np.float32]:
    """The formula of the deployed pipeline."""
    return np.sqrt(counts / norm * 1e4).astype(np.float32)


def cartesian(folder: Path) -> Bundle:
    """A bundle whose graph holds no amplitude and no phase, only real and imaginary part."""
    onnx.save(ptychonn(heads=("94", "95")), folder / "nn.onnx")
    declaration = Declaration(
        system="x", values="intensity", zero_frequency="centre", scale=Scale("factor", 1.0), limit=Limit("none"),
        transform="none", mean_photons="unknown", real=Source("95", None), imaginary=Source("94", None),
    )  # fmt: skip
    return adopt(folder / "nn.onnx", folder / "cartesian.onnx", declaration)


def polar(folder: Path) -> Bundle:
    onnx.save(ptychonn(heads=("94", "95")), folder / "nn.onnx")
    declaration = Declaration(
        system="x", values="amplitude", zero_frequency="corner", scale=Scale("maximum"), limit=Limit("clip", 1e3),
        transform="none", mean_photons="unknown", amplitude=Source("95", None), phase=Source("94", None),
    )  # fmt: skip
    return adopt(folder / "nn.onnx", folder / "polar.onnx", declaration)


MAKERS = {
    "native": lambda folder: make_bundle(folder / "native.onnx"),
    "native, first family": lambda folder: make_bundle(
        folder / "first.onnx", Recipe(name="two-headed-cnn-1", N=64, filters_scale=0.0625)
    ),
    "phase only": lambda folder: make_foreign_bundle(folder / "foreign.onnx"),
    "real and imaginary part": cartesian,
    "amplitude and phase": polar,
}


@pytest.mark.parametrize("place", ["centre", "corner"])
@pytest.mark.parametrize("norm", [1e4, 25_000.0])
@pytest.mark.parametrize("kind", MAKERS)
def test_the_file_has_the_interface_of_ptychovit_and_computes_the_bundles_object(
    kind: str, norm: float, place: str, tmp_path: Path
) -> None:
    bundle = MAKERS[kind](tmp_path)
    words = ("export", bundle.path, "--profile", "ptychovit", "--batch", 4, "-o", tmp_path / "vit.onnx", "--norm", norm,
             "--zero-frequency", place)  # fmt: skip
    assert main([str(word) for word in words]) == 0
    session, name, batch = load_as_ptychoml_does(tmp_path / "vit.onnx")
    assert (name, batch) == ("input", 4)
    counts = np.random.default_rng(2).poisson(30, (4, 1, 64, 64)).astype(float)
    fed = feed(np.fft.ifftshift(counts, axes=(2, 3)) if place == "corner" else counts, norm)
    (output,) = session.run(["output"], {name: fed})
    assert output.shape == (4, 2, 64, 64)
    diffraction = np.sqrt(counts).astype(np.float32)
    expected = Session(bundle, threads=1).run(diffraction)[:, 0]
    # The scale is taken out of the patterns again, by a product and a root; polar form is another function.
    atol = of_bundle(bundle.model, diffraction, roundings=4) + of_polar(float(np.abs(expected).max()), np.pi)
    np.testing.assert_allclose(output[:, 0] * np.exp(1j * output[:, 1]), expected, rtol=0, atol=atol)
    if kind != "amplitude and phase":  # a network may give a negative amplitude: both belong to it
        np.testing.assert_allclose(output[:, 0], np.abs(expected), rtol=0, atol=atol)


def test_the_angle_is_right_in_every_quadrant_and_on_every_axis() -> None:
    """The operators that stand for atan2, against NumPy's."""
    angles = np.linspace(-np.pi, np.pi, 64 * 64 - 6)
    waves = (
        np.concatenate([1.5 * np.exp(1j * angles), [-1, -1e-3, 0, 1, 1j, -1j]])
        .astype(np.complex64)
        .reshape(1, 1, 64, 64)
    )
    waves.imag[waves == waves.real] = 0
    graph = onnx.helper.make_graph(
        [], "g", [onnx.helper.make_tensor_value_info("object", 1, [1, 1, 64, 64, 2])],
        [onnx.helper.make_tensor_value_info(name, 1, [1, 1, 64, 64]) for name in ("profile.absolute", "profile.angle")],
    )  # fmt: skip
    graph.node.extend(to_ptychovit._angle(graph))
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    absolute, angle = session.run(None, {"object": waves.view(np.float32).reshape(1, 1, 64, 64, 2)})
    np.testing.assert_allclose(absolute, np.abs(waves), rtol=0, atol=of_roundings(8, 1.5))
    np.testing.assert_allclose(
        absolute * np.exp(1j * angle), waves, rtol=0, atol=of_functions(1.5 * np.pi) + of_polar(1.5, np.pi)
    )
    assert np.abs(angle).max() <= np.float32(np.pi)


def test_the_file_is_an_ordinary_static_model(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b.onnx")
    assert (
        main(["export", str(bundle.path), "--profile", "ptychovit", "--batch", "64", "-o", str(tmp_path / "v.onnx")])
        == 0
    )
    model = onnx.load(tmp_path / "v.onnx")
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    sizes = [
        [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert sizes == [[64, 1, 64, 64], [64, 2, 64, 64], [64, 64], [64, 64]]
    assert not [item.key for item in model.metadata_props if item.key.startswith("ptyonnx.")]  # it is no bundle
    assert "output amplitude, phase (rad)" in model.doc_string


def test_what_cannot_be_written_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = make_bundle(tmp_path / "one.onnx").path
    four = make_bundle(tmp_path / "four.onnx", Recipe(N=64, gridsize=2, filters_scale=0.0625)).path
    out = ("-o", tmp_path / "v.onnx")
    for words, expected in (
        ((one, "--profile", "ptychonn", "--batch", 8, *out), "'--profile': "),
        ((one, "--profile", "ptychovit", *out), "'--batch': missing"),
        ((one, "--profile", "ptychovit", "--batch", 8), "'-o': missing"),
        (
            (four, "--profile", "ptychovit", "--batch", 8, *out),
            "'gridsize': ",
        ),
        (
            (one, "--profile", "ptychovit", "--batch", 8, "--norm", "-1", *out),
            "found (8, -1.0, 'centre')",
        ),
        ((one, "--profile", "ptychovit", "--batch", 8, "--zero-frequency", "left", *out), "centre or corner"),
        (
            (one, *out),
            "add --graph autoencoder or --profile ptychovit",
        ),
        ((one, "--batch", 8, *out), "'--batch': "),
        (
            (one, "--profile", "ptychovit", "--batch", 8, "--licence", "x", *out),
            "'--licence': ",
        ),
        ((one, "--profile", "ptychovit", "--batch", 8, "--checkpoint", "best", *out), "'--checkpoint': "),
        ((one, "--graph", "autoencoder", "--notes", "x", *out), "'--notes': "),
        ((one, "--graph", "autoencoder", "--checkpoint", "last", *out), "'--checkpoint': "),
        ((tmp_path / "none.onnx", "--profile", "ptychovit", "--batch", 8, *out), "cannot be read"),
    ):
        assert expected in refused(capsys, tmp_path, "export", *words)


def test_a_file_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "b.onnx")
    given = to_ptychovit._front
    monkeypatch.setattr(to_ptychovit, "_front", lambda graph, factor, N, _: given(graph, factor, N, "corner"))
    with pytest.raises(ConversionError) as refusal:
        to_ptychovit.convert(bundle, 2)
    assert str(refusal.value.found).startswith("a difference of ")


def test_the_middle_has_two_spellings_and_one_name() -> None:
    """A manifest keeps the name, whichever spelling declared it."""
    declared = Declaration(system="x", values="intensity", zero_frequency="center", scale=Scale("factor", 1.0))
    assert declared.zero_frequency == "centre"
    with pytest.raises(SettingsError) as caught:
        Declaration(system="x", zero_frequency="middle")
    assert caught.value.key == "zero_frequency"
