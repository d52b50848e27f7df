"""Probes and objects in HDF5, whichever tool wrote them; every array that a file holds is used or refused.

Which axes a probe may have is the same in NPZ and NPY files: :func:`modes_of`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ObjectError
from ptyonnx_converters.hdf5 import Hdf5File

__all__ = ["LARGEST_OBJECT_PX", "LARGEST_PROBE_PX", "check_layers", "modes_of", "read_object", "read_probe"]

LARGEST_PROBE_PX = 2**25  # of all modes: 32 of 1024 x 1024
LARGEST_OBJECT_PX = 2**25  # 5792 x 5792; a scan of it has more patterns than anybody simulates
_LARGEST_ITEM_BYTES = 16  # complex128
_VARIABLE = "opr_weights"  # how much of each probe is in each pattern: orthogonal probe relaxation


def modes_of(shape: tuple[int, ...], path: Path, *, variable: bool = False) -> tuple[int, int, int]:
    """The shape of a probe as (mode, y, x).

    Modes are stored as (mode, y, x), as (1, mode, y, x) by ptychodus and pty-chi, and as (mode, 1, y, x) by others.

    Parameters
    ----------
    shape : tuple of int
        In the file.
    path : Path
        Named in errors.
    variable : bool
        The file says that the first axis is one of probes that are mixed anew for every pattern.

    Raises
    ------
    ObjectError
        Another shape, too large, or several probes of several modes each.
    """
    expected = "(mode, N, N), (1, mode, N, N) or (mode, 1, N, N), N even"
    if len(shape) == 4 and shape[0] > 1 and (variable or shape[1] > 1):
        raise ObjectError(
            "a probe that changes during the scan", file=path, key="probe", found=shape, expected=expected,
            remedy="reconstruct with one probe for all patterns, or store the mean probe",
        )  # fmt: skip
    modes = (1, *shape) if len(shape) == 2 else (shape[0] * shape[1], *shape[2:]) if len(shape) == 4 else shape
    if len(modes) != 3 or modes[1] != modes[2] or modes[1] % 2 or 0 in modes:
        raise ObjectError("wrong shape", file=path, key="probe", found=shape, expected=expected)
    if modes[0] * modes[1] * modes[2] > LARGEST_PROBE_PX:
        raise ObjectError(
            "too large", file=path, key="probe", found=shape, expected=f"at most {LARGEST_PROBE_PX} pixels in all"
        )
    return modes[0], modes[1], modes[2]


def check_layers(shape: tuple[int, ...], path: Path) -> tuple[int, int]:
    """The shape of an object as (y, x).

    Raises
    ------
    ObjectError
        Several layers, another shape, or too large.
    """
    if len(shape) == 3 and shape[0] > 1:
        raise ObjectError(
            "several layers", file=path, key="object", found=shape, expected="one",
            remedy="multiply the layers, or store one of them",
        )  # fmt: skip
    if len(shape) not in {2, 3} or 0 in shape:
        raise ObjectError("wrong shape", file=path, key="object", found=shape, expected="(y, x)")
    if shape[-2] * shape[-1] > LARGEST_OBJECT_PX:
        raise ObjectError(
            "too large", file=path, key="object", found=shape, expected=f"at most {LARGEST_OBJECT_PX} pixels"
        )
    return shape[-2], shape[-1]


def read_probe(file: Hdf5File, key: str, path: Path) -> NDArray[np.complex64]:
    """Read a probe.

    Returns
    -------
    (mode, y, x) complex64

    Raises
    ------
    ObjectError
        No complex numbers, or see :func:`modes_of`.
    """
    shape = modes_of(file.shape(key), path, variable=file.kind(_VARIABLE) is not None)
    return _complex(file, key, path, LARGEST_PROBE_PX).reshape(shape)


def read_object(file: Hdf5File, key: str, path: Path) -> NDArray[np.complex64]:
    """Read an object of one layer.

    Returns
    -------
    (y, x) complex64

    Raises
    ------
    ObjectError
        No complex numbers, or see :func:`check_layers`.
    """
    shape = check_layers(file.shape(key), path)
    return _complex(file, key, path, LARGEST_OBJECT_PX).reshape(shape)


def _complex(file: Hdf5File, key: str, path: Path, most_px: int) -> NDArray[np.complex64]:
    array = file.array(key, most_px * _LARGEST_ITEM_BYTES)
    if array.dtype.kind != "c":
        raise ObjectError("not complex", file=path, key=key, found=array.dtype, expected="complex numbers")
    with np.errstate(over="ignore"):  # what is no finite number afterwards is the caller's to refuse
        return array.astype(np.complex64)
