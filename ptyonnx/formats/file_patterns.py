"""Diffraction patterns that stay in their file and are read a few at a time.

Finding them in a file is the business of the format's reader; this class only knows where they
begin, and turns what is stored into float32 amplitudes.
"""

from __future__ import annotations

import threading
import weakref
from io import FileIO
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.intensity_signs import IntensitySigns
from ptyonnx.formats.zero_frequency import ZeroFrequency, looks_like_the_corner, to_the_centre
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan import chunks

__all__ = ["FilePatterns", "Stored", "Values", "fill"]

Values = Literal["amplitude", "intensity"]

_BLOCK_BYTES = 2**20  # of patterns checked at a time: stays in a core's cache


class Stored(NamedTuple):
    """Patterns as they lie in a file, one behind the other.

    Attributes
    ----------
    stream : FileIO
        Closed when the last reference goes.
    offset : int
        Byte at which the first pattern begins.
    shape : (int, int, int)
        (pattern, y, x), after transposing.
    dtype : dtype
    transposed : bool
        Each pattern is stored as (x, y).
    """

    stream: FileIO
    offset: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    transposed: bool


class FilePatterns:
    """Patterns in a file, as float32 amplitudes ``(pattern, y, x)``, checked once when opened.

    Slices and arrays of indices are read when they are asked for; nothing is kept in memory.

    Parameters
    ----------
    stored : Stored
    values : {"amplitude", "intensity"} or None
        What the numbers are, declared by the user. None: amplitude; then
        :meth:`refuse_intensities` is to be called once the probe is known.
    zero_frequency : {"centre", "corner"} or None
        Where it lies in the file. None: in the centre, unless the patterns look otherwise.
    file, key : str
        Named in errors.

    Raises
    ------
    ScanError
        NaN, infinity, negative or only zero values; an undeclared zero frequency that seems to be in the corner.
    """

    def __init__(
        self, stored: Stored, values: Values | None, zero_frequency: ZeroFrequency | None, file: str, key: str
    ) -> None:
        self._stored = stored
        weakref.finalize(self, stored.stream.close)
        self._file, self._key = file, key
        self._lock = threading.Lock()
        self._intensity = values == "intensity"
        self._corner = zero_frequency == "corner"
        self._place_declared = zero_frequency is not None
        self._signs: IntensitySigns | None = None
        self.mean_photons = self._check(declared=values is not None)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(pattern, y, x)."""
        return self._stored.shape

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Of what is returned, not of what is stored."""
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """3."""
        return 3

    def __len__(self) -> int:
        return self._stored.shape[0]

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        if isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(len(self))
            return self._amplitudes(self._read(start, max(0, stop - start)))
        chosen = np.atleast_1d(np.arange(len(self))[index])
        raw = np.empty((len(chosen), *self.shape[1:]), self._stored.dtype)
        for row, pattern in zip(raw, chosen.tolist(), strict=True):
            row[...] = self._read(pattern, 1)[0]
        return self._amplitudes(raw)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("patterns in a file cannot become an array without a copy")
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<FilePatterns {self.shape} in {self._file}>"

    def _read(self, start: int, count: int) -> NDArray[Any]:
        """Stored values of consecutive patterns."""
        stored = self._stored
        raw = np.empty((count, *stored.shape[1:]), stored.dtype)
        with self._lock:
            stored.stream.seek(stored.offset + start * raw.itemsize * stored.shape[1] * stored.shape[2])
            fill(stored.stream, raw, self._file, self._key)
        return raw

    def _amplitudes(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        if self._stored.transposed:
            raw = raw.transpose(0, 2, 1)
        if self._corner:
            raw = to_the_centre(raw)
        if self._intensity:
            return np.ascontiguousarray(np.sqrt(raw), np.float32)
        return np.ascontiguousarray(raw, np.float32)

    def refuse_intensities(self, probe: NDArray[np.complex64] | None) -> None:
        """Refuse intensities that nobody declared; they are never converted silently.

        Parameters
        ----------
        probe : (mode, y, x) complex64 or None

        Raises
        ------
        ScanError
            They look like intensities; the message says why, and how to declare what they are.
        """
        reason = self._signs and self._signs.found(probe, transposed=self._stored.transposed)
        if reason:
            raise ScanError(
                f"these look like intensities, not amplitudes ({reason})",
                file=self._file, key=self._key, expected="amplitude, sqrt(counts)",
                remedy="declare them: --values intensity (their square root is then taken), or --values amplitude",
            )  # fmt: skip

    def _check(self, *, declared: bool) -> float:
        """Look at every value once; mean photons per pattern."""
        total, lit = 0.0, False
        size = max(1, _BLOCK_BYTES // (self._stored.dtype.itemsize * self.shape[1] * self.shape[2]))
        for part in chunks(len(self), size):
            raw = self._read(part.start, part.stop - part.start)
            low, high = raw.min(), raw.max()
            if not (low >= 0 and high < np.inf):
                raise self._bad_value(raw, part.start)
            lit = lit or high > 0
            if not declared:
                self._signs = self._signs or IntensitySigns(raw)
                self._signs.add(raw)
            amplitudes = self._amplitudes(raw)
            if part.start == 0 and not self._place_declared:
                self._refuse_corner(amplitudes)
            flat = amplitudes.reshape(len(raw), 1, -1)
            total += float(np.sum(flat @ flat.transpose(0, 2, 1), dtype=np.float64))
        if not lit:
            raise ScanError(
                "the patterns are zero everywhere", file=self._file, key=self._key,
                remedy="check which array holds the measurement",
            )  # fmt: skip
        return total / len(self)

    def _refuse_corner(self, amplitudes: NDArray[np.float32]) -> None:
        reason = looks_like_the_corner(amplitudes)
        if reason:
            raise ScanError(
                f"the zero frequency seems to be in the corner ({reason})", file=self._file, key=self._key,
                expected="the middle, [N//2, N//2]",
                remedy="declare it: --zero-frequency corner (the patterns are then shifted), or --zero-frequency centre",
            )  # fmt: skip

    def _bad_value(self, raw: NDArray[Any], start: int) -> ScanError:
        bad = ~(np.isfinite(raw) & (raw >= 0))
        where = np.argwhere(bad)[0]
        value = raw[tuple(where)]
        negative = bool(value < 0) and bool(np.isfinite(value))
        return ScanError(
            "negative values" if negative else "NaN or infinity",
            file=self._file, key=self._key,
            found=f"{value} in pattern {start + int(where[0])} at (y, x) = {tuple(where[1:].tolist())}",
            remedy="amplitudes and counts are never negative; clip background subtraction at 0" if negative
            else "set bad pixels to 0",
        )  # fmt: skip


def fill(stream: FileIO, array: NDArray[Any], file: str | None = None, key: str = "diffraction") -> None:
    """Read a whole array from where the file stands.

    Raises
    ------
    ScanError
        The file ends before the array is full.
    """
    view = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < len(view):
        read = stream.readinto(view[filled:])
        if not read:
            raise ScanError(
                "ended while patterns were read", file=file, key=key,
                remedy="the file was changed or is truncated; fetch it again",
            )  # fmt: skip
        filled += read
