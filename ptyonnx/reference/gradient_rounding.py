"""Float32 rounding errors of gradients, which are sums over all pixels of all patterns.

A convolution sums some hundred products of either sign, and its rounding errors behave like a random walk. The gradient
of a weight sums up to a million products. Those of neighbouring pixels are similar, so the partial sums become much
larger than the final sum, and products smaller than half a unit in the last place of the partial sum are lost, all with
the same sign. A random walk would underestimate these errors. The actual partial sums are therefore used, and for a few
pairs of channels the sum is carried out term by term in float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptyonnx.reference.simulated_rounding import deviation

__all__ = ["sum_error"]

Array = NDArray[np.float64]

_SUMMED = 8  # pairs of channels, those with the largest partial sums


def sum_error(total: Array, slope: Array, value: Array | None) -> Array:
    """Standard deviation of the error of a weight's gradient when it is summed in float32.

    Parameters
    ----------
    total : (O, I, 3, 3), or (O,) for a bias
        The gradient.
    slope : (B, O, y, x)
        Gradient by the output of the convolution.
    value : (B, I, y, x) or None
        Input of the convolution; None for a bias.

    Returns
    -------
    (O, I, 1, 1) or (O,)
    """
    slopes = _by_channel(slope)
    partial = np.sqrt(2 * np.square(np.cumsum(slopes, axis=1)).mean(axis=1))
    values = np.ones((1, slopes.shape[1])) if value is None else _by_channel(value)
    spread = np.multiply.outer(partial, np.sqrt(np.square(values).mean(axis=1)))
    expected = deviation(slopes.shape[1]) * spread
    error: Array = expected * max(1.0, _drift(slopes, values, expected))
    return error[:, 0] if value is None else error.reshape(*error.shape, *[1] * (total.ndim - 2))


def _drift(slopes: Array, values: Array, expected: Array) -> float:
    """Error of the sum in float32, relative to that of a random walk."""
    largest = np.argsort(expected, axis=None)[::-1][:_SUMMED]
    ratios = []
    for out, into in zip(*np.unravel_index(largest, expected.shape), strict=True):
        products = slopes[out] * values[into]
        summed = np.add.accumulate(products.astype(np.float32), dtype=np.float32)[-1]
        if expected[out, into] > 0:
            ratios.append((float(summed) - products.sum()) / expected[out, into])
    return float(np.sqrt(np.mean(np.square(ratios)))) if ratios else 0.0


def _by_channel(array: Array) -> Array:
    """(B, C, y, x) -> (C, every pixel of every pattern)."""
    flat: Array = array.swapaxes(0, 1).reshape(array.shape[1], -1)
    return flat
