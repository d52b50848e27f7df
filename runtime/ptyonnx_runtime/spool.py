"""Keeps tiles on disk between two passes, so that memory does not grow with the scan."""

from __future__ import annotations

import tempfile
from threading import Lock
from typing import IO, NamedTuple, Self

import numpy as np

from ptyonnx_bundles.errors import OutputError
from ptyonnx_runtime.positioned import read_at, write_at
from ptyonnx_runtime.stitching import Tiles

__all__ = ["TileSpool"]

_NOWHERE = np.empty(0, np.float32)  # an empty part of the values would keep all of them in memory


class _Slot(NamedTuple):
    """Where the values of some tiles lie, and the little that stays in memory."""

    offset: int
    shape: tuple[int, ...]
    tiles: Tiles


class TileSpool:
    """A temporary file of tiles. Any thread may put tiles away or read them.

    A context manager; the file has no name and vanishes with it, whatever happens.
    """

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}
        self._end = 0
        self._lock = Lock()

    def __enter__(self) -> Self:
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="ptyonnx-", buffering=0)
        except OSError as error:
            raise _full(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, key: int, tiles: Tiles) -> None:
        """Put tiles away under a number.

        Raises
        ------
        OutputError
            No room in the folder for temporary files.
        """
        values = np.ascontiguousarray(tiles.values)
        with self._lock:
            offset = self._end
            self._end += values.nbytes
        try:
            write_at(self._file, values.data.cast("B"), offset)
        except OSError as error:
            raise _full(error) from None
        self._slots[key] = _Slot(offset, values.shape, tiles._replace(values=_NOWHERE))

    def get(self, key: int) -> Tiles:
        """Give the tiles of a number back."""
        offset, shape, tiles = self._slots[key]
        values = np.empty(shape, np.float32)
        read_at(self._file, values.data.cast("B"), offset)
        return tiles._replace(values=values)


def _full(error: OSError) -> OutputError:
    return OutputError(
        f"cannot be written ({error.strerror})", file=tempfile.gettempdir(),
        remedy="make room there, set TMPDIR to another folder, or keep the network's phases (--phases network)",
    )  # fmt: skip
