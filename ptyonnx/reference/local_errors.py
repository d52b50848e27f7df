"""Whether each layer of an implementation makes of its own input what it should.

The distance from float64 grows along a network, so a layer late in it may be far off although
nothing is wrong with it. Here every layer is judged alone: its output is computed again in
float64 from the input that this implementation gave it. What differs is the error of this one
layer, and for that there is a bound that needs no statistics. For a sum of n products

    |error| <= gamma_n (sum_k |w_k| |x_k| + |b|),   gamma_n = n u / (1 - n u)

in whatever order it is summed [Higham, Accuracy and Stability of Numerical Algorithms, 2002,
eq. 3.5]. Rectifiers, pooling and upsampling choose, copy or multiply by a power of two: their
bound is zero. Convolutions by
Winograd's algorithm obey a larger bound; no CPU kernel in use here has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.reference import layers
from ptyonnx.reference.analytic_tolerances import UNIT_ROUNDOFF
from ptyonnx.reference.network import FUNCTION_TERMS, compute, fan_in
from ptyonnx_bundles import Node, Recipe

__all__ = ["ROUNDED_ONCE", "local_error", "local_errors"]

# One rounding and a bound of just that: of many values, one always comes close to it.
ROUNDED_ONCE = frozenset({"Sub", "Mul"})

_SMALLEST = float(np.finfo(np.float32).tiny)  # what is smaller may be flushed to zero


def local_errors(
    recipe: Recipe,
    weights: Mapping[str, NDArray[Any]],
    diffraction: NDArray[Any],
    values: Mapping[str, NDArray[Any]],
) -> dict[str, float]:
    """Largest error of every layer, relative to its bound.

    Parameters
    ----------
    recipe : Recipe
    weights : mapping of str to ndarray
        Canonical names, whitening included.
    diffraction : (group, channel, N, N) float32
        Amplitude, as the implementation was given it.
    values : mapping of str to ndarray
        Of one implementation, canonical names.

    Returns
    -------
    dict of str to float
        Up to 1 is float32 arithmetic; above it is another computation. Infinite where a bound of
        zero is missed, a value is missing, has another shape or is not finite.
    """
    constants = {**recipe.graph_constants(), **weights}
    known = {"diffraction": diffraction, **values}
    return {node.name: local_error(node, known, constants) for node in recipe.nodes()}


def local_error(node: Node, values: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]) -> float:
    """Largest error of one layer, relative to its bound; see :func:`local_errors`.

    Parameters
    ----------
    node : Node
    values : mapping of str to ndarray
        Of one implementation, canonical names, and `diffraction`.
    constants : mapping of str to ndarray
        Weights and constants of the graph.
    """
    names = [name for name in node.inputs if name]
    if node.name not in values or any(name not in values and name not in constants for name in names):
        return np.inf
    inputs = [np.asarray(values[name] if name in values else constants[name], np.float64) for name in names]
    return _error(node, inputs, values[node.name])


def _error(node: Node, inputs: list[NDArray[np.float64]], found: NDArray[Any]) -> float:
    expected = compute(node, inputs)
    if found.shape != expected.shape:
        return np.inf
    error = np.abs(found - expected)
    bound = _bound(node, inputs, expected)
    if not np.all(np.isfinite(error)) or np.any((bound == 0) & (error > 0)):
        return np.inf
    return float(np.max(error / np.where(bound == 0, 1, bound)))


def _bound(node: Node, inputs: list[NDArray[np.float64]], expected: NDArray[np.float64]) -> Any:
    if node.operator == "Conv":
        terms = (fan_in(node, inputs) + 1) * UNIT_ROUNDOFF  # the products are rounded, too
        return terms / (1 - terms) * layers.convolution(*map(np.abs, inputs)) + _SMALLEST
    if node.operator in ROUNDED_ONCE:
        return UNIT_ROUNDOFF * np.abs(expected) * (1 + UNIT_ROUNDOFF) + _SMALLEST
    if node.operator in {"Sigmoid", "Tanh", "Cos", "Sin"}:
        return np.full(expected.shape, FUNCTION_TERMS * UNIT_ROUNDOFF)
    return np.full(expected.shape, _SMALLEST) if node.operator == "LeakyRelu" else np.zeros(expected.shape)
