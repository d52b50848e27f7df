"""Find the axis of the patterns in a cube, whose shape does not tell.

Most samples transmit nearly all light, so that all patterns of a scan contain about the same number of photons. Rows and
columns of a detector do not, as light lies around the zero frequency. The intensity summed over two axes is therefore
nearly constant along the axis of the patterns. Along rows and columns it has a peak in the middle, or a minimum if the
zero frequency is in the corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["pattern_axis"]

_DARK = 0.01  # of the median: dark patterns, and rows behind a beam stop, are left out
# Ratio of the unevenness of rows or columns to that of patterns. It is at least 9 for any 64 patterns of the shipped scan, 8
# for simulated ones with phases up to 6 rad, and 2 to 9 for a sample that absorbs half of the light.
_LEAST_RATIO = 3.0
_LARGEST_PATTERN_MOMENT = 0.1  # rows and columns of the shipped scan have 0.2 and more


def pattern_axis(light: Sequence[NDArray[np.float64]]) -> int | None:
    """Find the axis of the patterns from the intensity along every axis.

    Parameters
    ----------
    light : three of (length,) float64
        Summed intensity at each index of an axis.

    Returns
    -------
    int or None
        0, 1 or 2; None where the evidence is not clear.
    """
    uneven = [_unevenness(along) for along in light]
    order = np.argsort(uneven)
    first, second = uneven[order[0]], uneven[order[1]]
    if not second > _LEAST_RATIO * first:
        return None
    axis = int(order[0])
    moments = [_moment(along) for along in light]
    one, other = (moments[index] for index in range(3) if index != axis)
    symmetric = all(abs(moment.imag) < abs(moment.real) for moment in (one, other)) and one.real * other.real > 0
    peaked = min(abs(one.real), abs(other.real))
    return axis if symmetric and abs(moments[axis]) < min(_LARGEST_PATTERN_MOMENT, peaked / _LEAST_RATIO) else None


def _unevenness(light: NDArray[np.float64]) -> float:
    """Standard deviation relative to the mean, of entries that are not dark."""
    lit = light[light > _DARK * np.median(light)]
    return float(lit.std() / lit.mean()) if lit.size else 0.0


def _moment(light: NDArray[np.float64]) -> complex:
    """Mean of exp(i angle) weighted by intensity; the angle is 0 in the middle and covers one turn.

    1 for a peak in the middle, -1 for one at the ends, imaginary for light on one side, 0 for constant intensity.
    """
    N = len(light)
    total = float(light.sum())
    turns = np.exp(2j * np.pi * (np.arange(N) - N // 2) / N)
    return complex(light @ turns) / total if total > 0 else 0j
