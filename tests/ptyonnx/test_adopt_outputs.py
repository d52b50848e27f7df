"""Outputs of a foreign network are used as declared: no channel twice, no preset against the file or the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from adopting import PLAIN, REST, adopted
from float32_bounds import of_polar, of_roundings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx import open_bundle
from ptyonnx.cli import main
from ptyonnx_bundles.errors import ConversionError, SettingsError
from ptyonnx_converters import to_ptychovit
from ptyonnx_converters.foreign.declaration import ONE, ZERO, Declaration, Source
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical

N = 32
AMPLITUDE = 0.898  # exp(i 0.898) is 0.62 + 0.78i: what a phase in its place gives


def network(constants: Sequence[float], output: str = "output", *, last: bool = False) -> onnx.ModelProto:
    """One channel for each number: the number plus a small multiple of the pattern."""
    count = len(constants)
    axis, at = (-1, (1, 1, 1, count)) if last else (1, (1, count, 1, 1))
    shape = ["b", N, N, count] if last else ["b", count, N, N]
    arrays = {"w": np.full(at, 1e-3, np.float32), "c": np.array(constants, np.float32).reshape(at)}
    nodes = [
        helper.make_node("Transpose" if last else "Identity", ["x"], ["y"], **({"perm": [0, 2, 3, 1]} if last else {})),
        helper.make_node("Concat", ["y"] * count, ["many"], axis=axis),
        helper.make_node("Mul", ["many", "w"], ["weak"]),
        helper.make_node("Add", ["weak", "c"], [output]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 1, N, N])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def patterns(channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, 3, (2, channels, N, N)).astype(np.float32)


def adopt_with(folder: Path, model: onnx.ModelProto, *words: str) -> NDArray[np.complex64]:
    """Adopt by the command line and compute the object."""
    onnx.save(model, folder / "m.onnx")
    assert main(["adopt", str(folder / "m.onnx"), "-o", str(folder / "b.onnx"), *REST, *words]) == 0
    return np.asarray(Session(open_bundle(folder / "b.onnx"), threads=1).run(patterns()))


def refusal(capsys: pytest.CaptureFixture[str], folder: Path, model: onnx.ModelProto, *words: str) -> str:
    onnx.save(model, folder / "m.onnx")
    assert main(["adopt", str(folder / "m.onnx"), "-o", str(folder / "b.onnx"), *REST, *words]) == 2
    assert not (folder / "b.onnx").exists()
    return capsys.readouterr().err.strip()


REAL = patterns() * 1e-3  # of every channel, beside its constant
ATOL = of_polar(1, 1) + of_roundings(2)  # amplitudes and phases below 1, each a product and a sum


@pytest.mark.parametrize(
    "words",
    [
        ("--system", "ptychovit", "--amplitude", "output"),
        ("--system", "ptychovit", "--amplitude", "@0"),
        ("--system", "ptychovit", "--phase", "zero"),
        ("--system", "ptychonn", "--values", "amplitude", "--amplitude", "output"),
        ("--system", "x", "--values", "amplitude", "--limit", "none", "--transform", "none", "--amplitude", "output"),
        ("--system", "x", "--values", "amplitude", "--limit", "none", "--transform", "none", "--amplitude", "output", "--phase", "zero"),
    ],
)  # fmt: skip
def test_a_network_that_gives_amplitude_only_gives_a_real_object(words: tuple[str, ...], tmp_path: Path) -> None:
    found = adopt_with(tmp_path, network([AMPLITUDE]), *words)
    np.testing.assert_allclose(found, AMPLITUDE + REAL, rtol=0, atol=ATOL)
    manifest = open_bundle(tmp_path / "b.onnx").manifest
    assert manifest.recipe.conventions["output"]["phase"] == ZERO  # type: ignore[union-attr,index,call-overload]


def test_one_channel_of_ptychovit_may_be_either_and_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, tmp_path, network([AMPLITUDE]), "--system", "ptychovit")
    assert "--amplitude" in line
    assert "--phase" in line
    for words in (("--phase", "output"), ("--amplitude", "one")):
        found = adopt_with(tmp_path, network([0.25]), "--system", "ptychovit", *words)
        np.testing.assert_allclose(found, np.exp(1j * (0.25 + REAL)), rtol=0, atol=ATOL)


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("system, order", [("ptychovit", (AMPLITUDE, 0.25)), ("ptychonn", (0.25, AMPLITUDE))])
def test_a_preset_completes_what_was_declared_in_its_own_way(
    *, system: str, order: tuple[float, float], last: bool, tmp_path: Path
) -> None:
    expected = (AMPLITUDE + REAL) * np.exp(1j * (0.25 + REAL))
    amplitude = order.index(AMPLITUDE)
    for words in ((), ("--amplitude", f"@{amplitude}"), ("--phase", f"output@{1 - amplitude}")):
        found = adopt_with(tmp_path, network(order, last=last), "--system", system, "--values", "amplitude", *words)
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    "words, key",
    [
        (("--amplitude", "output@1"), "--phase OUTPUT@CHANNEL|zero"),
        (("--phase", "output@0"), "--amplitude OUTPUT@CHANNEL|one"),
        (("--phase", "zero"), "--amplitude OUTPUT@CHANNEL|one"),
        (("--real", "output@0"), "--imaginary OUTPUT@CHANNEL"),
    ],
)
def test_a_preset_that_is_contradicted_says_nothing_about_the_outputs(
    words: tuple[str, ...], key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--amplitude output@1` once kept the preset's phase, of that very channel."""
    line = refusal(capsys, tmp_path, network([AMPLITUDE, 0.25]), "--system", "ptychovit", *words)
    assert f"expected {key};" in line


@pytest.mark.parametrize("name", ["amplitude", "out_amp", "ABS"])
def test_an_output_that_is_called_amplitude_is_no_presets_phase(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--phase" in refusal(capsys, tmp_path, network([AMPLITUDE], name), "--system", "ptychonn")


def test_outputs_that_a_preset_does_not_know_can_be_declared_beside_it(tmp_path: Path) -> None:
    model = network([AMPLITUDE])
    model.graph.node.append(helper.make_node("Relu", ["output"], ["other"]))
    model.graph.output[0].name = "first"
    model.graph.node[3].output[0] = "first"
    model.graph.node[4].input[0] = "first"
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["b", 1, N, N]))
    found = adopt_with(tmp_path, model, "--system", "ptychovit", "--amplitude", "first", "--phase", "other")
    np.testing.assert_allclose(found, (AMPLITUDE + REAL) * np.exp(1j * (AMPLITUDE + REAL)), rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    "parts",
    [
        {"amplitude": Source("output", 1), "phase": Source("output", 1)},
        {"amplitude": Source("output", None), "phase": Source("output", None)},
        {"amplitude": Source("", 0), "phase": Source("output", None)},
        {"real": Source("output", 0), "imaginary": Source("", None)},
    ],
)
def test_one_channel_for_two_parts_is_refused(parts: dict[str, Source], tmp_path: Path) -> None:
    declared = {**vars(PLAIN), "phase": None, "amplitude": None, **parts}
    with pytest.raises(SettingsError) as raised:
        adopted(network([AMPLITUDE, 0.25]), tmp_path, Declaration(**declared))
    assert set(str(raised.value.key).replace("--", "").split(", ")) == set(parts)


def test_two_constants_are_no_network() -> None:
    with pytest.raises(SettingsError) as raised:
        Declaration(amplitude=ONE, phase=ZERO)
    assert raised.value.key == "amplitude, phase"


def complex_network(axes: str, channels: int = 1, parts: int = 2) -> onnx.ModelProto:
    """Part k of the object is pattern times (k + 1), in a last axis."""
    first = axes == "first"
    given = ["b", channels, N, N] if first else ["b", N, N, channels]
    shape = ["b", N, N] if axes == "planes" else given
    factors = np.arange(1, parts + 1, dtype=np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "last"], ["wide"]),
        helper.make_node("Mul", ["wide", "factors"], ["object"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("object", TensorProto.FLOAT, [*shape, parts])],
        [numpy_helper.from_array(factors, "factors"), numpy_helper.from_array(np.array([-1]), "last")],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("axes, channels", [("first", 1), ("first", 4), ("last", 1), ("last", 4), ("planes", 1)])
@pytest.mark.parametrize("said", ["object", "parts"])
def test_real_and_imaginary_part_in_a_last_axis_are_adopted(
    said: str, axes: str, channels: int, tmp_path: Path
) -> None:
    parts: dict[str, Any] = {"object": Source("", None)}
    if said == "parts":
        parts = {"real": Source("object", 0), "imaginary": Source("object", 1)}
    declared = {**vars(PLAIN), "values": "amplitude", "phase": None, "amplitude": None, "gridsize": int(channels**0.5)}
    bundle = adopted(complex_network(axes, channels), tmp_path, Declaration(**{**declared, **parts}))
    given = patterns(channels)
    np.testing.assert_allclose(Session(bundle, threads=1).run(given), given * (1 + 2j), rtol=of_roundings(2))


def test_parts_of_a_last_axis_may_be_anything(tmp_path: Path) -> None:
    declared = {**vars(PLAIN), "values": "amplitude", "amplitude": Source("", 2), "phase": Source("", 0)}
    bundle = adopted(complex_network("first", parts=3), tmp_path, Declaration(**declared))
    given = patterns()
    np.testing.assert_allclose(
        Session(bundle, threads=1).run(given), 3 * given * np.exp(1j * given), rtol=0, atol=of_polar(9, 3)
    )


def test_a_complex_object_is_in_a_last_axis_of_two(tmp_path: Path) -> None:
    declared = {**vars(PLAIN), "phase": None, "amplitude": None, "object": Source("", None)}
    for model in (complex_network("first", parts=3), network([1.0, 2.0])):
        with pytest.raises(SettingsError) as raised:
            adopted(model, tmp_path, Declaration(**declared))
        assert raised.value.key == "object"
    with pytest.raises(SettingsError):
        Declaration(object=Source("y", None), phase=Source("y", 0))


def test_what_a_bundle_gives_can_be_adopted_as_it_stands(tmp_path: Path) -> None:
    """An amplitude-only bundle goes out to another system and comes in again; its metadata taken off, it is any network."""
    declared = {**vars(PLAIN), "values": "amplitude", "phase": None, "amplitude": Source("", None)}
    bundle = adopted(network([-AMPLITUDE]), tmp_path, Declaration(**declared))
    model = onnx.load_model_from_string(bundle.model)
    del model.metadata_props[:]
    again = adopted(model, tmp_path, Declaration(**{**declared, "amplitude": None, "object": Source("", None)}))
    vit = to_ptychovit.convert(again, 2)
    session = onnxruntime.InferenceSession(vit, providers=["CPUExecutionProvider"])
    (found,) = session.run(["output"], {"input": patterns()})
    # There and back: a polar form twice.
    np.testing.assert_allclose(found[:, 0] * np.exp(1j * found[:, 1]), (REAL - AMPLITUDE)[:, 0], rtol=0, atol=2 * ATOL)


def test_an_output_of_another_size_is_no_image(tmp_path: Path) -> None:
    model = complex_network("first")
    model.graph.node.append(helper.make_node("Squeeze", ["object", "one"], ["y"]))
    model.graph.node.append(helper.make_node("Transpose", ["y"], ["z"], perm=[0, 3, 1, 2]))
    model.graph.node.append(helper.make_node("Unsqueeze", ["z", "last"], ["strange"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("strange", TensorProto.FLOAT, ["b", 2, N, N, 1]))
    with pytest.raises(ConversionError) as raised:
        adopted(model, tmp_path, Declaration(**{**vars(PLAIN), "phase": Source("strange", 0)}))
    assert raised.value.key == "strange"
