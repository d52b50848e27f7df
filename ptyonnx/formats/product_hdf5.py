"""ptychodus product HDF5, which ptychodus and solvers open.

Root attributes and data sets follow ptychodus; the group `ptyonnx` adds mask, residual, origin and provenance. Two
choices are ours:

- Object pixels without data are 1 (vacuum) in `object`. Viewers do not support NaN, a solver can start from vacuum,
  and the residual was computed with vacuum there. `ptyonnx/mask` marks these pixels.
- If the scan states no pixel size, lengths are in object pixels, with a pixel size of 1; `comments` and the attribute
  `ptyonnx/length_unit` state this.
"""

from __future__ import annotations

import importlib.metadata
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.hdf5_arrays import read_object, read_probe
from ptyonnx.formats.result import Result
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import ObjectError
from ptyonnx_converters.hdf5 import Hdf5File
from ptyonnx_runtime.stitching.vacuum import with_vacuum

if TYPE_CHECKING:
    import h5py

    from ptyonnx_runtime.reconstruct import Reconstruction

__all__ = ["read_product", "write_product"]

GROUP = "ptyonnx"
UNKNOWN = 0.0  # ptychodus reads it as "not stated"
_POSITIONS = ("probe_position_y_m", "probe_position_x_m")
_MOST_PATTERNS = 2**23
_FARTHEST_px = 2.0**52  # float64 still counts pixels


def write_product(path: Path, result: Reconstruction) -> None:
    """Write a reconstruction as a ptychodus product.

    The file is composed in memory, where it takes as much as the object, and written in one piece.

    Raises
    ------
    OutputError
        The file could not be written; an earlier one stays as it was.
    """
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        _write_root(file, result)
        _write_arrays(file, result)
        _write_group(file.create_group(GROUP), result)
    atomic_write(path, content.getvalue())


def read_product(path: Path) -> Result:
    """Read a product, written by ptyonnx or by ptychodus.

    Raises
    ------
    ObjectError
        Not a product, damaged, of several layers, or with a probe that varies from pattern to pattern.
    """
    with Hdf5File(path, ObjectError) as file:
        for key in ("object", "probe", *_POSITIONS):
            if file.kind(key) != "dataset":
                raise ObjectError(
                    "not a ptychodus product", file=path, key=key, found=", ".join(file.names()[:12]) or "nothing",
                    expected="object, probe, positions",
                )  # fmt: skip
        return _read(file, path)


def _write_root(file: h5py.File, result: Reconstruction) -> None:
    unit = (
        "" if result.object_pixel_size_m else " The scan states no pixel size: all lengths are in object pixels, not m."
    )
    file.attrs["name"] = Path(result.scan_name).stem
    file.attrs["comments"] = (
        f"Reconstructed by ptyonnx {importlib.metadata.version('ptyonnx')} from {result.scan_name} with "
        f"{result.bundle.name}, R-factor {result.r_factor:.4f}. Object pixels without data are vacuum, at the mean phase of the others; see ptyonnx/mask.{unit}"
    )
    file.attrs["detector_object_distance_m"] = result.detector_distance_m or UNKNOWN
    file.attrs["probe_energy_eV"] = result.photon_energy_eV or UNKNOWN
    file.attrs["exposure_time_s"] = UNKNOWN
    file.attrs["probe_photon_count"] = float(np.sum(np.abs(result.probe.astype(np.complex128)) ** 2))


def _write_arrays(file: h5py.File, result: Reconstruction) -> None:
    pixel = result.object_pixel_size_m or 1.0
    # in ptychodus, a position is at (x_m - center_x_m) / pixel_width_m plus half the width
    centre_px = np.add(result.origin_px, np.divide(result.object.shape, 2))
    file["probe_position_indexes"] = np.arange(len(result.positions_px))
    file["probe_position_y_m"] = result.positions_px[:, 0] * pixel
    file["probe_position_x_m"] = result.positions_px[:, 1] * pixel
    probe = file.create_dataset("probe", data=result.probe[np.newaxis])
    obj = file.create_dataset("object", data=with_vacuum(result.object)[np.newaxis])
    for array in (probe, obj):
        array.attrs["pixel_width_m"] = array.attrs["pixel_height_m"] = pixel
    obj.attrs["center_y_m"], obj.attrs["center_x_m"] = centre_px * pixel
    for name in ("object_layer_spacing_m", "loss_values"):
        file[name] = np.zeros(0)
    file["loss_epochs"] = np.zeros(0, np.int64)


def _write_group(group: h5py.Group, result: Reconstruction) -> None:
    digests, flux = result.bundle.manifest.digests, result.flux
    group["mask"] = result.mask
    group["residual"] = result.residual
    group["residual"].attrs["meaning"] = "R-factor of every pattern: sqrt(sum (sqrt(I) - A)^2 / sum A^2)"
    group["mask"].attrs["meaning"] = "1 where there is no data"
    attributes: dict[str, Any] = {
        "format": 1,
        "length_unit": "m" if result.object_pixel_size_m else "object pixel",
        "origin_px": np.array(result.origin_px),
        "r_factor": result.r_factor,
        "vacuum_r_factor": result.vacuum_r_factor,
        "flux_choice": flux.choice,
        "flux_scale": flux.scale,
        "scan_photons": flux.scan_photons,
        "bundle_photons": flux.bundle_photons,
        "scan": result.scan_name,
        "bundle": result.bundle.name,
        "weights_digest": digests.weights,
        "graph_digest": digests.graph,
        "framework": result.bundle.trained_with,
        "engine": result.engine,
        "provider": result.provider,
        **{f"{name}_version": importlib.metadata.version(name) for name in ("ptyonnx", "numpy", "h5py")},
    }
    for name, value in attributes.items():
        group.attrs[name] = value


def _read(file: Hdf5File, path: Path) -> Result:
    obj = read_object(file, "object", path)
    height, width = obj.shape
    pixel, centre = (
        np.array([file.number("object", f"{name}_{end}_m") for end in ends])
        for name, ends in (("pixel", ("height", "width")), ("center", ("y", "x")))
    )
    if not (pixel > 0).all() or not np.isfinite([pixel, centre]).all():
        raise ObjectError(
            "unusable pixel size or centre", file=path, key="object/pixel_height_m", found=pixel, expected="metres"
        )
    columns = [_numbers(file, key, path) for key in _POSITIONS]
    if len(columns[0]) != len(columns[1]):
        raise ObjectError("unequal numbers of coordinates", file=path, key=" and ".join(_POSITIONS))
    with np.errstate(over="ignore"):  # infinite ones are refused below
        corner = centre / pixel - np.array([height, width]) / 2  # object coordinate of pixel (0, 0)
        coordinates_px = np.stack(columns, axis=1) / pixel
    ours = file.kind(GROUP) == "group"
    origin = np.array(file.numbers(GROUP, "origin_px", 2)) if ours else np.rint(corner)
    if not (np.abs(origin) < _FARTHEST_px).all():
        raise ObjectError("unusable origin of the object", file=path, key="object/center_y_m", found=origin)
    positions_px = coordinates_px - corner + origin
    if not (np.abs(positions_px) < _FARTHEST_px).all():
        raise ObjectError(
            "positions that no scan has", file=path, key=" and ".join(_POSITIONS),
            expected=f"finite, within {_FARTHEST_px:g} pixels of the origin",
        )  # fmt: skip
    mask = np.array(file.array(f"{GROUP}/mask", height * width), bool) if ours else np.zeros((height, width), bool)
    if mask.shape != (height, width):
        raise ObjectError(
            "mask and object differ in shape",
            file=path,
            key=f"{GROUP}/mask",
            found=mask.shape,
            expected=(height, width),
        )
    obj[mask] = complex(np.nan, np.nan)
    unit_known = not ours or file.text(GROUP, "length_unit") == "m"
    return Result(
        object=obj,
        mask=mask,
        origin_px=(int(origin[0]), int(origin[1])),
        positions_px=positions_px,
        probe=read_probe(file, "probe", path),
        residual=_numbers(file, f"{GROUP}/residual", path) if ours else None,
        r_factor=file.number(GROUP, "r_factor") if ours else None,
        vacuum_r_factor=file.number(GROUP, "vacuum_r_factor") if ours else None,
        object_pixel_size_m=float(pixel[1]) if unit_known else None,
        name=file.text("", "name") or path.stem,
    )


def _numbers(file: Hdf5File, key: str, path: Path) -> NDArray[np.float64]:
    """One number per pattern."""
    array = file.array(key, _MOST_PATTERNS * 8)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise ObjectError(
            "wrong array", file=path, key=key, found=f"{array.dtype} {array.shape}", expected="(pattern,)"
        )
    return array.astype(np.float64)
