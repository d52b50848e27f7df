"""Bring stored patterns into the order (pattern, y, x), without holding them in memory."""

from __future__ import annotations

import logging
import tempfile
from io import FileIO
from typing import Any

import numpy as np

from ptyonnx.formats.file_patterns import Stored, fill
from ptyonnx_bundles.errors import ScanError
from ptyonnx_bundles.files.positional_io import write_at
from ptyonnx_bundles.files.temporary_folder import temporary_folder
from ptyonnx_runtime.scan.pattern_axis import pattern_axis

__all__ = ["AXES", "in_pattern_order", "order_of_a_cube"]

AXES = ("nyx", "nxy", "yxn", "xyn")  # n: pattern; slowest axis first
_BLOCK_BYTES = 2**24
_MOST_SLABS = 64  # of a cube, spread over it, that are looked at for the order of its axes

_logger = logging.getLogger(__name__)


def order_of_a_cube(
    stream: FileIO, offset: int, N: int, dtype: np.dtype[Any], *, reversed_order: bool, file: str, key: str
) -> str:
    """Tell (pattern, y, x) from (y, x, pattern) where N patterns of N x N pixels fit either, by where their light lies.

    Parameters
    ----------
    stream : FileIO
    offset : int
        Byte at which the array begins.
    N : int
    dtype : dtype
    reversed_order : bool
        The array is stored with its first axis fastest.
    file, key : str
        Named in errors.

    Returns
    -------
    {"nyx", "yxn"}

    Raises
    ------
    ScanError
        The light does not say, or lies otherwise.
    """
    slabs = np.unique(np.linspace(0, N - 1, min(N, _MOST_SLABS)).round().astype(int))
    slowest, middle, fastest = np.zeros(len(slabs)), np.zeros(N), np.zeros(N)
    slab = np.empty((N, N), dtype)
    for number, index in enumerate(slabs.tolist()):
        fill(stream, slab, offset + index * slab.nbytes, file, key)
        squares = np.square(np.nan_to_num(slab.astype(np.float64), posinf=0, neginf=0))
        slowest[number] = squares.sum()
        middle += squares.sum(axis=1)
        fastest += squares.sum(axis=0)
    axis = pattern_axis([fastest, middle, slowest] if reversed_order else [slowest, middle, fastest])
    order = {0: "nyx", 2: "yxn"}.get(-1 if axis is None else axis)
    if order is None:
        raise ScanError(
            f"{N} patterns of {N} x {N} pixels fit every order of axes, and the light on them does not tell which it is",
            file=file, key=key, expected="a declared order",
            remedy='declare it: axes="nyx" for (pattern, y, x), axes="yxn" for (y, x, pattern)',
        )  # fmt: skip
    if order != "nyx":
        _logger.warning('%s: a cube whose light lies as (y, x, pattern): read so; axes="nyx" reads it otherwise', file)
    return order


def in_pattern_order(
    stream: FileIO, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any], axes: str
) -> Stored:
    """Describe patterns in a file, first rewriting them if the patterns are not one behind the other.

    Parameters
    ----------
    stream : FileIO
    offset : int
        Byte at which the array begins.
    shape : (int, int, int)
        In the order of `axes`.
    dtype : dtype
    axes : str
        One of :data:`AXES`.

    Raises
    ------
    ScanError
        No space for the temporary file.
    """
    if axes[0] == "n":
        count, rows, columns = shape
        ordered = stream
    else:
        rows, columns, count = shape
        with stream:
            ordered, offset = _patterns_first(stream, offset, shape, dtype), 0
    height, width = (rows, columns) if axes.index("y") < axes.index("x") else (columns, rows)
    return Stored(ordered, offset, (count, height, width), dtype, transposed=axes.index("x") < axes.index("y"))


def _patterns_first(stream: FileIO, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> FileIO:
    """A temporary file with the last axis first: each block of rows is written into every pattern."""
    rows, columns, count = shape
    row_bytes = columns * count * dtype.itemsize
    pattern_bytes = rows * columns * dtype.itemsize
    block = max(1, _BLOCK_BYTES // row_bytes)
    folder = temporary_folder()
    try:
        target = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - lives as long as the patterns
        for start in range(0, rows, block):
            number = min(block, rows - start)
            part = np.empty((number, columns, count), dtype)
            fill(stream, part, offset + start * row_bytes)
            for pattern, values in enumerate(np.ascontiguousarray(part.transpose(2, 0, 1))):
                write_at(
                    target, memoryview(values.tobytes()), pattern * pattern_bytes + start * columns * dtype.itemsize
                )
    except OSError as error:
        raise ScanError(
            f"patterns cannot be put in order in {folder} ({error.strerror})", key="diffraction",
            expected=f"{count * pattern_bytes} bytes of free space", remedy="set TMPDIR to a larger disk",
        ) from None  # fmt: skip
    return target
