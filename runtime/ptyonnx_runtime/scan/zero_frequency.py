"""Where the zero frequency of measured patterns lies: in the middle, or in the corner as an FFT leaves it.

A file may state it, or its reader declares it. Otherwise the middle is assumed, and patterns that contradict this
assumption are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.zero_frequency import PLACES, ZeroFrequency

__all__ = ["PLACES", "ZeroFrequency", "looks_like_the_corner", "to_the_centre"]

# The mean cosine of the distance from the middle, by light: 1 for a peak in the middle, -1 for one in the corner, 0
# for patterns that fill the frame evenly, which are told neither way. Of the shipped scan, whose patterns nearly do: 0.2.
_NEGATIVE = -0.1


def to_the_centre(patterns: NDArray[Any]) -> NDArray[Any]:
    """Move the zero frequency of (pattern, y, x) from [0, 0] to [N//2, N//2]."""
    return np.roll(patterns, (patterns.shape[1] // 2, patterns.shape[2] // 2), axis=(1, 2))


def looks_like_the_corner(amplitude: NDArray[Any]) -> str | None:
    """Say why the zero frequency of some patterns seems to be in the corner; None where it does not.

    Parameters
    ----------
    amplitude : (pattern, N, N) float
    """
    power = np.square(amplitude, dtype=np.float64).sum(axis=0)
    total = power.sum()
    if not 0 < total < np.inf:
        return None
    N = len(power)
    cosine = np.cos(2 * np.pi * (np.arange(N) - N // 2) / N)
    down, right = (float(power.sum(axis=axis) @ cosine / total) for axis in (1, 0))
    if max(down, right) > _NEGATIVE:
        return None
    return f"most of the light lies at the edges: mean cosine {down:.2f} down, {right:.2f} right"
