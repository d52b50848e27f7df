"""Marks of bad pixels that look like counts: the largest number of a type, at one pixel in several patterns.

Detectors write the end of their numbers' range where they have no count: in gaps between modules, in hot pixels, and
where a pixel saturated. Read as photons such numbers outweigh all others. Negative marks need nobody to look for them.

Counts of 8 bits reach the end of their range with ordinary light. There the end is a mark only among pixels that are faint;
among bright ones a pixel saturates, and the little that it lacks is said aloud.
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
_BRIGHT = 1 / 4  # of the end: mean of the pixels around one that saturates
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
        As the patterns are stored. The largest number of their type is suspected by itself. So is, in any type, the
        largest of all values where it is the end of a narrower type, or its square root, as files have it whose numbers were
        converted.
    shape : (int, int)
        (y, x) of a pattern.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._end = int(np.iinfo(dtype).max) if dtype.kind in "iu" else float(np.finfo(dtype).max)
        self._patterns = 0
        self._top, self._second = -np.inf, -np.inf
        self._at_top = np.zeros(shape, np.int64)
        self._near_end = np.zeros(shape, np.int64)
        self._sum = np.zeros(shape) if dtype.kind in "iu" and dtype.itemsize == 1 else None

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
        if self._sum is not None:
            self._sum += values.sum(axis=0)
        if high >= _NEAR * self._end:
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
        marked = self._marked()
        return self._mark(marked & ~self._saturated(marked))

    def saturated(self) -> Mark | None:
        """Give the pixels of 8 bits that saturate, or None."""
        return self._mark(self._saturated(self._marked()))

    def _marked(self) -> NDArray[np.bool_]:
        """Pixels at which the largest number stands too often for a count."""
        if not self._patterns or not self._suspected():
            return np.zeros(self._at_top.shape, bool)
        often = self._at_top >= min(2, self._patterns)
        if self._top == self._end:
            return often & (self._at_top > self._near_end)
        far = float(self._top) >= _FAR * float(self._second)
        return often & (far | (self._at_top >= _OF_ALL * self._patterns))

    def _saturated(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Of these pixels, those in patches whose surroundings are bright."""
        saturated = np.zeros_like(marked)
        if self._sum is None or self._top != self._end or not marked.any():
            return saturated
        from scipy.ndimage import label

        patches, count = label(marked)
        patch, pixel = _surroundings(patches)
        light = np.bincount(patch, self._sum.reshape(-1)[pixel] / self._patterns, count + 1)
        pixels = np.bincount(patch, minlength=count + 1)
        bright = (pixels > 0) & (light >= _BRIGHT * self._end * pixels)
        return bright[patches]

    def _mark(self, marked: NDArray[np.bool_]) -> Mark | None:
        pixels = int(np.count_nonzero(marked))
        if not pixels or (self._patterns == 1 and pixels == 1):  # a single number proves nothing
            return None
        y, x = divmod(int(np.argmax(np.where(marked, self._at_top, 0))), marked.shape[1])
        return Mark(float(self._top), int(self._at_top[y, x]), y, x, pixels)

    def _suspected(self) -> bool:
        if self._top == self._end:
            return True
        value = float(self._top)
        return _ends_a_type(value) or _ends_a_type(value * value)


def _surroundings(patches: NDArray[np.signedinteger[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a patch and a pixel beside it that is in none, each pair once.

    Parameters
    ----------
    patches : (y, x) int32 or int64
        Number of the patch that a pixel is in; 0: none.

    Returns
    -------
    patch, pixel : (n,) int64
        Number, and index into the flattened image.
    """
    height, width = patches.shape
    within = np.pad(patches.astype(np.int64), 1)
    free = np.arange(patches.size).reshape(patches.shape)[patches == 0]
    pairs = []
    for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
        beside = within[y : y + height, x : x + width].reshape(-1)[free]
        pairs.append((beside * patches.size + free)[beside > 0])
    patch, pixel = np.divmod(np.unique(np.concatenate(pairs)), patches.size)
    return patch, pixel


def _ends_a_type(value: float) -> bool:
    """Whether a number is 2**k - 1, or 2**k - 2, which some detectors write for saturated pixels."""
    if not 2.0**_FEWEST_BITS - 2 <= value <= 2.0**64:
        return False
    power = 2.0 ** np.rint(np.log2(value))
    return bool(min(abs(value - (power - step)) for step in (1, 2)) <= _ROUNDING * value)
