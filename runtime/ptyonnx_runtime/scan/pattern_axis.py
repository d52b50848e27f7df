"""Which axis of a cube runs over the patterns, where its shape does not say.

Every pattern of a scan holds about as much light as any other, for most samples let nearly all of it through. The rows and
the columns of a detector do not: light lies around the zero frequency. So the light that is summed up along the other two
axes is even over patterns, and a hill, or a valley where the zero frequency is in the corner, over rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["pattern_axis"]

_DARK = 0.01  # of the median: patterns without light, and rows that a beam stop covers, do not count
# Factor between the unevenness of rows or columns and that of patterns. On any 64 patterns of the shipped scan it is 9 and
# more, on simulated ones of phases up to 6 rad 8; a sample that absorbs half of the light leaves 2 to 9.
_APART = 3.0
_EVEN = 0.1  # largest moment of patterns; rows and columns of the shipped scan have 0.2 and more


def pattern_axis(light: Sequence[NDArray[np.float64]]) -> int | None:
    """Tell the axis of the patterns from the light along every axis.

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
    if not second > _APART * first:
        return None
    axis = int(order[0])
    moments = [_moment(along) for along in light]
    one, other = (moments[index] for index in range(3) if index != axis)
    symmetric = all(abs(moment.imag) < abs(moment.real) for moment in (one, other)) and one.real * other.real > 0
    heaped = min(abs(one.real), abs(other.real))
    return axis if symmetric and abs(moments[axis]) < min(_EVEN, heaped / _APART) else None


def _unevenness(light: NDArray[np.float64]) -> float:
    """Standard deviation over mean, where there is light."""
    lit = light[light > _DARK * np.median(light)]
    return float(lit.std() / lit.mean()) if lit.size else 0.0


def _moment(light: NDArray[np.float64]) -> complex:
    """Mean of exp(i angle), the angle running once around and 0 in the middle.

    1 for a peak in the middle, -1 for one at the ends, imaginary for light on one side, 0 for an even glow.
    """
    N = len(light)
    total = float(light.sum())
    turns = np.exp(2j * np.pi * (np.arange(N) - N // 2) / N)
    return complex(light @ turns) / total if total > 0 else 0j
