"""Simulate float32 rounding errors in a float64 computation, by Monte Carlo arithmetic [Parker 1997, UCLA CSD-970002].

Every operator of the float64 reference passes its result to a `Rounding`. :class:`Exact` returns it unchanged.
:class:`SimulatedFloat32` adds a random error of the size that this operator has in float32. The rest of the computation
propagates that error as any implementation would: through the following layers, ReLUs near their threshold, the forward
model, the backward pass and Adam. The scatter of such runs around the exact one is the distance that a correct float32
implementation may have from float64.

The error of an operator: a sum of n products is rounded after every addition, by at most u = 2^-24 of the partial sum
and by u / sqrt(3) rms. These errors add up like a random walk [Higham & Mary, SIAM J. Sci. Comput. 41 (2019) A2815]. If
the partial sums grow like sqrt(k), the standard deviation of the error is ``u sqrt(n / 6)`` of the whole sum. n is the
fan-in of a convolution or the width of a Fourier transform. Blocked and pairwise sums have smaller errors. Where large
terms cancel, the error is relative to the partial sums, not to the small result; the root mean square of the channel is
therefore added (`spread`). Single operations and sums of squares do not cancel, and their error is relative to each
element. Gradients are sums over all pixels; `gradient_rounding` treats them. Exact zeros remain zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptyonnx.reference.analytic_tolerances import UNIT_ROUNDOFF

__all__ = ["EXACT", "Exact", "Rounding", "SimulatedFloat32", "deviation"]

Array = NDArray[np.float64]


class Rounding(Protocol):
    """Modifies the result of an operator before the next operator uses it."""

    def result(self, value: Array, terms: int, spread: Array | float | None = None) -> Array:
        """Modify a real result, (B, C, ...), whose elements are sums of `terms` products.

        `spread` is the size of the partial sums: by default the root mean square of the channel, 0 without
        cancellation.
        """

    def pixel_sum(self, value: Array, error: Callable[[], Array]) -> Array:
        """Modify a gradient, a sum over all pixels; `error` returns the standard deviation of its error."""

    def wave(self, value: NDArray[np.complex128], terms: int) -> NDArray[np.complex128]:
        """Modify a complex result."""


class Exact:
    """No rounding: results stay as they are in float64."""

    def result(self, value: Array, terms: int, spread: Array | float | None = None) -> Array:  # noqa: ARG002 - protocol
        """Return the value unchanged."""
        return value

    def pixel_sum(self, value: Array, error: Callable[[], Array]) -> Array:  # noqa: ARG002 - the same
        """Return the value unchanged."""
        return value

    def wave(self, value: NDArray[np.complex128], terms: int) -> NDArray[np.complex128]:  # noqa: ARG002 - the same
        """Return the value unchanged."""
        return value


EXACT = Exact()


class SimulatedFloat32:
    """Random errors of the size of float32 rounding.

    Parameters
    ----------
    seed : int
        Equal seeds give equal errors.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def result(self, value: Array, terms: int, spread: Array | float | None = None) -> Array:
        """Add an error of ``u sqrt(terms / 6)`` of each element and of `spread`."""
        partial = _mean_square(value) if spread is None else np.square(spread)
        size = deviation(terms) * np.sqrt(np.square(value) + partial)
        return value + size * self._generator.standard_normal(value.shape)

    def pixel_sum(self, value: Array, error: Callable[[], Array]) -> Array:
        """Add an error with this standard deviation."""
        return value + error() * self._generator.standard_normal(value.shape)

    def wave(self, value: NDArray[np.complex128], terms: int) -> NDArray[np.complex128]:
        """Add errors to the real and imaginary part."""
        noise = self._generator.standard_normal((2, *value.shape))
        square = np.square(np.abs(value))
        size = deviation(terms) * np.sqrt((square + _mean_square(np.abs(value))) / 2)
        perturbed: NDArray[np.complex128] = value + size * (noise[0] + 1j * noise[1])
        return perturbed


def deviation(terms: int) -> float:
    """Standard deviation of the error of a sum, relative to the sum; of a single rounding, u / sqrt(3)."""
    return UNIT_ROUNDOFF * math.sqrt(max(terms, 2) / 6)


def _mean_square(value: Array) -> Array:
    """Mean square of each channel (second axis)."""
    square: Array = np.square(value).mean(axis=(0, *range(2, value.ndim)), keepdims=True)
    return square
