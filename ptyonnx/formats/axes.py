"""Bring stored patterns into the order (pattern, y, x), without holding them in memory."""

from __future__ import annotations

import tempfile
from io import FileIO
from typing import Any

import numpy as np

from ptyonnx.formats.file_patterns import Stored, fill
from ptyonnx_bundles.errors import ScanError

__all__ = ["AXES", "in_pattern_order"]

AXES = ("nyx", "nxy", "yxn", "xyn")  # n: pattern; slowest axis first
_BLOCK_BYTES = 2**24


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
    try:
        target = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the patterns
        for start in range(0, rows, block):
            number = min(block, rows - start)
            stream.seek(offset + start * row_bytes)
            part = np.empty((number, columns, count), dtype)
            fill(stream, part)
            for pattern, values in enumerate(np.ascontiguousarray(part.transpose(2, 0, 1))):
                target.seek(pattern * pattern_bytes + start * columns * dtype.itemsize)
                target.write(values.tobytes())
    except OSError as error:
        raise ScanError(
            f"patterns cannot be put in order in {tempfile.gettempdir()} ({error.strerror})", key="diffraction",
            expected=f"{count * pattern_bytes} bytes of free space", remedy="set TMPDIR to a larger disk",
        ) from None  # fmt: skip
    return target
