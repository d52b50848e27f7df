"""Keep records of patches in a temporary file between two passes, so that memory does not grow with the scan."""

from __future__ import annotations

import logging
import shutil
import tempfile
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import OutputError
from ptyonnx_bundles.files.positional_io import read_at, write_at
from ptyonnx_bundles.files.temporary_folder import temporary_folder
from ptyonnx_runtime.stitching.stitching import Tiles

__all__ = ["Spool", "TileSpool"]

_LARGE_BYTES = 2**30  # larger files are mentioned in a warning
_REMEDY = 'make room there, set TMPDIR to another folder, or use the phases of the network: phases="network"'

_logger = logging.getLogger(__name__)


class Spool:
    """A temporary file of records, one for each patch. Any thread may write or read records.

    A context manager. The file has no name, and the system deletes it when it is closed or the process ends.

    Parameters
    ----------
    record : dtype
    count : int
        Number of patches; the file will hold a record for each.
    """

    def __init__(self, record: np.dtype[np.void], count: int) -> None:
        self.record = record
        self.size_bytes = record.itemsize * count

    def __enter__(self) -> Self:
        """Create the file.

        Raises
        ------
        OutputError
            There is no folder for temporary files, or too little free space.
        """
        folder = str(temporary_folder())
        try:
            free = shutil.disk_usage(folder).free
            if free < self.size_bytes:
                raise OutputError(
                    "too little free space for the temporary file of the patches", file=folder,
                    found=f"{free / 1e9:.3g} GB free", expected=f"{self.size_bytes / 1e9:.3g} GB", remedy=_REMEDY,
                )  # fmt: skip
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="ptyonnx-", buffering=0, dir=folder)
        except OSError as error:
            raise _unusable(folder, error) from None
        self._folder = folder
        level = logging.WARNING if self.size_bytes >= _LARGE_BYTES else logging.DEBUG
        _logger.log(
            level,
            "a temporary file of %.3g GB with the patches is written to %s (TMPDIR=… chooses another folder)",
            self.size_bytes / 1e9,
            folder,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, first: int, records: NDArray[np.void]) -> None:
        """Write the records of consecutive patches.

        Parameters
        ----------
        first : int
            Number of the first of these patches.
        records : (patch,) record

        Raises
        ------
        OutputError
            The disk is full, or the file cannot be written.
        """
        if not len(records):
            return
        try:
            write_at(self._file, _bytes(records), first * self.record.itemsize)
        except OSError as error:
            raise _unusable(self._folder, error) from None

    def get(self, first: int, count: int) -> NDArray[np.void]:
        """Read the records of `count` consecutive patches.

        Raises
        ------
        OutputError
            They cannot be read.
        """
        records = np.empty(count, self.record)
        try:
            read = read_at(self._file, _bytes(records), first * self.record.itemsize) if count else 0
        except OSError as error:
            raise _unusable(self._folder, error) from None
        if read < records.nbytes:
            raise OutputError("a temporary file is shorter than it was written", file=self._folder, remedy=_REMEDY)
        return records


class TileSpool(Spool):
    """A temporary file of tiles.

    Parameters
    ----------
    N : int
        Width of a patch, pixels.
    count : int
        Number of patches; a tile takes ``8 (N + 1)**2 + 40`` bytes.
    """

    def __init__(self, N: int, count: int) -> None:
        parts = [
            ("values", np.float32, (N + 1, 2 * (N + 1))),
            ("corner", np.int64, 2),
            ("fraction", np.float64, 2),
            ("share", np.float64),
        ]
        super().__init__(np.dtype(parts), count)

    def put_tiles(self, first: int, tiles: Tiles) -> None:
        """Write the tiles of consecutive patches; see :meth:`Spool.put`."""
        records = np.empty(len(tiles.values), self.record)
        for name, part in tiles._asdict().items():
            records[name] = part
        self.put(first, records)

    def get_tiles(self, first: int, count: int) -> Tiles:
        """Read the tiles of consecutive patches; see :meth:`Spool.get`."""
        records = self.get(first, count)
        return Tiles(**{name: records[name] for name in Tiles._fields})


def _bytes(records: NDArray[np.void]) -> memoryview:
    return np.ascontiguousarray(records).view(np.uint8).data


def _unusable(folder: str, error: OSError) -> OutputError:
    return OutputError(f"cannot be used for temporary files ({error.strerror})", file=folder, remedy=_REMEDY)
