"""Constants that an exporter repeated for every pattern of a fixed batch: class tokens, positions, masks, grids.

If the part of every pattern is the same, it is stored once and repeated at run time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ptyonnx_converters.foreign.batch_axis import BatchAxis

__all__ = ["BROADCASTING", "fold_constants", "repeat_over_batch", "shared_part"]

BROADCASTING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mul"}
    | {"Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"}
)
_LARGE = 4096  # elements; larger weights do not determine shapes
_LARGEST_FOLDED = 2**22  # elements
_FOLDED = frozenset(  # operators that compute shapes, and tokens before they are repeated
    {"Add", "Cast", "Concat", "Div", "Equal", "Gather", "Identity", "Mul", "Neg", "Reshape", "Slice", "Squeeze", "Sub"}
    | {"Transpose", "Unsqueeze", "Where"}
)


def fold_constants(model: onnx.ModelProto) -> None:
    """Replace nodes with constant inputs by their results, as far as shapes and repeated tokens need it."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        known = [arrays[name] for name in node.input if name in arrays]
        if not known or len(known) != len(node.input) or len(node.output) != 1:
            continue
        try:
            result = _evaluated(node, known)
        except (ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            continue  # onnxruntime reports the fault when it opens the graph
        if result is not None:
            arrays[node.output[0]] = result
            model.graph.initializer.append(numpy_helper.from_array(np.array(result, order="C"), node.output[0]))
            model.graph.node.remove(node)


def _evaluated(node: onnx.NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any] | None:
    """Evaluate one node; None if it does not compute shapes or its result is large."""
    if node.op_type == "Expand":
        full = np.broadcast_shapes(inputs[0].shape, tuple(inputs[1].tolist()))  # Expand broadcasts in both directions
        return np.broadcast_to(inputs[0], full) if math.prod(full) <= _LARGEST_FOLDED else None
    if node.op_type == "Tile":
        size = inputs[0].size * math.prod(inputs[1].tolist())
        return np.tile(inputs[0], inputs[1].tolist()) if size <= _LARGEST_FOLDED else None
    if node.op_type in _FOLDED and all(array.size <= _LARGE for array in inputs):
        outputs: Any = ReferenceEvaluator(node).run(None, dict(zip(node.input, inputs, strict=True)))
        return np.asarray(outputs[0])
    return None


def shared_part(array: NDArray[Any], axis: BatchAxis, batch: int) -> NDArray[Any] | None:
    """Return the part of one pattern, with axes (..., outer, 1, inner, ...); None if the patterns' parts differ."""
    before, behind = axis.split(array.shape, batch)
    parts = array.reshape(*before, batch, *behind)
    first = parts.take([0], axis=len(before))
    return first if (parts == first).all() else None


def repeat_over_batch(
    name: str, part: NDArray[Any], shape: tuple[int, ...], batch_axis: BatchAxis, source: str
) -> tuple[list[onnx.NodeProto], Mapping[str, NDArray[Any]]]:
    """Make nodes that repeat the part of one pattern for every pattern of the batch.

    Parameters
    ----------
    name : str
        Of the result; prefix of all other names.
    part : ndarray
        From :func:`shared_part`.
    shape : tuple of int
        Of the result; the size of the batch axis does not matter.
    batch_axis : BatchAxis
    source : str
        Name of a value whose first axis is the batch.

    Returns
    -------
    nodes : list of NodeProto
    arrays : mapping of str to ndarray
        Their constants by name.
    """
    axis = batch_axis.axis + 1
    arrays: dict[str, NDArray[Any]] = {
        f"{name}.value": part,
        f"{name}.before": np.array(part.shape[:axis], np.int64),
        f"{name}.behind": np.array(part.shape[axis + 1 :], np.int64),
        f"{name}.shape": np.array(batch_axis.free_shape(shape), np.int64),
    }
    parts = [f"{name}.before", f"{name}.batch", f"{name}.behind"]
    nodes = [
        helper.make_node("Shape", [source], [f"{name}.batch"], f"{name}.batch", start=0, end=1),
        helper.make_node("Concat", parts, [f"{name}.full"], f"{name}.full", axis=0),
        helper.make_node("Expand", [f"{name}.value", f"{name}.full"], [f"{name}.spread"], f"{name}.spread"),
        helper.make_node("Reshape", [f"{name}.spread", f"{name}.shape"], [name], name),
    ]
    return nodes, arrays
