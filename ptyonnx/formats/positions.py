"""Read positions from a scan, a NumPy array, or text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.npy_file import read_npy
from ptyonnx.formats.npz_archive import NpzArchive
from ptyonnx_bundles.errors import ScanError
from ptyonnx_bundles.files.input_files import check_regular_file
from ptyonnx_bundles.files.npy import NpyHeader

__all__ = ["read_positions"]

_KEYS = ("ycoords", "xcoords")  # in a scan
_LARGEST_BYTES = 2**26  # of a file of positions; 10**6 as text


def read_positions(path: Path) -> NDArray[np.float64]:
    """Read positions from a scan (`.npz` with ``ycoords`` and ``xcoords``), `.npy` or text.

    Parameters
    ----------
    path : Path
        `.npy` and text files have two columns, y and x, in text separated by spaces or commas.

    Returns
    -------
    (pattern, 2) float64
        (y, x), pixels.

    Raises
    ------
    ScanError
        Missing, unreadable, or not two columns of finite numbers.
    """
    check_regular_file(path, ScanError, "give the path of a file")
    if not path.exists():
        raise ScanError(
            "cannot be read (No such file or directory)", file=path, key="positions",
            expected="a file of positions",
        )  # fmt: skip
    suffix = path.suffix.lower()
    array = _from_npz(path) if suffix == ".npz" else _from_npy(path) if suffix == ".npy" else _from_text(path)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array) or not np.isfinite(array).all():
        raise ScanError(
            "not positions", file=path, key="positions", found=array.shape, expected="finite (pattern, 2), y and x"
        )
    return array


def _from_npz(path: Path) -> NDArray[np.float64]:
    with NpzArchive(path) as archive:
        missing = [key for key in _KEYS if key not in archive.keys]
        if missing:
            raise ScanError(
                "missing", file=path, key=missing[0], found=", ".join(archive.keys[:12]) or "nothing",
                expected=" and ".join(_KEYS),
            )  # fmt: skip
        for key in _KEYS:
            header = archive.header(key)
            if header.shape != archive.header(_KEYS[0]).shape or len(header.shape) != 1:
                raise ScanError("not positions", file=path, key=key, found=header.shape, expected="one per pattern")
            _check_numbers(header, path, key)
        return np.stack([archive.read(key, _LARGEST_BYTES).astype(np.float64) for key in _KEYS], axis=1)


def _from_npy(path: Path) -> NDArray[np.float64]:
    def check(header: NpyHeader) -> None:
        _check_numbers(header, path, "positions")
        if len(header.shape) != 2 or header.shape[1] != 2 or header.data_bytes > _LARGEST_BYTES:
            raise ScanError(
                "not positions", file=path, key="positions", found=header.shape, expected="(pattern, 2), y and x"
            )

    return read_npy(path, ScanError, check).astype(np.float64)


def _check_numbers(header: NpyHeader, path: Path, key: str) -> None:
    if header.dtype.kind not in "fiu":
        raise ScanError("not positions", file=path, key=key, found=header.dtype, expected="real numbers")


def _from_text(path: Path) -> NDArray[np.float64]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ScanError("too large", file=path, key="positions", expected=f"at most {_LARGEST_BYTES} bytes")
        rows = [line.split("#")[0].replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
        return np.array([[float(number) for number in row] for row in rows if row], np.float64)
    except OSError as error:
        raise ScanError(f"cannot be read ({error.strerror})", file=path, key="positions") from None
    except ValueError:
        raise ScanError(
            "not positions", file=path, key="positions", expected="two columns of numbers, y and x"
        ) from None
