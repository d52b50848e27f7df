"""One complex array out of a file, never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ObjectError
from ptyonnx_bundles.regular import check_regular

__all__ = ["COMPLEX_FILES", "read_complex"]

COMPLEX_FILES = (".npz", ".npy", ".h5", ".hdf5")


def read_complex(path: Path, keys: Sequence[str]) -> NDArray[np.complex64]:
    """Read the array of the first key that the file has.

    Parameters
    ----------
    path : Path
        `.npy` holds one array; `.npz` and HDF5 are asked for `keys`.
    keys : sequence of str

    Returns
    -------
    ndarray
        complex64.

    Raises
    ------
    ObjectError
        Missing, unreadable, without any of the keys, or not complex.
    """
    check_regular(path, ObjectError, "give the path of a file")
    try:
        array = _read_hdf5(path, keys) if path.suffix.lower() in (".h5", ".hdf5") else _read_numpy(path, keys)
    except OSError as error:
        raise ObjectError(f"cannot be read ({error.strerror or error})", file=path, remedy="check the path") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise ObjectError("not a plain NumPy file, or a damaged one", file=path) from None
    if not np.iscomplexobj(array):
        raise ObjectError("not complex", file=path, found=array.dtype, expected="complex numbers")
    return np.asarray(array, np.complex64)


def _read_numpy(path: Path, keys: Sequence[str]) -> NDArray[Any]:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        array: NDArray[Any] = content[_first(path, keys, content.files)]
        return array


def _read_hdf5(path: Path, keys: Sequence[str]) -> NDArray[Any]:
    """Read a product's array, of which the leading axis (layers, incoherent probes) is dropped."""
    import h5py

    with h5py.File(path) as file:
        array: NDArray[Any] = file[_first(path, keys, list(file))][()]
    return array[0] if array.ndim > 2 else array


def _first(path: Path, keys: Sequence[str], present: Sequence[str]) -> str:
    for key in keys:
        if key in present:
            return key
    raise ObjectError(
        "missing", file=path, key=" or ".join(keys), found=", ".join(sorted(present)[:10]) or "nothing",
    )  # fmt: skip
