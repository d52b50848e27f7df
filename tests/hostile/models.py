"""Models that are not allowed in a bundle, or are not what their recipe says, or were edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile.cases import edit


def _two_of(name: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.initializer.append(_weight(model, name))


def _weight(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(item for item in model.graph.initializer if item.name == name)


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(item for item in model.graph.node if item.name == name)


def _attribute(model: onnx.ModelProto, node: str, name: str) -> onnx.AttributeProto:
    return next(item for item in _node(model, node).attribute if item.name == name)


def _put(model: onnx.ModelProto, name: str, array: Any) -> None:
    _weight(model, name).CopyFrom(numpy_helper.from_array(np.asarray(array), name))


def _function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [node], model.opset_import))


def _external(model: onnx.ModelProto) -> None:
    tensor = _weight(model, "encoder.0.conv.0.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def _located_elsewhere(model: onnx.ModelProto) -> None:
    _weight(model, "encoder.0.conv.0.weight").data_location = TensorProto.EXTERNAL


def _control_flow(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "then", [], [])
    model.graph.node.append(helper.make_node("If", ["object"], ["x"], then_branch=body, else_branch=body))


def _hidden_graph(model: onnx.ModelProto) -> None:
    _attribute(model, "encoder.0.conv.0", "group").g.name = "hidden behind an integer"


def _type_confusion(model: onnx.ModelProto) -> None:
    attribute = _attribute(model, "encoder.0.conv.0", "group")
    attribute.ClearField("i")
    attribute.ints.append(1)


def _float_for_int(model: onnx.ModelProto) -> None:
    attribute = _attribute(model, "encoder.0.conv.0", "group")
    attribute.CopyFrom(helper.make_attribute("group", 1.0))


def _renamed_weight(model: onnx.ModelProto) -> None:
    _weight(model, "encoder.0.conv.0.weight").name = "first.weight"
    _node(model, "encoder.0.conv.0").input[1] = "first.weight"


def _tensor_attribute(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(1, np.float32))
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))


def _sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def _float_data(model: onnx.ModelProto) -> None:
    tensor = _weight(model, "encoder.0.conv.0.bias")
    values = numpy_helper.to_array(tensor)
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)


def _input_dimension(axis: int, size: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size

    return change


def _sequence(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


def _overloaded(model: onnx.ModelProto) -> None:
    model.graph.node[0].overload = "another"


edit("opset_17", "wrong operator set, found 17, expected 18", lambda m: setattr(m.opset_import[0], "version", 17))
edit("no_opset", "wrong operator set, expected 18", lambda m: m.opset_import.pop())
edit("two_opsets", "two operator sets", lambda m: m.opset_import.add(domain="ai.onnx", version=17))
edit("ir_version_14", "wrong IR version, found 14, expected 10", lambda m: setattr(m, "ir_version", 14))
edit("foreign_opset", "operators of the domain 'com.evil'", lambda m: m.opset_import.add(domain="com.evil", version=1))
edit(
    "foreign_operator", "'x': operator 'com.evil::Run'",
    lambda m: m.graph.node.append(helper.make_node("Run", [], ["x"], name="x", domain="com.evil")),
)  # fmt: skip
edit("functions", "the model contains functions", _function)
edit("training_information", "the model contains training information", lambda m: m.training_info.add())
edit("overload", "the model contains overloads", _overloaded)
edit("external_data", "the model contains external data", _external)
edit("located_elsewhere", "the weights are in another file", _located_elsewhere)
edit("control_flow", "the model contains a graph as an attribute (control flow)", _control_flow)
edit("hidden_graph", "the model contains a graph as an attribute (control flow)", _hidden_graph)
edit("type_confusion", "the value of attribute 'group' is not of its type", _type_confusion)
edit(
    "attribute_twice", "'encoder.0.conv.0': duplicate attribute 'group'",
    lambda m: _node(m, "encoder.0.conv.0").attribute.append(helper.make_attribute("group", 2)),
)  # fmt: skip
edit("tensor_attribute", "the model contains a tensor as an attribute", _tensor_attribute)
edit("sparse_weights", "the model contains sparse initializers", _sparse)
edit("weights_not_raw", "the model contains tensors that are not raw data", _float_data)
edit("weight_twice", "'encoder.0.conv.0.bias': two initializers of one name", _two_of("encoder.0.conv.0.bias"))
edit(
    "half_precision",
    "'whitening.mean': unusual initializer",
    lambda m: _put(m, "whitening.mean", np.ones((32, 32), np.float16)),
)
edit(
    "negative_shape", "'whitening.mean': shape and size of an initializer do not match",
    lambda m: _weight(m, "whitening.mean").dims.__setitem__(slice(None), [-32, -32]),
)  # fmt: skip
edit(
    "enormous_shape", "'whitening.mean': shape and size of an initializer do not match",
    lambda m: _weight(m, "whitening.mean").dims.__setitem__(slice(None), [2**62, 2**62, 2**62]),
)  # fmt: skip
edit(
    "shape_of_another_size", "'whitening.mean': shape and size of an initializer do not match",
    lambda m: _weight(m, "whitening.mean").dims.__setitem__(0, 31),
)  # fmt: skip


# Not the recipe's graph, although the digests are right.


edit(
    "two_inputs", "'diffraction': wrong input of the graph",
    lambda m: m.graph.input.append(helper.make_tensor_value_info("positions", 1, ["batch", 2])),
)  # fmt: skip
edit("two_outputs", "'object': wrong output of the graph", lambda m: m.graph.output.append(m.graph.output[0]))
edit("input_renamed", "'diffraction': wrong input of the graph", lambda m: setattr(m.graph.input[0], "name", "input"))
edit("fixed_batch", "'diffraction': wrong input of the graph", _input_dimension(0, 8))
edit("input_of_another_size", "'diffraction': wrong input of the graph", _input_dimension(3, 64))
edit("negative_dimension", "'diffraction': wrong input of the graph", _input_dimension(3, -1))
edit("input_is_a_sequence", "the model contains sequences", _sequence)
edit(
    "additional_operator",
    "not the graph of the recipe",
    lambda m: m.graph.node.add(op_type="Relu", input=["object"], output=["x"]),
)
edit("missing_operator", "not the graph of the recipe", lambda m: m.graph.node.pop())
edit("another_operator", "'real': not the graph of the recipe", lambda m: setattr(_node(m, "real"), "op_type", "Add"))
edit(
    "another_attribute", "'encoder.0.conv.0': not the graph of the recipe",
    lambda m: _attribute(m, "encoder.0.conv.0", "pads").ints.__setitem__(slice(None), [0, 0, 2, 2]),
)  # fmt: skip
edit("float_for_int", "'encoder.0.conv.0': not the graph of the recipe", _float_for_int)
edit(
    "missing_weight",
    "'complex.axis': the initializer is missing",
    lambda m: m.graph.initializer.remove(_weight(m, "complex.axis")),
)
edit(
    "renamed_weight", "different inputs, found whitening.scaled, first.weight, encoder.0.conv.0.bias, expected ", _renamed_weight,
)  # fmt: skip
edit(
    "additional_weight", "'extra': not an initializer of the recipe",
    lambda m: m.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "extra")),
)  # fmt: skip
edit(
    "weight_of_another_shape",
    "'whitening.mean': wrong initializer",
    lambda m: _put(m, "whitening.mean", np.ones((32, 1), np.float32)),
)
edit(
    "changed_constant",
    "'phase.maximum': the constant has another value",
    lambda m: _put(m, "phase.maximum", np.float32(3)),
)
edit(
    "infinite_weight",
    "'whitening.scale': NaN or infinity among the weights",
    lambda m: _put(m, "whitening.scale", np.float32(np.inf)),
)


# Changed after the digests were computed.


edit(
    "edited_weight", "'digest of the weights': the weights changed after the bundle was written",
    lambda m: _put(m, "whitening.scale", np.float32(0.21)), seal=False,
)  # fmt: skip
edit(
    "edited_graph", "'encoder.0.conv.0': not the graph of the recipe: different attributes",
    lambda m: setattr(_attribute(m, "encoder.0.conv.0", "group"), "i", 2), seal=False,
)  # fmt: skip
