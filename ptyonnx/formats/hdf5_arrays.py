"""Probes and objects in HDF5 files of ptychodus, pty-chi and others. No mode or layer is dropped silently.

NPZ and NPY files allow the same axes: :func:`probe_shape`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ObjectError
from ptyonnx_converters.hdf5 import Hdf5File

__all__ = ["LARGEST_OBJECT_PX", "LARGEST_PROBE_PX", "object_shape", "probe_shape", "read_object", "read_probe"]

LARGEST_PROBE_PX = 2**25  # of all modes: 32 of 1024 x 1024
LARGEST_OBJECT_PX = 2**25  # 5792 x 5792; larger than simulated objects are in practice
_LARGEST_ITEM_BYTES = 16  # complex128
_VARIABLE = "opr_weights"  # weights of orthogonal probe relaxation: a probe for each pattern


def probe_shape(shape: tuple[int, ...], path: Path, *, variable: bool = False) -> tuple[int, int, int]:
    """The shape of a probe as (mode, y, x).

    Modes are stored as (mode, y, x), as (1, mode, y, x) by ptychodus and pty-chi, and as (mode, 1, y, x) by others.

    Parameters
    ----------
    shape : tuple of int
        In the file.
    path : Path
        Named in errors.
    variable : bool
        The first axis is that of probes whose mixture varies from pattern to pattern.

    Raises
    ------
    ObjectError
        The shape is not supported, or too large, or there are several probes of several modes each.
    """
    expected = "(mode, N, N), (1, mode, N, N) or (mode, 1, N, N), N even"
    if len(shape) == 4 and shape[0] > 1 and (variable or shape[1] > 1):
        raise ObjectError(
            "a probe that varies from pattern to pattern is not supported", file=path, key="probe", found=shape, expected=expected,
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


def object_shape(shape: tuple[int, ...], path: Path) -> tuple[int, int]:
    """The shape of an object as (y, x).

    Raises
    ------
    ObjectError
        There are several layers, or the shape is not supported or too large.
    """
    if len(shape) == 3 and shape[0] > 1:
        raise ObjectError(
            "several layers are not supported", file=path, key="object", found=shape, expected="one layer",
            remedy="store the product of the layers, or one of them",
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
        The array is not complex; or see :func:`probe_shape`.
    """
    shape = probe_shape(file.shape(key), path, variable=file.kind(_VARIABLE) is not None)
    return _complex(file, key, path, LARGEST_PROBE_PX).reshape(shape)


def read_object(file: Hdf5File, key: str, path: Path) -> NDArray[np.complex64]:
    """Read an object of one layer.

    Returns
    -------
    (y, x) complex64

    Raises
    ------
    ObjectError
        The array is not complex; or see :func:`object_shape`.
    """
    shape = object_shape(file.shape(key), path)
    return _complex(file, key, path, LARGEST_OBJECT_PX).reshape(shape)


def _complex(file: Hdf5File, key: str, path: Path, most_px: int) -> NDArray[np.complex64]:
    array = file.array(key, most_px * _LARGEST_ITEM_BYTES)
    if array.dtype.kind != "c":
        raise ObjectError("not complex", file=path, key=key, found=array.dtype, expected="complex numbers")
    with np.errstate(over="ignore"):  # callers check for non-finite values
        return array.astype(np.complex64)
