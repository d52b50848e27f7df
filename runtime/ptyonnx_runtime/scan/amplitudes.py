"""From what is stored to float32 amplitudes ``(pattern, y, x)`` with the zero frequency in the middle.

The one place where a square root is taken, whoever brings the numbers: a file's reader, or an array in memory.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ptyonnx_runtime.scan.zero_frequency import to_the_centre

__all__ = ["Amplitudes", "Conversion", "Source", "Values"]

Values = Literal["amplitude", "intensity"]


class Conversion(NamedTuple):
    """What must be done to stored patterns.

    Attributes
    ----------
    intensity : bool
        They are counts: the square root is taken.
    corner : bool
        Their zero frequency is at [0, 0]: they are shifted.
    transposed : bool
        Each is stored as (x, y).
    """

    intensity: bool = False
    corner: bool = False
    transposed: bool = False

    def __call__(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Convert some patterns; no copy is made where there is nothing to do.

        Parameters
        ----------
        stored : (pattern, y, x) real

        Returns
        -------
        (pattern, y, x) float32
            Square roots are rounded once: those of 8-bit and 16-bit numbers are taken in float32, of longer ones in
            float64.
        """
        if self.transposed:
            stored = stored.transpose(0, 2, 1)
        if self.corner:
            stored = to_the_centre(stored)
        if self.intensity:
            stored = np.sqrt(stored, dtype=np.result_type(stored.dtype, np.float32))
        return np.ascontiguousarray(stored, np.float32)


class Source(Protocol):
    """Real numbers of any type that can be read a few patterns at a time: a data set in an open file, say."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(pattern, y, x)."""

    def __getitem__(self, index: Any) -> Any: ...


class Amplitudes:
    """Patterns of another type that stay where they are, converted whenever they are read.

    Parameters
    ----------
    source : Source
    conversion : Conversion
    """

    def __init__(self, source: Source, conversion: Conversion) -> None:
        self._source, self._conversion = source, conversion

    @property
    def shape(self) -> tuple[int, ...]:
        """(pattern, y, x)."""
        return tuple(self._source.shape)

    def __len__(self) -> int:
        return int(self._source.shape[0])

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        return self._conversion(self.stored(index))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("patterns that stay where they are cannot become an array without a copy")
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<Amplitudes {self.shape} of {self._source!r}>"

    def stored(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Read as they are stored; files want indices that rise."""
        if isinstance(index, slice):
            return np.asarray(self._source[index])
        rising, place = np.unique(np.asarray(index), return_inverse=True)
        return np.asarray(self._source[rising])[place]
