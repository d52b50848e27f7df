"""Find marks of bad pixels that look like counts: the largest number of a type, at one pixel in several patterns.

Detectors write the largest number of their type where they have no count: in gaps between modules, in hot pixels, and in
saturated pixels. As photons, such numbers would outweigh all others. Negative marks are refused as negative values.

Counts of 8 bits reach 255 with ordinary light. There the largest number is a mark only among faint pixels. Among bright
ones it is a saturated pixel, for which a warning is enough.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mark", "Marks"]

_FEWEST_BITS = 8
_NEAR = 7 / 8  # of the largest number: genuine counts that reach it also come close to it, and more often
_FAR = (
    2.0  # a mark that is not the largest number of the stored type is at least this many times the second largest value
)
_OF_ALL = 0.5  # … or occurs in at least this fraction of all patterns
_BRIGHT = 1 / 4  # of the largest number: least mean of the pixels around a saturated one
_ROUNDING = 1e-6  # relative: a square root in float32, squared


class Mark(NamedTuple):
    """The number that marks bad pixels, and where it occurs.

    Attributes
    ----------
    value : float
    patterns : int
        Number of patterns with this value at pixel (y, x).
    y, x : int
        The pixel at which it is most frequent.
    pixels : int
        Number of pixels at which it occurs in several patterns.
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
    """Collects statistics of patterns, and decides at the end which number marks bad pixels.

    Parameters
    ----------
    dtype : dtype
        Of the stored patterns. The largest number of this type is a candidate. So is the largest value of the data if it
        is the largest number of a narrower type, or the square root of one, as in files whose numbers were converted.
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

    def add(self, values: NDArray[Any], high: Any) -> None:
        """Add some patterns.

        Parameters
        ----------
        values : (n, y, x) real
            Finite and not negative.
        high : number
            The largest of these values.
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
        if self._is_candidate():
            top = values == high
            self._at_top += top.sum(axis=0)
            below = values[~top]
            if below.size:
                self._second = max(self._second, below.max())

    def bad_pixels(self) -> Mark | None:
        """The mark of bad pixels, or None."""
        marked = self._marked()
        return self._mark(marked & ~self._saturated(marked))

    def saturated(self) -> Mark | None:
        """The saturated pixels of 8-bit counts, or None."""
        return self._mark(self._saturated(self._marked()))

    def _marked(self) -> NDArray[np.bool_]:
        """Pixels at which the largest number is too frequent for a count."""
        if not self._patterns or not self._is_candidate():
            return np.zeros(self._at_top.shape, bool)
        often = self._at_top >= min(2, self._patterns)
        if self._top == self._end:
            return often & (self._at_top > self._near_end)
        far = float(self._top) >= _FAR * float(self._second)
        return often & (far | (self._at_top >= _OF_ALL * self._patterns))

    def _saturated(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of the marked pixels whose connected region has bright neighbours."""
        saturated = np.zeros_like(marked)
        if self._sum is None or self._top != self._end or not marked.any():
            return saturated
        from scipy.ndimage import label

        regions, count = label(marked)
        region, pixel = _neighbours(regions)
        light = np.bincount(region, self._sum.reshape(-1)[pixel] / self._patterns, count + 1)
        pixels = np.bincount(region, minlength=count + 1)
        bright = (pixels > 0) & (light >= _BRIGHT * self._end * pixels)
        return bright[regions]

    def _mark(self, marked: NDArray[np.bool_]) -> Mark | None:
        pixels = int(np.count_nonzero(marked))
        if not pixels or (self._patterns == 1 and pixels == 1):  # a single number proves nothing
            return None
        y, x = divmod(int(np.argmax(np.where(marked, self._at_top, 0))), marked.shape[1])
        return Mark(float(self._top), int(self._at_top[y, x]), y, x, pixels)

    def _is_candidate(self) -> bool:
        if self._top == self._end:
            return True
        value = float(self._top)
        return _ends_a_type(value) or _ends_a_type(value * value)


def _neighbours(regions: NDArray[np.signedinteger[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a region and an unmarked pixel beside it, each pair once.

    Parameters
    ----------
    regions : (y, x) int32 or int64
        Number of the region of each pixel; 0 for unmarked pixels.

    Returns
    -------
    region, pixel : (n,) int64
        Number of the region, and index into the flattened image.
    """
    height, width = regions.shape
    within = np.pad(regions.astype(np.int64), 1)
    free = np.arange(regions.size).reshape(regions.shape)[regions == 0]
    pairs = []
    for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
        beside = within[y : y + height, x : x + width].reshape(-1)[free]
        pairs.append((beside * regions.size + free)[beside > 0])
    region, pixel = np.divmod(np.unique(np.concatenate(pairs)), regions.size)
    return region, pixel


def _ends_a_type(value: float) -> bool:
    """Whether a number is 2**k - 1, or 2**k - 2, which some detectors write in saturated pixels."""
    if not 2.0**_FEWEST_BITS - 2 <= value <= 2.0**64:
        return False
    power = 2.0 ** np.rint(np.log2(value))
    return bool(min(abs(value - (power - step)) for step in (1, 2)) <= _ROUNDING * value)
