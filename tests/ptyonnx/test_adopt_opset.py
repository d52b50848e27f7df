"""Files of older operator sets give the same values as a bundle, bit for bit if only names have changed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from adopting import PLAIN, adopted
from float32_bounds import of_bundle, of_roundings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.declaration import Declaration, Source
from ptyonnx_converters.foreign.opset import convert_opset
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical

CARTESIAN = Declaration(
    **{
        **vars(PLAIN), "values": "amplitude", "phase": None, "amplitude": None,
        "real": Source("output", 0), "imaginary": Source("output", 1),
    }
)  # fmt: skip
MODES = ("linear", "nearest")
# Upsample grows only; Resize of operator set 10 shrinks, too.
SCALES = {7: [(2, 2), (1.5, 3)], 8: [(2, 2)], 9: [(2, 2), (1.5, 1.5)], 10: [(2, 2), (0.5, 0.5), (0.3, 0.7), (2.7, 0.3)]}
CASES = [(*case, scale) for case in itertools.product(SCALES, MODES) for scale in SCALES[case[0]]]


def resizing(opset: int, mode: str, scale: tuple[float, float], shape: list[int | str]) -> onnx.ModelProto:
    """A single resize operator of its operator set: scales as attribute, as weight, or from Constant."""
    scales = np.array([1, 1, *scale], np.float32)
    kind = "Resize" if opset >= 10 else "Upsample"
    said = {"scales": scales.tolist()} if opset < 9 else {}
    nodes = [helper.make_node(kind, ["x", "s"] if opset >= 9 else ["x"], ["output"], mode=mode, **said)]
    if opset == 9:
        nodes.insert(0, helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(scales)))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(scales, "s")] if opset >= 10 else [],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", opset)])


def run(model: onnx.ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: values})
    return np.asarray(found)


@pytest.mark.parametrize("opset, mode, scale", CASES)
def test_a_resize_of_before_operator_set_11_looks_at_the_same_pixels(
    opset: int, mode: str, scale: tuple[float, float]
) -> None:
    """The reference is onnxruntime on the unchanged file; half a pixel of difference is 1 and more."""
    model = resizing(opset, mode, scale, ["b", 2, 15, 16])
    values = np.random.default_rng(0).standard_normal((3, 2, 15, 16)).astype(np.float32)
    difference = np.abs(run(convert_opset(model, "f"), values) - run(model, values))
    assert float(difference.max()) == 0


def test_a_linear_resize_is_not_the_one_that_came_later() -> None:
    """The test of the test: with half_pixel, which the version converter writes, images differ."""
    model = resizing(10, "linear", (2, 2), ["b", 2, 15, 16])
    later = onnx.version_converter.convert_version(model, 18)
    values = np.random.default_rng(0).standard_normal((3, 2, 15, 16)).astype(np.float32)
    assert np.abs(run(later, values) - run(model, values)).max() > 0.1


@pytest.mark.parametrize("opset", [7, 9, 10])
@pytest.mark.parametrize("mode", MODES)
def test_a_decoder_that_resizes_is_adopted(opset: int, mode: str, tmp_path: Path) -> None:
    model = resizing(opset, mode, (2, 2), ["b", 2, 32, 32])
    model.graph.node[-1].input[0] = "c"
    weight = np.random.default_rng(0).standard_normal((2, 1, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model.graph.node.insert(0, helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, strides=[2, 2]))
    for value in (*model.graph.input, *model.graph.output):
        value.CopyFrom(
            helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["b", 1 + (value.name != "x"), 64, 64])
        )
    bundle = adopted(model, tmp_path, CARTESIAN)
    values = np.random.default_rng(1).uniform(0, 1, (3, 1, 64, 64)).astype(np.float32)
    expected = run(model, values)
    found, atol = Session(bundle, threads=1).run(values)[:, 0], of_bundle(bundle.model, values)
    np.testing.assert_allclose(found, expected[:, 0] + 1j * expected[:, 1], rtol=0, atol=atol)


def free_network(shape: list[int | str], other: list[int | str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["output"], axis=1), helper.make_node("Relu", ["aside"], ["unused"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), helper.make_tensor_value_info("aside", TensorProto.FLOAT, other)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [shape[0], 2, *shape[2:]])],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)])


@pytest.mark.parametrize(
    "shape, size", [([-1, 1, 64, 64], None), ([-1, 1, -1, 64], None), ([-1, 1, -1, -1], 64), (["b", -1, 64, 64], None)]
)
def test_an_axis_of_size_minus_one_is_free(shape: list[int | str], size: int | None, tmp_path: Path) -> None:
    declaration = Declaration(**{**vars(CARTESIAN), "N": size})
    if shape[1] == -1:  # any number of channels: then nobody knows which of them are patterns
        with pytest.raises(ConversionError) as raised:
            adopted(free_network(shape, [-1, 3]), tmp_path, declaration)
        assert raised.value.key == "x"
        return
    bundle = adopted(free_network(shape, [-1, 3]), tmp_path, declaration)
    assert bundle.graph.inputs[0].shape == ("batch", 1, 64, 64)
    values = np.random.default_rng(1).uniform(0, 1, (3, 1, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(Session(bundle, threads=1).run(values), values * (1 + 1j), rtol=of_roundings(2))


def test_a_size_below_minus_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as raised:
        adopted(free_network([-2, 1, 64, 64], [2, 3]), tmp_path, CARTESIAN)
    assert raised.value.key == "x"
