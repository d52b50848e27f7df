"""Results as NPZ: the arrays of a reconstruction under their own names, for NumPy users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ptyonnx.formats.npz_archive import NpzArchive
from ptyonnx.formats.result import Result
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import ObjectError

if TYPE_CHECKING:
    from ptyonnx_runtime.reconstruct import Reconstruction

__all__ = ["read_result_npz", "write_result_npz"]

_KEYS = ("object", "mask", "origin_px", "positions_px", "probe", "residual", "r_factor", "vacuum_r_factor")


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
    """Read what :func:`write_result_npz` wrote.

    Raises
    ------
    ObjectError
        Not such a file.
    """
    with NpzArchive(path, ObjectError) as archive:
        missing = [key for key in (*_KEYS, "object_pixel_size_m", "scan") if key not in archive.keys]
        if missing:
            raise ObjectError("not a result of ptyonnx", file=path, key=missing[0], found=", ".join(archive.keys[:12]))
        arrays = {key: archive.small(key) for key in _KEYS}
        pixel_size, name = float(archive.small("object_pixel_size_m")), str(archive.small("scan"))
    return Result(
        object=arrays["object"],
        mask=arrays["mask"],
        origin_px=(int(arrays["origin_px"][0]), int(arrays["origin_px"][1])),
        positions_px=arrays["positions_px"],
        probe=arrays["probe"],
        residual=arrays["residual"],
        r_factor=float(arrays["r_factor"]),
        vacuum_r_factor=float(arrays["vacuum_r_factor"]),
        object_pixel_size_m=None if np.isnan(pixel_size) else pixel_size,
        name=name,
    )
