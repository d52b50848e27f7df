"""Read an untrusted `.npy` file: the header is parsed strictly, and the size is checked before the data are read."""

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
        Raised for all faults of the file.
    check : callable
        Takes the header, and raises if the caller cannot use the array; called before the data are read.

    Raises
    ------
    PtyonnxError
        Of the given type. The file is missing, damaged, or does not contain an array of numbers.
    """
    check_regular_file(path, error, "give the path of a file")
    try:
        with path.open("rb") as stream:
            try:
                header = read_header(stream)
            except ValueError:
                raise error("not a NumPy file of numbers, or a damaged one", file=path) from None
            check(header)
            if header.size_bytes + header.data_bytes != path.stat().st_size:
                raise error("not a complete array", file=path, remedy="the file is damaged; copy it again")
            array = np.frombuffer(bytearray(stream.read(header.data_bytes)), header.dtype)
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", file=path, remedy="check the path") from None
    if array.nbytes != header.data_bytes:
        raise error("not a complete array", file=path, remedy="the file is damaged; copy it again")
    return array.reshape(header.shape, order="F" if header.fortran_order else "C")
