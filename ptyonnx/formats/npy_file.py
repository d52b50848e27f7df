"""Read a `.npy` file that a stranger made: its header by the exact grammar, its numbers when they are known to be there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import PtyonnxError
from ptyonnx_bundles.files.input_files import check_regular_file
from ptyonnx_bundles.files.npy import NpyHeader, read_header

__all__ = ["read_npy"]


def read_npy(path: Path, error: type[PtyonnxError], check: Callable[[NpyHeader], None]) -> NDArray[Any]:
    """Read an array.

    Parameters
    ----------
    path : Path
    error : type of PtyonnxError
        Raised for whatever is wrong.
    check : callable
        Given the header, refuses what the caller cannot use, before it is read.

    Raises
    ------
    PtyonnxError
        Of the given type: missing, not a plain `.npy` file, or a damaged one.
    """
    check_regular_file(path, error, "give the path of a file")
    try:
        with path.open("rb") as stream:
            try:
                header = read_header(stream)
            except ValueError:
                raise error("not a plain NumPy file, or a damaged one", file=path) from None
            check(header)
            if header.size_bytes + header.data_bytes != path.stat().st_size:
                raise error("not a complete array", file=path, remedy="the file is damaged; fetch it again")
            array = np.frombuffer(bytearray(stream.read(header.data_bytes)), header.dtype)
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", file=path, remedy="check the path") from None
    if array.nbytes != header.data_bytes:
        raise error("not a complete array", file=path, remedy="the file is damaged; fetch it again")
    return array.reshape(header.shape, order="F" if header.fortran_order else "C")
