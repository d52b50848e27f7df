"""Constants that an exporter wrote out once for every pattern: class tokens, positions, masks, grids.

Where all patterns have the same, it is kept once, and spread over as many patterns as there are.
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

__all__ = ["BROADCASTING", "fold", "once", "spread"]

BROADCASTING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mul"}
    | {"Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"}
)
_LARGE = 4096  # elements; weights beyond this do not take part in shapes
_LARGEST_FOLDED = 2**22  # elements
_FOLDED = frozenset(  # what shapes, and tokens before they are spread, are computed with
    {"Add", "Cast", "Concat", "Div", "Equal", "Gather", "Identity", "Mul", "Neg", "Reshape", "Slice", "Squeeze", "Sub"}
    | {"Transpose", "Unsqueeze", "Where"}
)


def fold(model: onnx.ModelProto) -> None:
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


def _evaluated(node: onnx.NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any] | None:
    """Result of one node, None where it is not one that shapes are made with, or large."""
    if node.op_type == "Expand":
        full = np.broadcast_shapes(inputs[0].shape, tuple(inputs[1].tolist()))  # in both directions, as Expand does
        return np.broadcast_to(inputs[0], full) if math.prod(full) <= _LARGEST_FOLDED else None
    if node.op_type == "Tile":
        size = inputs[0].size * math.prod(inputs[1].tolist())
        return np.tile(inputs[0], inputs[1].tolist()) if size <= _LARGEST_FOLDED else None
    if node.op_type in _FOLDED and all(array.size <= _LARGE for array in inputs):
        outputs: Any = ReferenceEvaluator(node).run(None, dict(zip(node.input, inputs, strict=True)))
        return np.asarray(outputs[0])
    return None


def once(array: NDArray[Any], place: BatchAxis, batch: int) -> NDArray[Any] | None:
    """The part for one pattern, with axes (..., outer, 1, inner, ...); None where patterns have different ones."""
    before, behind = place.split(array.shape, batch)
    parts = array.reshape(*before, batch, *behind)
    first = parts.take([0], axis=len(before))
    return first if (parts == first).all() else None


def spread(
    name: str, part: NDArray[Any], shape: tuple[int, ...], place: BatchAxis, source: str
) -> tuple[list[onnx.NodeProto], Mapping[str, NDArray[Any]]]:
    """Nodes that spread the part for one pattern over as many patterns as there are.

    Parameters
    ----------
    name : str
        Of the result, and before all other names.
    part : ndarray
        As :func:`once` gives it.
    shape : tuple of int
        Of the result, whatever the size of the batch's axis.
    place : BatchAxis
    source : str
        A value whose first axis is the batch.

    Returns
    -------
    nodes : list of NodeProto
    arrays : mapping of str to ndarray
        Their constants.
    """
    axis = place.axis + 1
    arrays: dict[str, NDArray[Any]] = {
        f"{name}.value": part,
        f"{name}.before": np.array(part.shape[:axis], np.int64),
        f"{name}.behind": np.array(part.shape[axis + 1 :], np.int64),
        f"{name}.shape": np.array(place.free(shape), np.int64),
    }
    parts = [f"{name}.before", f"{name}.batch", f"{name}.behind"]
    nodes = [
        helper.make_node("Shape", [source], [f"{name}.batch"], f"{name}.batch", start=0, end=1),
        helper.make_node("Concat", parts, [f"{name}.full"], f"{name}.full", axis=0),
        helper.make_node("Expand", [f"{name}.value", f"{name}.full"], [f"{name}.spread"], f"{name}.spread"),
        helper.make_node("Reshape", [f"{name}.spread", f"{name}.shape"], [name], name),
    ]
    return nodes, arrays
