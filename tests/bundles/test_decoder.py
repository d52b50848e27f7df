"""The decoder reads the same model as the onnx package, for every encoding of the model."""

from __future__ import annotations

import struct

import numpy as np
import onnx
import pytest
from bundle_factory import canonical_model, example_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from ptyonnx_bundles import IR_VERSION, OPSET, OnnxFile, Recipe, read_onnx
from ptyonnx_bundles.onnx_model.onnx_file import append_metadata, strip_metadata

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32, allow_nan=False)
ATTRIBUTES = st.one_of(INTS, FLOATS, NAMES, *(st.lists(kind, min_size=1, max_size=5) for kind in (INTS, FLOATS, NAMES)))


def assert_same(decoded: OnnxFile, model: onnx.ModelProto) -> None:
    """Compare with the parser of the onnx package."""
    graph = model.graph
    assert [(n.name, n.operator, n.inputs, n.outputs) for n in decoded.nodes] == [
        (n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node
    ]
    assert [n.attributes for n in decoded.nodes] == [
        {a.name: attribute_value(a) for a in n.attribute} for n in graph.node
    ]
    assert list(decoded.initializers) == [tensor.name for tensor in graph.initializer]
    for tensor in graph.initializer:
        expected, found = numpy_helper.to_array(tensor), decoded.initializers[tensor.name]
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
        assert not found.flags.writeable
    for values, wanted in ((decoded.inputs, graph.input), (decoded.outputs, graph.output)):
        assert [(v.name, v.shape) for v in values] == [
            (v.name, tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim)) for v in wanted
        ]
        assert [v.dtype for v in values] == [
            helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name for v in wanted
        ]
    assert decoded.metadata == {item.key: item.value for item in model.metadata_props}


def attribute_value(attribute: AttributeProto) -> object:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return value
    return tuple(item.decode() if isinstance(item, bytes) else item for item in value)


@pytest.mark.parametrize("recipe", [Recipe(N=32, gridsize=2, filters_scale=0.05), Recipe(N=64), Recipe(N=256)], ids=str)
def test_canonical_models(recipe: Recipe) -> None:
    model = canonical_model(recipe, example_weights(recipe))
    assert_same(read_onnx(model), onnx.load_model_from_string(model))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(NAMES, NAMES, st.lists(NAMES, max_size=4), st.dictionaries(NAMES, ATTRIBUTES, max_size=4)), max_size=5
    ),
    st.lists(st.one_of(st.integers(1, 2**62), NAMES.filter(bool)), max_size=5),
    st.dictionaries(NAMES, NAMES, max_size=4),
)
def test_models_of_any_content(nodes: list[tuple], shape: list[int | str], metadata: dict[str, str]) -> None:
    made = [
        helper.make_node(operator, inputs, inputs[::-1], name=name, doc_string="x")
        for name, operator, inputs, _ in nodes
    ]
    for node, (_, _, _, attributes) in zip(made, nodes, strict=True):
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    numbers = numpy_helper.from_array(np.arange(6, dtype=np.int64).reshape(2, 3), "numbers")
    graph = helper.make_graph(made, "any", [value], [value], [numbers], doc_string="y", value_info=[value])
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("ai.onnx", OPSET)])
    helper.set_model_props(model, metadata)
    assert_same(read_onnx(model.SerializeToString()), model)


def recoded(message: object, *, packed: bool) -> bytes:
    """Serialise a protobuf message by hand: last field first, repeated numbers packed or not."""
    parts = []
    for field, value in reversed(message.ListFields()):
        if field.is_repeated and field.cpp_type in {field.CPPTYPE_INT64, field.CPPTYPE_INT32, field.CPPTYPE_FLOAT}:
            kind, items = (
                (5, [struct.pack("<f", v) for v in value])
                if field.cpp_type == field.CPPTYPE_FLOAT
                else (0, [varint(v) for v in value])
            )
            if packed:
                parts.append(varint(field.number << 3 | 2) + varint(len(b"".join(items))) + b"".join(items))
            else:
                parts += [varint(field.number << 3 | kind) + item for item in items]
            continue
        for item in value if field.is_repeated else [value]:
            if field.cpp_type == field.CPPTYPE_MESSAGE:
                content = recoded(item, packed=packed)
            elif field.cpp_type == field.CPPTYPE_STRING:
                content = item if isinstance(item, bytes) else item.encode()
            elif field.cpp_type == field.CPPTYPE_FLOAT:
                parts.append(varint(field.number << 3 | 5) + struct.pack("<f", item))
                continue
            else:
                parts.append(varint(field.number << 3) + varint(item))
                continue
            parts.append(varint(field.number << 3 | 2) + varint(len(content)) + content)
    return b"".join(parts)


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


@pytest.mark.parametrize("packed", [True, False])
def test_order_of_fields_and_packing_do_not_matter(packed: bool) -> None:
    recipe = Recipe(N=32, filters_scale=0.05)
    model = onnx.load_model_from_string(canonical_model(recipe, example_weights(recipe)))
    model.graph.node[0].attribute.append(helper.make_attribute("floats", [0.5, -1.25, 3.0]))
    model.graph.node[0].attribute.append(helper.make_attribute("float", -0.5))
    model.graph.node[0].attribute.append(helper.make_attribute("negative", [-1, -(2**63)]))
    encoded = recoded(model, packed=packed)
    assert onnx.load_model_from_string(encoded) == model  # the encoder of this test is right
    assert encoded != model.SerializeToString()
    assert_same(read_onnx(encoded), model)


@given(st.dictionaries(NAMES, NAMES, max_size=6), st.dictionaries(NAMES, NAMES, max_size=6))
@settings(max_examples=50, deadline=None)
def test_metadata_are_added_and_taken_out_and_nothing_else_changes(
    first: dict[str, str], second: dict[str, str]
) -> None:
    recipe = Recipe(N=32, filters_scale=0.01)
    bare = canonical_model(recipe, example_weights(recipe))
    kept = {f"other.{key}": value for key, value in first.items()}
    complete = append_metadata(append_metadata(bare, kept), {f"mine.{key}": value for key, value in second.items()})
    parsed = onnx.load_model_from_string(complete)
    assert {item.key: item.value for item in parsed.metadata_props} == {
        **kept,
        **{f"mine.{key}": value for key, value in second.items()},
    }
    stripped = strip_metadata(complete, "mine.")
    assert read_onnx(stripped).metadata == kept
    assert strip_metadata(stripped, "other.") == bare
