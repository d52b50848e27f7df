"""Marks of bad pixels that look like counts: the largest number of an integer type, at one pixel in several patterns.

Detectors write the end of their integer's range where they have no count: in gaps between modules, in hot pixels, and
where a pixel saturated. Read as photons such numbers outweigh all others. Negative marks need nobody to look for them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mark", "Marks"]

_FEWEST_BITS = 8
_NEAR = 7 / 8  # of the end: genuine counts that reach the end also come close to it, and more often
_FAR = 2.0  # what no integer type of this file explains must be so many times as large as all other values
_OF_ALL = 0.5  # … or be the same number in so many of all patterns
_ROUNDING = 1e-6  # relative: a square root in float32, squared


class Mark(NamedTuple):
    """Where a mark stands.

    Attributes
    ----------
    value : float
    patterns : int
        In which it stands at its commonest pixel.
    y, x : int
        That pixel.
    pixels : int
        At which it stands in several patterns.
    """

    value: float
    patterns: int
    y: int
    x: int
    pixels: int

    def __str__(self) -> str:
        others = "" if self.pixels == 1 else f" and at {self.pixels - 1} other pixels"
        return f"{self.value:.10g} in {self.patterns} patterns at (y, x) = ({self.y}, {self.x}){others}"


class Marks:
    """Watches patterns go by and says at the end which number is none.

    Parameters
    ----------
    dtype : dtype
        As the patterns are stored. The largest number of an integer type is suspected by itself. So is, in any type, the
        largest of all values where it is the end of a narrower type, or its square root, as files have it whose numbers were
        converted.
    shape : (int, int)
        (y, x) of a pattern.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._end = int(np.iinfo(dtype).max) if dtype.kind in "iu" else None
        self._patterns = 0
        self._top, self._second = -np.inf, -np.inf
        self._at_top = np.zeros(shape, np.int64)
        self._near_end = np.zeros(shape, np.int64)

    def look(self, values: NDArray[Any], high: Any) -> None:
        """Look at some patterns.

        Parameters
        ----------
        values : (n, y, x) real
            Finite and not negative.
        high : number
            Their largest.
        """
        self._patterns += len(values)
        if self._end is not None and high >= _NEAR * self._end:
            self._near_end += ((values >= _NEAR * self._end) & (values < self._end)).sum(axis=0)
        if high < self._top:
            self._second = max(self._second, high)
            return
        if high > self._top:
            self._second, self._top = self._top, high
            self._at_top[...] = 0
        if self._suspected():
            top = values == high
            self._at_top += top.sum(axis=0)
            below = values[~top]
            if below.size:
                self._second = max(self._second, below.max())

    def found(self) -> Mark | None:
        """Give the mark, or None."""
        if not self._patterns or not self._suspected():
            return None
        several = min(2, self._patterns)
        at = self._at_top
        if self._top == self._end:
            marked = (at >= several) & (at > self._near_end)
        else:
            far = float(self._top) >= _FAR * float(self._second)
            marked = (at >= several) & (far | (at >= _OF_ALL * self._patterns))
        pixels = int(np.count_nonzero(marked))
        if not pixels or (self._patterns == 1 and pixels == 1):  # a single number proves nothing
            return None
        y, x = divmod(int(np.argmax(np.where(marked, at, 0))), at.shape[1])
        return Mark(float(self._top), int(at[y, x]), y, x, pixels)

    def _suspected(self) -> bool:
        if self._top == self._end:
            return True
        value = float(self._top)
        return _ends_a_type(value) or _ends_a_type(value * value)


def _ends_a_type(value: float) -> bool:
    """Whether a number is 2**k - 1, or 2**k - 2, which some detectors write for saturated pixels."""
    if not 2.0**_FEWEST_BITS - 2 <= value <= 2.0**64:
        return False
    power = 2.0 ** np.rint(np.log2(value))
    return bool(min(abs(value - (power - step)) for step in (1, 2)) <= _ROUNDING * value)
