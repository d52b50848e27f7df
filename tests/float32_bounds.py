"""How far correct float32 implementations may be from the exact value: one derivation for all numerical tests.

Which kernel runs depends on the processor: it decides in which order products are summed, whether a product and a sum
are fused, how a sine is approximated, and, near a rectifier's threshold or a pooling tie, which branch is taken. A
tolerance that was measured on one processor holds on that one. These follow from depth, number of terms and dtype.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.rounding import MARGIN, UNIT_ROUNDOFF
from ptyonnx_bundles import Recipe

FUNCTION_UNITS = 16  # units of roundoff: what vectorised tanh, sigmoid, sine, cosine and exponential are off by


def of_sums(*terms: int, size: float = 1.0) -> float:
    """Tolerance of a value behind sums of so many products each, one layer after the other.

    The n roundings of a sum wander like a random walk, errors of independent layers add in squares:
    ``MARGIN u sqrt(sum(n + 1)) size``, see :mod:`ptyonnx.comparison.rounding`.

    Parameters
    ----------
    terms : int
        Of each sum: fan-in of a convolution, 2 N for a Fourier transform as a matrix product along one axis.
    size : float
        Largest magnitude of the partial sums.
    """
    return MARGIN * UNIT_ROUNDOFF * math.sqrt(sum(count + 1 for count in terms)) * size


def of_functions(size: float = 1.0) -> float:
    """Tolerance of a function of the mathematical library times a factor, of magnitude `size`: no statistics, a bound."""
    return (FUNCTION_UNITS + 1) * UNIT_ROUNDOFF * size


def of_network(
    recipe: Recipe, weights: Mapping[str, NDArray[Any]], diffraction: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Exact value of every layer, and how far float32 may be from it, absolutely.

    As `ptyonnx parity` derives it: the network runs in float64, and again with the errors that float32 makes at each
    operator; how far these runs scatter, times 4, is the tolerance.

    Parameters
    ----------
    recipe : Recipe
    weights : mapping of str to ndarray
        Canonical names, whitening included.
    diffraction : (B, C, N, N) float32

    Returns
    -------
    dict of str to ndarray
        Canonical name -> value in float64.
    dict of str to float
        Canonical name -> largest difference.
    """
    from ptyonnx.comparison.parity.network import Network
    from ptyonnx.comparison.parity.rounding import Float32
    from ptyonnx.comparison.parity.tolerances import SAFETY, SAMPLES

    network = Network(recipe, weights)
    exact = network.forward(diffraction).values
    allowed = {name: 2 * UNIT_ROUNDOFF * float(np.abs(value).max(initial=0)) for name, value in exact.items()}
    for seed in range(SAMPLES):
        for name, value in network.forward(diffraction, Float32(seed)).values.items():
            allowed[name] = max(allowed[name], SAFETY * float(np.abs(value - exact[name]).max(initial=0)))
    return exact, allowed
