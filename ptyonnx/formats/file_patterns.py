"""Diffraction patterns that stay in their file and are read a few at a time.

Finding them in a file is the business of the format's reader; this class only knows where they begin, and turns what is
stored into float32 amplitudes.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Iterator
from io import FileIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.npz_archive import Checksum
from ptyonnx_bundles.errors import ScanError
from ptyonnx_bundles.files.positional_io import read_at
from ptyonnx_runtime.scan import chunks
from ptyonnx_runtime.scan.amplitudes import Conversion, Values
from ptyonnx_runtime.scan.inspection import Inspection
from ptyonnx_runtime.scan.zero_frequency import ZeroFrequency

__all__ = ["FilePatterns", "Stored", "fill"]

_BLOCK_BYTES = 2**20  # of patterns looked at together: stays in a core's cache


class Stored(NamedTuple):
    """Patterns as they lie in a file, one behind the other.

    Attributes
    ----------
    stream : FileIO
        Closed when the last reference goes. Its position is neither used nor changed.
    offset : int
        Byte at which the first pattern begins.
    shape : (int, int, int)
        (pattern, y, x), after transposing.
    dtype : dtype
    transposed : bool
        Each pattern is stored as (x, y).
    checksum : Checksum or None
        Of all patterns, where nobody has compared it yet.
    """

    stream: FileIO
    offset: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    transposed: bool
    checksum: Checksum | None = None


class FilePatterns:
    """Patterns in a file, as float32 amplitudes ``(pattern, y, x)``.

    Slices and arrays of indices are read when they are asked for; nothing is kept in memory. Any number of threads and
    of forked processes may read at the same time.

    Parameters
    ----------
    stored : Stored
    values : {"amplitude", "intensity"} or None
        What the numbers are, declared by the user. None: amplitude, unless :meth:`inspect` finds otherwise.
    zero_frequency : {"centre", "corner"} or None
        Where it lies in the file. None: in the centre, unless the patterns look otherwise.
    file, key : str
        Named in errors.

    Attributes
    ----------
    photons : (pattern,) float64
        Of every pattern; there once :meth:`inspect` has counted them.
    """

    photons: NDArray[np.float64]

    def __init__(
        self, stored: Stored, values: Values | None, zero_frequency: ZeroFrequency | None, file: str, key: str
    ) -> None:
        self._stored = stored
        weakref.finalize(self, stored.stream.close)
        self._file, self._key = file, key
        self._values, self._place = values, zero_frequency
        self._amplitudes = Conversion(values == "intensity", zero_frequency == "corner", stored.transposed)

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

    def inspect(
        self, probe: NDArray[np.complex64] | None, kept: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        """Look at every value once.

        Parameters
        ----------
        probe : (mode, y, x) complex64 or None
            Knows how many photons there should be, and where.
        kept : (pattern, y, x) float32, optional
            Receives the amplitudes, which then need not be read again.

        Returns
        -------
        (pattern,) float64
            Photons of every pattern.

        Raises
        ------
        ScanError
            See :class:`ptyonnx_runtime.scan.inspection.Inspection`.
        """
        inspection = Inspection(
            self.shape, self._amplitudes, values=self._values, zero_frequency=self._place,
            file=self._file, key=self._key,
        )  # fmt: skip
        blocks = self._blocks()
        try:
            for part, stored in blocks:
                amplitudes = inspection.inspect(stored)
                if kept is not None:
                    kept[part] = amplitudes
            self.photons = inspection.photons(probe)
        except ScanError:
            for _ in blocks:  # of a damaged file that is said, and not what its values look like
                pass
            raise
        return self.photons

    def _blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """All patterns as they are stored, a few at a time; at the end they must add up to their checksum."""
        checksum = self._stored.checksum
        total = checksum.begun if checksum else 0
        size = max(1, _BLOCK_BYTES // (self._stored.dtype.itemsize * self.shape[1] * self.shape[2]))
        for part in chunks(len(self), size):
            stored = self._read(part.start, part.stop - part.start)
            if checksum:
                total = zlib.crc32(stored.reshape(-1).view(np.uint8).data, total)
            yield part, stored
        if checksum and total != checksum.expected:
            raise ScanError(
                "not a complete array", file=self._file, key=self._key, remedy="the file is damaged; fetch it again"
            )

    def _read(self, start: int, count: int) -> NDArray[Any]:
        """Stored values of consecutive patterns."""
        stored = self._stored
        raw = np.empty((count, *stored.shape[1:]), stored.dtype)
        fill(
            stored.stream,
            raw,
            stored.offset + start * raw.itemsize * stored.shape[1] * stored.shape[2],
            self._file,
            self._key,
        )
        return raw


def fill(stream: FileIO, array: NDArray[Any], offset: int, file: str | None = None, key: str = "diffraction") -> None:
    """Read a whole array from a byte of a file on.

    Raises
    ------
    ScanError
        The file ends before the array is full.
    """
    view = array.reshape(-1).view(np.uint8).data
    if read_at(stream, view, offset) < len(view):
        raise ScanError(
            "ended while patterns were read", file=file, key=key,
            remedy="the file was changed or is truncated; fetch it again",
        )  # fmt: skip
