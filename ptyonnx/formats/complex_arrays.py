"""Read one complex array from a file. Nothing is unpickled, and the shape is checked before the data are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.npy_file import read_npy
from ptyonnx.formats.npz_archive import NpzArchive
from ptyonnx_bundles.errors import ObjectError
from ptyonnx_bundles.files.input_files import check_regular_file
from ptyonnx_bundles.files.npy import NpyHeader
from ptyonnx_converters.hdf5 import Hdf5File

__all__ = ["COMPLEX_FILES", "read_complex"]

COMPLEX_FILES = (".npz", ".npy", ".h5", ".hdf5")
_ZIP = b"PK"
_LARGEST_BYTES = 2**29  # complex128 of the largest object

Shape = tuple[int, ...]


def read_complex(
    path: Path,
    keys: Sequence[str],
    shape_of: Callable[[Shape], Shape],
    from_hdf5: Callable[[Hdf5File, str, Path], NDArray[np.complex64]],
) -> NDArray[np.complex64]:
    """Read the array of the first key that the file has.

    Parameters
    ----------
    path : Path
        `.npy` contains one array; in `.npz` and HDF5, `keys` are looked up.
    keys : sequence of str
    shape_of : callable
        Takes the shape in the file and returns that of the result; raises if the shape is not supported.
    from_hdf5 : callable
        Reads the array from an HDF5 file.

    Returns
    -------
    ndarray
        complex64.

    Raises
    ------
    ObjectError
        Missing, unreadable, without any of the keys, not complex, or of another shape.
    """
    if path.suffix.lower() in (".h5", ".hdf5"):
        with Hdf5File(path, ObjectError) as file:
            return from_hdf5(file, _first(path, keys, file.names()), path)
    check_regular_file(path, ObjectError, "give the path of a file")
    try:
        with path.open("rb") as stream:
            packed = stream.read(len(_ZIP)) == _ZIP
    except OSError as error:
        raise ObjectError(f"cannot be read ({error.strerror})", file=path, remedy="check the path") from None

    def check(header: NpyHeader) -> None:
        if header.dtype.kind != "c":
            raise ObjectError("not complex", file=path, found=header.dtype, expected="complex numbers")
        shape_of(header.shape)

    if not packed:
        return _complex64(read_npy(path, ObjectError, check), shape_of)
    with NpzArchive(path, ObjectError) as archive:
        key = _first(path, keys, archive.keys)
        check(archive.header(key))
        return _complex64(archive.read(key, _LARGEST_BYTES), shape_of)


def _complex64(array: NDArray[Any], shape_of: Callable[[Shape], Shape]) -> NDArray[np.complex64]:
    with np.errstate(over="ignore", invalid="ignore"):  # callers check for non-finite values
        return array.astype(np.complex64, order="C").reshape(shape_of(array.shape))


def _first(path: Path, keys: Sequence[str], present: Sequence[str]) -> str:
    for key in keys:
        if key in present:
            return key
    raise ObjectError(
        "missing", file=path, key=" or ".join(keys), found=", ".join(sorted(present)[:10]) or "nothing",
    )  # fmt: skip
