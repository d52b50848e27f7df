"""Convert stored patterns to float32 amplitudes ``(pattern, y, x)`` with the zero frequency in the middle.

This is the only place that takes square roots of intensities, for readers of files and for arrays in memory.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ptyonnx_runtime.scan.zero_frequency import to_the_centre

__all__ = ["Amplitudes", "Conversion", "Source", "Values"]

Values = Literal["amplitude", "intensity"]


class Conversion(NamedTuple):
    """How stored patterns are converted.

    Attributes
    ----------
    intensity : bool
        Patterns are counts, and their square root is taken.
    corner : bool
        The zero frequency is at [0, 0], and patterns are shifted.
    transposed : bool
        Each pattern is stored as (x, y).
    """

    intensity: bool = False
    corner: bool = False
    transposed: bool = False

    def __call__(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Convert some patterns. Float32 amplitudes are returned without a copy.

        Parameters
        ----------
        stored : (pattern, y, x) real

        Returns
        -------
        (pattern, y, x) float32
            Square roots are rounded once: those of 8-bit and 16-bit numbers are computed in float32, of longer types in
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
    """Real numbers of any type that can be read a few patterns at a time, such as a data set in an open file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(pattern, y, x)."""

    def __getitem__(self, index: Any) -> Any: ...


class Amplitudes:
    """Patterns that stay in their source and are converted when they are read.

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
        """Read patterns without conversion. Files are read with ascending indices."""
        if isinstance(index, slice):
            return np.asarray(self._source[index])
        ascending, place = np.unique(np.asarray(index), return_inverse=True)
        return np.asarray(self._source[ascending])[place]
