"""The canonical pass refuses every graph that is not the recipe's, and says where it differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.canonical import build_model, canonical_model, prove_equal
from ptyonnx_converters.normal_form import OPERATORS

OPSET = 18


def nodes_of(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def array_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(tensor)


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    for index, attribute in enumerate(node.attribute):
        if attribute.name == name:
            del node.attribute[index]
            break
    node.attribute.append(helper.make_attribute(name, value))


def insert_after(model: onnx.ModelProto, node: onnx.NodeProto, *added: onnx.NodeProto) -> None:
    """Let all readers of a node read the last of some new nodes, which stand behind it."""
    at = list(model.graph.node).index(node) + 1
    for other in model.graph.node[at:]:
        for index, name in enumerate(other.input):
            if name == node.output[0]:
                other.input[index] = added[-1].output[0]
    for offset, new in enumerate(added):
        model.graph.node.insert(at + offset, new)


def another_activation(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "LeakyRelu")[3]
    node.CopyFrom(helper.make_node("Tanh", node.input, node.output, node.name))
    return node.name


def another_head(model: onnx.ModelProto) -> str:
    (node,) = nodes_of(model, "Tanh")
    node.op_type = "Sigmoid"
    return node.name


def an_unknown_operator(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "LeakyRelu")[0]
    node.CopyFrom(helper.make_node("Softplus", node.input, node.output, node.name))
    return node.name


def a_missing_operator(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "LeakyRelu")[-1]
    node.CopyFrom(helper.make_node("Identity", node.input, node.output, node.name))
    (reader,) = (other for other in model.graph.node if node.output[0] in other.input)
    return reader.name


def half_pixel_resize(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "Resize")[0]
    set_attribute(node, "coordinate_transformation_mode", "half_pixel")
    return node.name


def shifted_padding(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "Conv")[2]
    set_attribute(node, "pads", [2, 2, 0, 0])
    return node.name


def padding_by_name(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "Conv")[2]
    del node.attribute[[attribute.name for attribute in node.attribute].index("pads")]
    set_attribute(node, "auto_pad", "SAME_UPPER")
    return node.name


def overlapping_pool(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "MaxPool")[1]
    set_attribute(node, "kernel_shape", [3, 3])
    set_attribute(node, "pads", [1, 1, 0, 0])
    return node.name


def an_extra_operator(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "MaxPool")[0]
    insert_after(model, node, helper.make_node("Relu", [node.output[0]], ["extra:0"], "extra"))
    return "extra"


def a_mirrored_image(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "MaxPool")[0]
    insert_after(model, node, helper.make_node("Transpose", [node.output[0]], ["extra:0"], "extra", perm=[0, 1, 3, 2]))
    return "extra"


def a_reshape_and_back(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "MaxPool")[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 8, 24, 24]), "there"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 24, 8, 24]), "aside"))
    insert_after(
        model,
        node,
        helper.make_node("Reshape", [node.output[0], "aside"], ["aside:0"], "moving"),
        helper.make_node("Reshape", ["aside:0", "there"], ["there:0"], "back"),
    )
    return "moving"


def an_operator_that_leads_nowhere(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "LeakyRelu")[0]
    model.graph.node.append(helper.make_node("Sin", [node.output[0]], ["extra:0"], "extra"))
    return "extra"


def a_constant_that_nothing_uses(model: onnx.ModelProto) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "left over"))
    return "left over"


def a_dropped_bias(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "Conv")[4]
    bias = node.input.pop()
    names = [tensor.name for tensor in model.graph.initializer]
    del model.graph.initializer[names.index(bias)]
    return node.name


def exchanged_parts(model: onnx.ModelProto) -> str:
    (node,) = nodes_of(model, "Concat")
    real, imaginary = node.input
    node.input[:] = [imaginary, real]
    return node.name


def another_domain(model: onnx.ModelProto) -> str:
    node = nodes_of(model, "LeakyRelu")[0]
    node.domain = "ai.onnx.ml"
    return node.name


def another_maximum(model: onnx.ModelProto) -> str:
    (squashed,) = nodes_of(model, "Sigmoid")
    (node,) = (other for other in model.graph.node if squashed.output[0] in other.input)
    (constant,) = (name for name in node.input if name != squashed.output[0])
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.name == constant:
            del model.graph.initializer[index]
    for index, other in enumerate(model.graph.node):
        if constant in other.output:
            del model.graph.node[index]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1.0, np.float32), constant))
    return node.name


SPOILERS: list[Callable[[onnx.ModelProto], str]] = [
    another_activation,
    another_head,
    an_unknown_operator,
    a_missing_operator,
    half_pixel_resize,
    shifted_padding,
    padding_by_name,
    overlapping_pool,
    an_extra_operator,
    a_mirrored_image,
    a_reshape_and_back,
    an_operator_that_leads_nowhere,
    a_constant_that_nothing_uses,
    a_dropped_bias,
    exchanged_parts,
    another_domain,
    another_maximum,
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_a_wrong_graph_is_refused_and_the_operator_named(
    spoil: Callable[[onnx.ModelProto], str], exported: onnx.ModelProto, small: Any
) -> None:
    name = spoil(exported)
    with pytest.raises(ConversionError) as refusal:
        canonical_model(exported, small.recipe, small.weights)
    assert name in str(refusal.value)


def test_an_error_names_what_stands_there_and_what_should(exported: onnx.ModelProto, small: Any) -> None:
    node = nodes_of(exported, "Conv")[0]
    set_attribute(node, "pads", [2, 2, 0, 0])
    with pytest.raises(ConversionError) as refusal:
        canonical_model(exported, small.recipe, small.weights)
    assert refusal.value.key == node.name
    assert refusal.value.found == f"Conv ({node.name}) with pads (2, 2, 0, 0)"
    assert refusal.value.expected == "Conv (encoder.0.conv.0) with pads (1, 1, 1, 1)"


def test_one_bit_of_any_weight_is_noticed(exported: onnx.ModelProto, small: Any) -> None:
    canonical = build_model(small.recipe, small.weights)
    prove_equal(exported, canonical)
    for tensor in exported.graph.initializer:
        if not tensor.raw_data:
            continue  # tf2onnx writes an empty region of interest
        whole = tensor.raw_data
        tensor.raw_data = bytes([whole[0] ^ 1]) + whole[1:]
        with pytest.raises(ConversionError):
            prove_equal(exported, canonical)
        tensor.raw_data = whole
    prove_equal(exported, canonical)


def test_no_attribute_that_an_exporter_wrote_is_ignored(exported: onnx.ModelProto, small: Any) -> None:
    canonical = build_model(small.recipe, small.weights)
    for node in exported.graph.node:
        for attribute in node.attribute:
            written = onnx.AttributeProto()
            written.CopyFrom(attribute)
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(written.t) + np.float32(1)))
            elif attribute.type == onnx.AttributeProto.STRING:
                attribute.s = b"cubic"
            elif attribute.type in {onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT}:
                value = helper.get_attribute_value(written)
                attribute.CopyFrom(helper.make_attribute(attribute.name, value + 1))
            else:
                first, *rest = helper.get_attribute_value(written)
                attribute.CopyFrom(helper.make_attribute(attribute.name, [first + 1, *rest]))
            with pytest.raises(ConversionError):
                prove_equal(exported, canonical)
            attribute.CopyFrom(written)
    prove_equal(exported, canonical)


def test_a_graph_that_ends_early_is_refused() -> None:
    def repeated(operator: str, times: int) -> onnx.ModelProto:
        values = ["diffraction", *[f"value {index}" for index in range(1, times)], "object"]
        nodes = [helper.make_node(operator, [values[index]], [values[index + 1]]) for index in range(times)]
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in values[::times]]
        graph = helper.make_graph(nodes, "repeated", ends[:1], ends[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])

    prove_equal(repeated("Relu", 2), repeated("Relu", 2))
    with pytest.raises(ConversionError) as refusal:
        prove_equal(repeated("Relu", 1), repeated("Relu", 2))
    assert (refusal.value.key, refusal.value.found, refusal.value.expected) == ("object", "Relu", "object")


def test_an_unlisted_attribute_is_refused(exported: onnx.ModelProto, small: Any) -> None:
    node = nodes_of(exported, "Resize")[0]
    set_attribute(node, "axes", [0, 1, 2, 3])
    with pytest.raises(ConversionError) as refusal:
        canonical_model(exported, small.recipe, small.weights)
    assert refusal.value.key == node.name
    assert "axes" in str(refusal.value.found)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_fixed_batch_is_refused(side: str, exported: onnx.ModelProto, small: Any) -> None:
    for value in getattr(exported.graph, side):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ConversionError):
        canonical_model(exported, small.recipe, small.weights)


def test_another_operator_set_is_refused(exported: onnx.ModelProto, small: Any) -> None:
    exported.opset_import[0].version = 19
    with pytest.raises(ConversionError) as refusal:
        canonical_model(exported, small.recipe, small.weights)
    assert refusal.value.expected == OPSET


def test_weights_in_another_file_are_refused(exported: onnx.ModelProto, small: Any) -> None:
    tensor = next(tensor for tensor in exported.graph.initializer if tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.data")
    with pytest.raises(ConversionError):
        canonical_model(exported, small.recipe, small.weights)


def test_layers_that_were_merged_must_have_equal_weights(small: Any) -> None:
    weights = small.weights
    first, second = "encoder.2.conv.1.weight", "decoder.amplitude.1.conv.1.weight"
    merged = build_model(small.recipe, weights)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in merged.graph.initializer}
    twin = "decoder.phase.1.conv.1.weight"
    assert shapes[second] == shapes[twin] != shapes[first]
    for node in merged.graph.node:
        for index, name in enumerate(node.input):
            if name == twin:
                node.input[index] = second
    del merged.graph.initializer[[tensor.name for tensor in merged.graph.initializer].index(twin)]
    with pytest.raises(ConversionError) as refusal:
        canonical_model(merged, small.recipe, weights)
    assert refusal.value.key == "decoder.phase.1.conv.1"
    canonical_model(merged, small.recipe, {**weights, twin: weights[second]})


@pytest.mark.parametrize(
    "change, key",
    [
        ({"whitening.mean": None}, "whitening.mean"),
        ({"surplus": np.zeros(2, np.float32)}, "surplus"),
        ({"whitening.scale": np.zeros((), np.float64)}, "whitening.scale"),
        ({"whitening.scale": np.zeros(1, np.float32)}, "whitening.scale"),
    ],
    ids=["missing", "surplus", "float64", "another shape"],
)
def test_native_weights_that_are_not_the_recipes_are_refused(change: dict[str, Any], key: str) -> None:
    recipe = Recipe(N=32, filters_scale=0.1)
    weights = {**recipe.initial_weights(0), "whitening.mean": np.zeros((32, 32), np.float32)}
    weights["whitening.scale"] = np.ones((), np.float32)
    weights |= change
    with pytest.raises(ConversionError) as refusal:
        build_model(recipe, {name: array for name, array in weights.items() if array is not None})
    assert refusal.value.key == key


@pytest.mark.parametrize("operator", OPERATORS)
def test_attributes_and_defaults_are_those_of_the_standard(operator: str) -> None:
    schema = onnx.defs.get_schema(operator, OPSET)
    assert set(OPERATORS[operator]) == set(schema.attributes)
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            value = helper.get_attribute_value(attribute.default_value)
            assert OPERATORS[operator][name] == (value.decode() if isinstance(value, bytes) else pytest.approx(value))
        if attribute.required:
            assert OPERATORS[operator][name] is None
