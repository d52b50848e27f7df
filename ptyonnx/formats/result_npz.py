"""Results as NPZ: the arrays of a reconstruction under the names of its attributes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.npz_archive import NpzArchive
from ptyonnx.formats.result import Result
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import ObjectError

if TYPE_CHECKING:
    from ptyonnx_runtime.reconstruct import Reconstruction

__all__ = ["read_result_npz", "write_result_npz"]

_RANKS = {
    "object": ("c", 2), "mask": ("b", 2), "origin_px": ("i", 1), "positions_px": ("f", 2), "probe": ("c", 3),
    "residual": ("f", 1), "r_factor": ("f", 0), "vacuum_r_factor": ("f", 0), "object_pixel_size_m": ("f", 0),
    "scan": ("U", 0),
}  # fmt: skip
_KINDS = {"c": "complex numbers", "b": "booleans", "i": "integers", "f": "real numbers", "U": "text"}
_LARGEST_BYTES = 2**31  # of one array: complex64 on the largest canvas


def write_result_npz(path: Path, result: Reconstruction) -> None:
    """Write a reconstruction; `object` is NaN where `mask` is True.

    Raises
    ------
    OutputError
        The file could not be written; an earlier one stays as it was.
    """
    digests = result.bundle.manifest.digests

    def write(stream: BinaryIO) -> None:
        np.savez(
            stream,
            object=result.object,
            mask=result.mask,
            origin_px=np.array(result.origin_px),
            positions_px=result.positions_px,
            probe=result.probe,
            residual=result.residual,
            r_factor=np.array(result.r_factor),
            vacuum_r_factor=np.array(result.vacuum_r_factor),
            object_pixel_size_m=np.array(result.object_pixel_size_m or np.nan),
            flux_scale=np.array(result.flux.scale),
            scan_photons=np.array(result.flux.scan_photons),
            bundle_photons=np.array(result.flux.bundle_photons),
            bundle=np.array(result.bundle.name),
            weights_digest=np.array(digests.weights),
            graph_digest=np.array(digests.graph),
            scan=np.array(result.scan_name),
            engine=np.array(result.engine),
            provider=np.array(result.provider),
        )

    atomic_write(path, write)


def read_result_npz(path: Path) -> Result:
    """Read a file that :func:`write_result_npz` wrote.

    Raises
    ------
    ObjectError
        The file was not written by it, or is damaged.
    """
    with NpzArchive(path, ObjectError) as archive:
        missing = [key for key in _RANKS if key not in archive.keys]
        if missing:
            raise ObjectError("not a result of ptyonnx", file=path, key=missing[0], found=", ".join(archive.keys[:12]))
        arrays = {key: _array(archive, key, path) for key in _RANKS}
    if arrays["mask"].shape != arrays["object"].shape or arrays["origin_px"].shape != (2,):
        raise ObjectError("shapes of arrays are inconsistent", file=path, key="object, mask, origin_px")
    if arrays["positions_px"].shape != (len(arrays["residual"]), 2):
        raise ObjectError("shapes of arrays are inconsistent", file=path, key="positions_px, residual")
    pixel_size = float(arrays["object_pixel_size_m"])
    return Result(
        object=_complex64(arrays["object"]),
        mask=arrays["mask"].view(np.uint8) != 0,
        origin_px=(int(arrays["origin_px"][0]), int(arrays["origin_px"][1])),
        positions_px=arrays["positions_px"].astype(np.float64),
        probe=_complex64(arrays["probe"]),
        residual=arrays["residual"].astype(np.float64),
        r_factor=float(arrays["r_factor"]),
        vacuum_r_factor=float(arrays["vacuum_r_factor"]),
        object_pixel_size_m=None if np.isnan(pixel_size) else pixel_size,
        name=_text(arrays["scan"], path),
    )


def _array(archive: NpzArchive, key: str, path: Path) -> NDArray[Any]:
    """Read an array, if it has the type and the number of axes that are written."""
    header, (kind, rank) = archive.header(key), _RANKS[key]
    if header.dtype.kind != kind or len(header.shape) != rank:
        raise ObjectError(
            "wrong array", file=path, key=key, found=f"{header.dtype} {header.shape}",
            expected=f"{_KINDS[kind]}, {rank} axes",
        )  # fmt: skip
    return archive.read(key, _LARGEST_BYTES)


def _complex64(array: NDArray[Any]) -> NDArray[np.complex64]:
    with np.errstate(over="ignore", invalid="ignore"):  # overflow gives infinity, which is kept
        return array.astype(np.complex64)


def _text(array: NDArray[Any], path: Path) -> str:
    try:
        return str(array)
    except (ValueError, SystemError):
        raise ObjectError("not valid text", file=path, key="scan") from None
