"""Errors of single layers of an implementation, each for the layer's own input.

Differences from float64 accumulate along a network, so a late layer may differ although it is computed correctly. Here
every layer is considered alone: its output is recomputed in float64 from the input that the implementation gave it. The
difference is the error of this layer, for which a strict bound exists. For a sum of n products

    |error| <= gamma_n (sum_k |w_k| |x_k| + |b|),   gamma_n = n u / (1 - n u)

for any order of summation [Higham, Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.5]. ReLU, pooling and
upsampling select, copy or multiply by a power of two; their bound is zero. Convolutions by Winograd's algorithm obey a
larger bound; no CPU kernel used here is of that kind.
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

# Operators that round once. Of many values, one always comes close to their bound.
ROUNDED_ONCE = frozenset({"Sub", "Mul"})

_SMALLEST = float(np.finfo(np.float32).tiny)  # smaller values may be flushed to zero


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
        Amplitudes, the input of the implementation.
    values : mapping of str to ndarray
        Canonical name -> value in the implementation.

    Returns
    -------
    dict of str to float
        Up to 1, float32 arithmetic explains the error; above, it does not. Infinite where a bound of zero is exceeded,
        or where a value is missing, has another shape or is not finite.
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
        Canonical name -> value in the implementation, including `diffraction`.
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
        terms = (fan_in(node, inputs) + 1) * UNIT_ROUNDOFF  # products are rounded as well
        return terms / (1 - terms) * layers.convolution(*map(np.abs, inputs)) + _SMALLEST
    if node.operator in ROUNDED_ONCE:
        return UNIT_ROUNDOFF * np.abs(expected) * (1 + UNIT_ROUNDOFF) + _SMALLEST
    if node.operator in {"Sigmoid", "Tanh", "Cos", "Sin"}:
        return np.full(expected.shape, FUNCTION_TERMS * UNIT_ROUNDOFF)
    return np.full(expected.shape, _SMALLEST) if node.operator == "LeakyRelu" else np.zeros(expected.shape)
