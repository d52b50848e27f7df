"""Simplify a graph: drop nodes that the wanted outputs do not need, turn constants into weights, name every node.

The result computes the same and follows the format's rules for foreign graphs (see "Recipe `foreign`"
in `bundles/README.md`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ptyonnx_bundles import FOREIGN, FOREIGN_OPERATORS
from ptyonnx_bundles.errors import ConversionError

__all__ = ["ORIGINAL_PREFIX", "required_inputs", "required_nodes", "simplify"]

ORIGINAL_PREFIX = "network/"  # prefix of every name of the original, so that added nodes cannot collide with it
_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def simplify(model: onnx.ModelProto, outputs: Collection[str], file: str) -> onnx.ModelProto:
    """Simplify a model.

    Parameters
    ----------
    model : ModelProto
        Valid, operator set 18, without control flow.
    outputs : collection of str
        The outputs to keep.
    file : str
        Named in errors.

    Returns
    -------
    ModelProto
        All names of the original begin with :data:`ORIGINAL_PREFIX`; initializers are raw data and not inputs.

    Raises
    ------
    ConversionError
        An operator, or a kind of constant, that a bundle may not contain.
    """
    nodes = required_nodes(model.graph.node, outputs)
    arrays = {tensor.name: _array(tensor, tensor.name, file) for tensor in model.graph.initializer}
    kept = []
    for node in nodes:
        if node.op_type == "Constant":
            arrays[node.output[0]] = _constant(node, file)
        elif node.op_type not in FOREIGN_OPERATORS:
            raise ConversionError(
                f"the operator {node.op_type} is not allowed in a bundle", file=file, key=node.name or node.output[0],
                remedy="see 'Recipe foreign' in the bundle specification",
            )  # fmt: skip
        else:
            kept.append(_without_tensors(node, arrays, file))
    graph = onnx.GraphProto(name="foreign")
    used_names: set[str] = set()
    for index, node in enumerate(kept):
        graph.node.append(_renamed(node, index, used_names))
    used = {name for node in kept for name in node.input}
    for name, array in arrays.items():
        if name in used or name in outputs:
            graph.initializer.append(_tensor(ORIGINAL_PREFIX + name, array, file))
    for value in model.graph.input:
        if value.name in used and value.name not in arrays:
            graph.input.append(_value(value))
    graph.output.extend(_value(value) for value in model.graph.output if value.name in outputs)
    return helper.make_model(graph, ir_version=model.ir_version, opset_imports=list(model.opset_import))


def required_inputs(model: onnx.ModelProto, outputs: Collection[str]) -> tuple[str, ...]:
    """Name the inputs, weights aside, on which some outputs depend."""
    used = {name for node in required_nodes(model.graph.node, outputs) for name in node.input}
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(value.name for value in model.graph.input if value.name in used - weights)


def required_nodes(nodes: Sequence[onnx.NodeProto], outputs: Collection[str]) -> list[onnx.NodeProto]:
    """Select the nodes that some values depend on; `nodes` and the result are in order of computation."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if not needed.isdisjoint(name for name in node.output if name):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _constant(node: onnx.NodeProto, file: str) -> NDArray[Any]:
    (attribute,) = node.attribute
    if attribute.name == "value":
        return _array(attribute.t, node.name, file)
    if attribute.name in _NUMBERS:
        return np.array(helper.get_attribute_value(attribute), _NUMBERS[attribute.name])
    raise ConversionError(f"a constant of an unusual kind ({attribute.name})", file=file, key=node.name)


def _without_tensors(node: onnx.NodeProto, arrays: dict[str, NDArray[Any]], file: str) -> onnx.NodeProto:
    """Turn a tensor attribute into a weight: ConstantOfShape becomes Expand of one number."""
    tensors = [attribute for attribute in node.attribute if attribute.type == onnx.AttributeProto.TENSOR]
    if not tensors:
        return node
    if node.op_type != "ConstantOfShape":
        raise ConversionError(f"a tensor as an attribute of {node.op_type}", file=file, key=node.name)
    name = f"{node.output[0]}.value"
    while name in arrays:
        name += "_"
    arrays[name] = _array(tensors[0].t, node.name, file).reshape(-1)[:1].reshape(())
    return helper.make_node("Expand", [name, node.input[0]], list(node.output), name=node.name)


def _renamed(node: onnx.NodeProto, index: int, used_names: set[str]) -> onnx.NodeProto:
    """Copy a node under a unique name, that of the original if it has one."""
    result = onnx.NodeProto()
    result.CopyFrom(node)
    for field in ("doc_string", "metadata_props", "overload", "domain"):
        result.ClearField(field)
    name = ORIGINAL_PREFIX + (node.name or f"{node.op_type}_{index}")
    while name in used_names:
        name += "_"
    used_names.add(name)
    result.name = name
    result.input[:] = [ORIGINAL_PREFIX + value if value else "" for value in node.input]
    result.output[:] = [ORIGINAL_PREFIX + value if value else "" for value in node.output]
    while result.input and not result.input[-1]:
        result.input.pop()
    return result


def _array(tensor: onnx.TensorProto, name: str, file: str) -> NDArray[Any]:
    """Decode a tensor of a dtype that a bundle may contain."""
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        raise ConversionError("a damaged weight", file=file, key=name) from None
    kinds = sorted(kind.name for kind in FOREIGN.dtypes.values())
    if array.dtype.name not in kinds:
        raise ConversionError(
            "a weight of an unusual type", file=file, key=name, found=array.dtype, expected=", ".join(kinds)
        )
    return np.asarray(array)


def _tensor(name: str, array: NDArray[Any], file: str) -> onnx.TensorProto:
    """Make an initializer of raw data; an error names the weight as the original does."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ConversionError(
            "NaN or infinity among the weights", file=file, key=name.removeprefix(ORIGINAL_PREFIX),
            remedy="train the network again, or write a large finite number where infinity is meant",
        )  # fmt: skip
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def _value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    result = onnx.ValueInfoProto(name=ORIGINAL_PREFIX + value.name)
    result.type.CopyFrom(value.type)
    return result
