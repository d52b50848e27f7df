"""The tolerance of a self-test, by the number format in which a graph computes.

In float32, every order of summation gives nearly the same result. In 8-bit integers, a value near the
middle between two steps may be rounded to either, since another release, processor or optimisation sums in
another order, and the difference propagates. How far is measured: the graph is run on patterns that differ
by roundings only, and without optimisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles.onnx_model.operators import COARSE_OPERATORS

__all__ = ["is_coarse", "is_quantised", "relative_tolerance", "rounding_sensitivity", "shift_quantised_outputs"]

# Largest absolute difference of the complex object, relative to the larger of 1 and its largest
# amplitude. The graph scales in float32 what NumPy scales in float64, and onnxruntime fuses the
# converted graph in another way than the original: a few float32 roundings (6e-8) that a deep
# network amplifies a hundredfold. A wrong channel, shift, scale or sign changes the object by 1e-2 and
# more.
_TOLERANCE = 1e-4
# Accumulated rounding errors of a coarser format, in units of half its last place at 1.
_ROUNDINGS = 10
_HALF_PLACES = {TensorProto.FLOAT16: 2.0**-11, TensorProto.BFLOAT16: 2.0**-8}
_NUDGE = 2.0**-22  # relative: two float32 roundings
_NUDGES = 4
# Operators that do not sum over pixels or channels: one step of an input is one step of the output.
_ELEMENTWISE = frozenset(
    {"Add", "Cast", "Clip", "Concat", "Cos", "DepthToSpace", "Div", "Exp", "Expand", "Flatten", "Gather", "Identity"}
    | {"LeakyRelu", "Mul", "Neg", "Pad", "Relu", "Reshape", "Sigmoid", "Sin", "Slice", "Split", "Squeeze", "Sub"}
    | {"Tanh", "Transpose", "Unsqueeze"}
)

Run = Callable[[NDArray[np.float32]], NDArray[np.complex64]]


def relative_tolerance(model: onnx.ModelProto) -> float:
    """Return the tolerance of the object relative to its largest amplitude, for a graph that is not quantised."""
    kinds = {tensor.data_type for tensor in model.graph.initializer} | set(_casts(model))
    return max(_TOLERANCE, *(_ROUNDINGS * place for kind, place in _HALF_PLACES.items() if kind in kinds), 0.0)


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether a graph computes in 8-bit integers."""
    return any(node.op_type in COARSE_OPERATORS for node in model.graph.node)


def is_coarse(model: onnx.ModelProto) -> bool:
    """Whether a self-test of this graph may have the wide tolerance of coarse number formats."""
    return is_quantised(model) or TensorProto.BFLOAT16 in set(_casts(model))


def _casts(model: onnx.ModelProto) -> Iterator[int]:
    for node in model.graph.node:
        if node.op_type == "Cast":
            yield helper.get_node_attr_value(node, "to")


def rounding_sensitivity(diffraction: NDArray[np.float32], run: Run, found: NDArray[np.complex64]) -> float:
    """Measure how far roundings of the patterns change the object.

    Parameters
    ----------
    diffraction : (B, C, N, N) float32, amplitude
    run : callable
    found : (B, C, N, N) complex64
        The result of `run` for `diffraction`.

    Returns
    -------
    float
        The largest absolute difference of the object.
    """
    generator = np.random.default_rng(0)
    largest = 0.0
    for _ in range(_NUDGES):
        factors = 1 + _NUDGE * generator.choice([-1.0, 1.0], diffraction.shape)
        largest = max(largest, float(np.abs(run((diffraction * factors).astype(np.float32)) - found).max()))
    return largest


def shift_quantised_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Shift the last quantised values before the object by one step; nothing sums them any more.

    Returns
    -------
    ModelProto
        Equal to `model` if it has no such values.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    producers = {name: node for node in result.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    last: dict[str, NDArray[Any]] = {}
    waiting, seen = [value.name for value in result.graph.output], set[str]()
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "DequantizeLinear" and node.input[0] not in constants and node.input[1] in constants:
            last[name] = numpy_helper.to_array(constants[node.input[1]])
        elif node.op_type in _ELEMENTWISE:
            waiting.extend(node.input)
    nodes = list(result.graph.node)
    del result.graph.node[:]
    for node in nodes:
        result.graph.node.append(node)
        for position, name in enumerate(node.output):
            if name in last:
                before, step = f"{name}.before", f"{name}.step"
                result.graph.node[-1].output[position] = before
                result.graph.node.append(helper.make_node("Add", [before, step], [name], f"{name}.stepped"))
                size = np.asarray(last[name].max(), last[name].dtype)
                result.graph.initializer.append(numpy_helper.from_array(size, step))
    return result
