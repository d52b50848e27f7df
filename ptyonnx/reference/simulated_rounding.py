"""What float32 does to a computation, played through in float64.

Tolerances come from here. Every operator of the arbiter hands its result to a `Rounding`. The
exact one returns it unchanged. The float32 one adds a random error of the size that this one
operator has in float32; the rest of the arbiter then carries that error onward as any
implementation would: through the following layers (depth), through rectifiers that are nearly
closed, through the forward model, the backward pass and Adam. How far such runs scatter around
the exact one is how far two correct float32 implementations can be from float64. The method is
known as Monte Carlo arithmetic [Parker 1997, UCLA CSD-970002].

The size of one operator's error: a sum of n products is rounded after every addition, each time
by at most u = 2^-24 of the partial sum and on average by u / sqrt(3). These errors add up like a
random walk [Higham & Mary, SIAM J. Sci. Comput. 41 (2019) A2815]. Where the partial sums
themselves grow like sqrt(k), the error's standard deviation is ``u sqrt(n / 6)`` of the whole sum.
n is the fan-in of a convolution or the width of a Fourier transform. Sums in blocks or trees err
less. Where large terms cancel, the error is that of the partial sums and not that of the small
result; therefore the root mean square of the channel comes on top (`spread`). Single operations
and sums of squares cancel nothing: their error is relative to each element. Gradients, which are
sums over all pixels, are the business of `pixel_sums`. What is exactly zero throughout stays so.
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
    """What happens to a result before the next operator sees it."""

    def result(self, value: Array, terms: int, spread: Array | float | None = None) -> Array:
        """A real result, (B, C, ...), each element of which is a sum of `terms` products.

        `spread` is the size of partial sums: by default the channel's root mean square, 0 where
        nothing cancels.
        """

    def pixel_sum(self, value: Array, error: Callable[[], Array]) -> Array:
        """A gradient, summed over all pixels; `error` gives the standard deviation of its errors."""

    def wave(self, value: NDArray[np.complex128], terms: int) -> NDArray[np.complex128]:
        """The same for a complex result."""


class Exact:
    """float64 as it is."""

    def result(self, value: Array, terms: int, spread: Array | float | None = None) -> Array:  # noqa: ARG002 - protocol
        """Change nothing."""
        return value

    def pixel_sum(self, value: Array, error: Callable[[], Array]) -> Array:  # noqa: ARG002 - the same
        """Change nothing."""
        return value

    def wave(self, value: NDArray[np.complex128], terms: int) -> NDArray[np.complex128]:  # noqa: ARG002 - the same
        """Change nothing."""
        return value


EXACT = Exact()


class SimulatedFloat32:
    """Random errors as large as those of float32.

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
        """Add an error of that size."""
        return value + error() * self._generator.standard_normal(value.shape)

    def wave(self, value: NDArray[np.complex128], terms: int) -> NDArray[np.complex128]:
        """The same to real and imaginary part."""
        noise = self._generator.standard_normal((2, *value.shape))
        square = np.square(np.abs(value))
        size = deviation(terms) * np.sqrt((square + _mean_square(np.abs(value))) / 2)
        perturbed: NDArray[np.complex128] = value + size * (noise[0] + 1j * noise[1])
        return perturbed


def deviation(terms: int) -> float:
    """Of a sum's error, relative to the sum; of a single rounding, u / sqrt(3)."""
    return UNIT_ROUNDOFF * math.sqrt(max(terms, 2) / 6)


def _mean_square(value: Array) -> Array:
    """Of each channel, the second axis."""
    square: Array = np.square(value).mean(axis=(0, *range(2, value.ndim)), keepdims=True)
    return square
