"""Bring stored patterns into the order (pattern, y, x), without holding them in memory."""

from __future__ import annotations

import logging
import tempfile
from io import FileIO
from typing import Any

import numpy as np

from ptyonnx.formats.file_patterns import StoredPatterns, read_into
from ptyonnx_bundles.errors import ScanError
from ptyonnx_bundles.files.positional_io import write_at
from ptyonnx_bundles.files.temporary_folder import temporary_folder
from ptyonnx_runtime.scan.pattern_axis import pattern_axis

__all__ = ["AXES", "infer_cube_order", "stored_in_order"]

AXES = ("nyx", "nxy", "yxn", "xyn")  # n is the pattern; the slowest axis comes first
_BLOCK_BYTES = 2**24
_MOST_SLABS = 64  # evenly spaced planes of a cube that are read to infer the order of its axes

_logger = logging.getLogger(__name__)


def infer_cube_order(
    stream: FileIO, offset: int, N: int, dtype: np.dtype[Any], *, reversed_order: bool, file: str, key: str
) -> str:
    """Infer from the intensity whether N patterns of N x N pixels are stored as (pattern, y, x) or as (y, x, pattern).

    Parameters
    ----------
    stream : FileIO
    offset : int
        Byte at which the array begins.
    N : int
    dtype : dtype
    reversed_order : bool
        The array is stored in Fortran order, with its first axis fastest.
    file, key : str
        Named in errors.

    Returns
    -------
    {"nyx", "yxn"}

    Raises
    ------
    ScanError
        The intensity does not decide, or fits another order.
    """
    slabs = np.unique(np.linspace(0, N - 1, min(N, _MOST_SLABS)).round().astype(int))
    slowest, middle, fastest = np.zeros(len(slabs)), np.zeros(N), np.zeros(N)
    slab = np.empty((N, N), dtype)
    for number, index in enumerate(slabs.tolist()):
        read_into(stream, slab, offset + index * slab.nbytes, file, key)
        squares = np.square(np.nan_to_num(slab.astype(np.float64), posinf=0, neginf=0))
        slowest[number] = squares.sum()
        middle += squares.sum(axis=1)
        fastest += squares.sum(axis=0)
    axis = pattern_axis([fastest, middle, slowest] if reversed_order else [slowest, middle, fastest])
    order = {0: "nyx", 2: "yxn"}.get(-1 if axis is None else axis)
    if order is None:
        raise ScanError(
            f"the order of axes is ambiguous: {N} patterns of {N} x {N} pixels, whose intensity does not decide",
            file=file, key=key, expected="a declared order of axes",
            remedy='declare it: axes="nyx" for (pattern, y, x), axes="yxn" for (y, x, pattern)',
        )  # fmt: skip
    if order != "nyx":
        _logger.warning('%s: patterns were inferred to be stored as (y, x, pattern); axes="nyx" overrides it', file)
    return order


def stored_in_order(
    stream: FileIO, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any], axes: str
) -> StoredPatterns:
    """Describe patterns in a file. If they are not stored one after another, they are first copied to a temporary file.

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
    return StoredPatterns(ordered, offset, (count, height, width), dtype, transposed=axes.index("x") < axes.index("y"))


def _patterns_first(stream: FileIO, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> FileIO:
    """Write a temporary file in which the last axis is the first. Each block of rows is written to every pattern."""
    rows, columns, count = shape
    row_bytes = columns * count * dtype.itemsize
    pattern_bytes = rows * columns * dtype.itemsize
    block = max(1, _BLOCK_BYTES // row_bytes)
    folder = temporary_folder()
    try:
        target = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - open as long as the patterns are
        for start in range(0, rows, block):
            number = min(block, rows - start)
            part = np.empty((number, columns, count), dtype)
            read_into(stream, part, offset + start * row_bytes)
            for pattern, values in enumerate(np.ascontiguousarray(part.transpose(2, 0, 1))):
                write_at(
                    target, memoryview(values.tobytes()), pattern * pattern_bytes + start * columns * dtype.itemsize
                )
    except OSError as error:
        raise ScanError(
            f"patterns cannot be copied to {folder} ({error.strerror})", key="diffraction",
            expected=f"{count * pattern_bytes} bytes of free space", remedy="set TMPDIR to a larger disk",
        ) from None  # fmt: skip
    return target
