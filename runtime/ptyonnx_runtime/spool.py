"""Keeps tiles on disk between two passes, so that memory does not grow with the scan."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import OutputError
from ptyonnx_runtime.stitching import Tiles

__all__ = ["TileSpool"]


class TileSpool:
    """A temporary file of tiles, read back in the order in which they came.

    A context manager; the file has no name and vanishes with it, whatever happens.
    """

    def __init__(self) -> None:
        self._rest: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = []
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="ptyonnx-")
        except OSError as error:
            raise _full(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, tiles: Tiles) -> None:
        """Put tiles away.

        Raises
        ------
        OutputError
            No room in the folder for temporary files.
        """
        try:
            self._file.write(np.ascontiguousarray(tiles.values).data)
        except OSError as error:
            raise _full(error) from None
        self._shape = tiles.values.shape[1:]
        self._rest.append((tiles.corner, tiles.fraction, tiles.share))

    def __iter__(self) -> Iterator[Tiles]:
        """Give the tiles back, as many at a time as they came."""
        try:
            self._file.seek(0)
        except OSError as error:
            raise _full(error) from None
        for corner, fraction, share in self._rest:
            values = np.empty((len(corner), *self._shape), np.float32)
            self._file.readinto(values.data)  # type: ignore[attr-defined]
            yield Tiles(values, corner, fraction, share)


def _full(error: OSError) -> OutputError:
    return OutputError(
        f"cannot be written ({error.strerror})", file=tempfile.gettempdir(),
        remedy="make room there, set TMPDIR to another folder, or keep the network's phases (--phases network)",
    )  # fmt: skip
