"""Diffraction patterns that stay in their file and are read a few at a time.

The format's reader locates them in the file. This class converts stored values into float32 amplitudes.
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

__all__ = ["FilePatterns", "StoredPatterns", "read_into"]

_BLOCK_BYTES = 2**20  # of patterns that are inspected together: they fit into a core's cache


class StoredPatterns(NamedTuple):
    """Patterns as they are stored in a file, one after another.

    Attributes
    ----------
    stream : FileIO
        Closed with the last reference to the patterns. Its position is neither used nor changed.
    offset : int
        Byte at which the first pattern begins.
    shape : (int, int, int)
        (pattern, y, x), after transposing.
    dtype : dtype
    transposed : bool
        Each pattern is stored as (x, y).
    checksum : Checksum or None
        Of all patterns, if it has not been verified yet.
    """

    stream: FileIO
    offset: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    transposed: bool
    checksum: Checksum | None = None


class FilePatterns:
    """Patterns in a file, as float32 amplitudes ``(pattern, y, x)``.

    Slices and arrays of indices are read on demand; nothing is kept in memory. Any number of threads and of forked
    processes may read at the same time.

    Parameters
    ----------
    stored : StoredPatterns
    values : {"amplitude", "intensity"} or None
        What the stored values are, if declared. None: amplitudes; :meth:`inspect` raises if they look otherwise.
    zero_frequency : {"centre", "corner"} or None
        Where the zero frequency is in the file. None: in the centre; :meth:`inspect` raises if it looks otherwise.
    file, key : str
        Named in errors.

    Attributes
    ----------
    photons : (pattern,) float64
        Photons of each pattern; set by :meth:`inspect`.
    """

    photons: NDArray[np.float64]

    def __init__(
        self, stored: StoredPatterns, values: Values | None, zero_frequency: ZeroFrequency | None, file: str, key: str
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
        """The type of returned values, not of stored ones."""
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
        """Check every value, and count the photons.

        Parameters
        ----------
        probe : (mode, y, x) complex64 or None
            States how many photons are expected, and where.
        kept : (pattern, y, x) float32, optional
            Filled with the amplitudes, so that they need not be read again.

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
            for _ in blocks:  # a wrong checksum is reported in preference to odd values, which may follow from it
                pass
            raise
        return self.photons

    def _blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield all patterns as stored, a few at a time, and verify their checksum at the end."""
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
        """Read stored values of consecutive patterns."""
        stored = self._stored
        raw = np.empty((count, *stored.shape[1:]), stored.dtype)
        read_into(
            stored.stream,
            raw,
            stored.offset + start * raw.itemsize * stored.shape[1] * stored.shape[2],
            self._file,
            self._key,
        )
        return raw


def read_into(
    stream: FileIO, array: NDArray[Any], offset: int, file: str | None = None, key: str = "diffraction"
) -> None:
    """Fill an array with the bytes of a file from `offset` on.

    Raises
    ------
    ScanError
        The file ends before the array is full.
    """
    view = array.reshape(-1).view(np.uint8).data
    if read_at(stream, view, offset) < len(view):
        raise ScanError(
            "the file ended before all patterns were read", file=file, key=key,
            remedy="the file was changed or is truncated; copy it again",
        )  # fmt: skip
