"""Free the batch of a graph that was exported for a fixed number of patterns.

What an exporter wrote for eight patterns holds the eight in shapes: of the input, of Reshape and of
Expand. Where such a shape can only mean the batch it is freed. Whether that was right is not argued
but measured afterwards (`from_onnx.py`): the freed graph runs on other numbers of patterns and must
give each pattern what the original gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ptyonnx_bundles.errors import ConversionError

__all__ = ["free_batch"]

_LARGE = 4096  # elements; weights beyond this do not take part in shapes
_LARGEST_FOLDED = 2**22  # elements
_FOLDED = frozenset(  # what shapes are computed with
    {"Add", "Cast", "Concat", "Div", "Equal", "Gather", "Identity", "Mul", "Neg", "Reshape", "Slice", "Squeeze", "Sub"}
    | {"Unsqueeze", "Where"}
)
Shape = tuple[int, ...] | None


def free_batch(model: onnx.ModelProto, batch: int, file: str) -> onnx.ModelProto:
    """Make the first axis of the one input free, and every shape that follows from it.

    Parameters
    ----------
    model : ModelProto
        As `plain` leaves it, with one input.
    batch : int
        The number of patterns that it was exported for.
    file : str
        Named in errors.

    Raises
    ------
    ConversionError
        A shape holds the batch and something else, inseparably.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _fold(result)
    before = _shapes(result, batch)
    _free_rows(result, before, batch)
    for index in range(len(result.graph.node)):
        node = result.graph.node[index]
        if node.op_type == "Reshape" and _constant(result, node.input[1]) is not None:
            _free_reshape(result, index, before, batch, file)
    _set_first(result.graph.input[0], "batch")
    for value in result.graph.output:
        value.type.tensor_type.ClearField("shape")
    return result


def _free_reshape(model: onnx.ModelProto, index: int, before: dict[str, Shape], batch: int, file: str) -> None:
    """Where twice as many patterns make the value twice as large, one axis of the new shape must follow."""
    node = model.graph.node[index]
    value = node.input[0]
    old, new = before.get(value), _shapes(model, 2 * batch, last=index).get(value)
    target = before.get(node.output[0])
    if old is None or new is None or target is None or old == new:
        return
    grown = [axis for axis, (few, many) in enumerate(zip(old, new, strict=True)) if few != many]
    axis = None if len(grown) != 1 else _following_axis(old, grown[0], target, batch)
    if axis is None:
        raise ConversionError(
            f"the batch is fixed at {batch}: a Reshape mixes it with other axes", file=file,
            key=node.name.removeprefix("network/"), found=f"{old} to {target}",
            remedy="export the network with a dynamic batch",
        )  # fmt: skip
    shape = [-1 if position == axis else size for position, size in enumerate(target)]
    _replace_constant(model, node, 1, np.array(shape, np.int64))
    for attribute in [attribute for attribute in node.attribute if attribute.name == "allowzero"]:
        node.attribute.remove(attribute)


def _following_axis(old: Sequence[int], grown: int, target: Sequence[int], batch: int) -> int | None:
    """Axis of the new shape in which the batch lies: as many elements lie before it, in row-major order."""
    before = math.prod(old[:grown])
    exact = [axis for axis in range(len(target)) if math.prod(target[:axis]) == before and target[axis] % batch == 0]
    if exact:
        return exact[0] if batch == 1 else next((axis for axis in exact if target[axis] > 1), exact[0])
    for axis, size in enumerate(target):  # the batch is joined to what lies before it
        start = math.prod(target[:axis])
        if start <= before < start * size and size % batch == 0:
            return axis
    return None


def _fold(model: onnx.ModelProto) -> None:
    """Compute what only constants go into, where it is a shape or an expanded token: so exporters write them."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        known = [arrays[name] for name in node.input if name in arrays]
        if not known or len(known) != len(node.input) or len(node.output) != 1:
            continue
        try:
            result = _evaluated(node, known)
        except (ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            continue  # whatever it is, onnxruntime will say it
        if result is not None:
            arrays[node.output[0]] = result
            model.graph.initializer.append(numpy_helper.from_array(np.array(result, order="C"), node.output[0]))
            model.graph.node.remove(node)


def _evaluated(node: onnx.NodeProto, inputs: list[np.ndarray]) -> np.ndarray | None:
    """Result of one node, None where it is not one that shapes are made with, or large."""
    if node.op_type == "Expand":
        return _expanded(inputs[0], tuple(inputs[1].tolist()))
    if node.op_type in _FOLDED and all(array.size <= _LARGE for array in inputs):
        outputs: Any = ReferenceEvaluator(node).run(None, dict(zip(node.input, inputs, strict=True)))
        return np.asarray(outputs[0])
    return None


def _expanded(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Broadcast in both directions, as Expand does; None where that is large."""
    full = np.broadcast_shapes(value.shape, shape)
    return np.broadcast_to(value, full) if math.prod(full) <= _LARGEST_FOLDED else None


def _free_rows(model: onnx.ModelProto, shapes: dict[str, Shape], batch: int) -> None:
    """A token or a position that was written out once for every pattern, all rows alike, is written once.

    Added to something it spreads by itself; joined to something it is spread over as many patterns
    as there are.
    """
    dependent = _dependent(model)
    for node in list(model.graph.node):
        if node.op_type not in ("Add", "Sub", "Mul", "Div", "Concat"):
            continue
        for position, name in enumerate(node.input):
            array = _constant(model, name, any_size=True)
            others = [other for other in node.input if other in dependent]
            if array is None or not others or array.ndim < 2 or len(array) != batch:
                continue
            shape = shapes.get(others[0])
            if shape is None or len(shape) != array.ndim or shape[0] != batch or (array[1:] != array[:1]).any():
                continue
            if node.op_type != "Concat":
                if batch > 1:  # one row spreads by itself
                    _replace_constant(model, node, position, array[:1])
            elif helper.get_node_attr_value(node, "axis") % array.ndim:
                _spread(model, node, position, array[:1], others[0])


def _spread(model: onnx.ModelProto, node: onnx.NodeProto, position: int, row: np.ndarray, like: str) -> None:
    """Expand one row over as many patterns as `like` has."""
    name = f"{node.name}.row{position}"
    arrays = {f"{name}.value": row, f"{name}.shape": np.array(row.shape[1:], np.int64)}
    model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in arrays.items())
    added = [
        helper.make_node("Shape", [like], [f"{name}.batch"], f"{name}.batch", start=0, end=1),
        helper.make_node("Concat", [f"{name}.batch", f"{name}.shape"], [f"{name}.full"], f"{name}.full", axis=0),
        helper.make_node("Expand", [f"{name}.value", f"{name}.full"], [name], name),
    ]
    node.input[position] = name
    index = list(model.graph.node).index(node)
    for offset, each in enumerate(added):
        model.graph.node.insert(index + offset, each)


def _dependent(model: onnx.ModelProto) -> set[str]:
    """Values that depend on the input."""
    found = {model.graph.input[0].name}
    for node in model.graph.node:
        if not found.isdisjoint(node.input):
            found.update(name for name in node.output if name)
    return found


def _shapes(model: onnx.ModelProto, batch: int, last: int | None = None) -> dict[str, Shape]:
    """Shapes of all values for a number of patterns, of the first nodes or of all; large weights stay out."""
    small = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = small.graph
    graph.name = "shapes"
    graph.node.extend(model.graph.node[:last])
    graph.input.extend(model.graph.input)
    _set_first(graph.input[0], batch)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > _LARGE:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            graph.initializer.append(tensor)
    try:
        inferred = onnx.shape_inference.infer_shapes(small, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}  # nothing is freed then, and the proof says so
    return {value.name: _static(value) for value in (*inferred.graph.value_info, *graph.input)}


def _static(value: onnx.ValueInfoProto) -> Shape:
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in value.type.tensor_type.shape.dim]
    return None if -1 in sizes else tuple(sizes)


def _set_first(value: onnx.ValueInfoProto, size: int | str) -> None:
    axis = value.type.tensor_type.shape.dim[0]
    axis.Clear()
    if isinstance(size, str):
        axis.dim_param = size
    else:
        axis.dim_value = size


def _constant(model: onnx.ModelProto, name: str, *, any_size: bool = False) -> np.ndarray | None:
    for tensor in model.graph.initializer:
        if tensor.name == name and (any_size or math.prod(tensor.dims) <= _LARGE):
            return numpy_helper.to_array(tensor)
    return None


def _replace_constant(model: onnx.ModelProto, node: onnx.NodeProto, position: int, array: np.ndarray) -> None:
    """Give a node a constant of its own; whether others use the old one does not matter: `surrounded` drops it if none does."""
    new = f"{node.name}.constant{position}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), new))
    node.input[position] = new
