"""ptychodus product HDF5: what the field's viewer and solvers open, plus what ptyonnx knows.

Root attributes and data sets follow ptychodus; the group `ptyonnx` adds mask, residual, origin
and provenance. Two decisions:

- Object pixels without data are 1 (vacuum) in `object`: viewers choke on NaN, a solver can
  start from vacuum, and the residual was computed with it. `ptyonnx/mask` says where.
- Where the scan states no pixel size, lengths are in object pixels, with a pixel size of 1;
  `comments` and the attribute `ptyonnx/length_unit` say so.
"""

from __future__ import annotations

import importlib.metadata
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.result import Result
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import ObjectError
from ptyonnx_runtime.vacuum import with_vacuum

if TYPE_CHECKING:
    import h5py

    from ptyonnx_runtime.reconstruct import Reconstruction

__all__ = ["read_product", "write_product"]

GROUP = "ptyonnx"
UNKNOWN = 0.0  # what ptychodus reads as "not stated"


def write_product(path: Path, result: Reconstruction) -> None:
    """Write a reconstruction as a ptychodus product.

    The file is made in memory (it is as large as the canvas) and written in one piece.

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
        Not a product.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except KeyError as error:
        raise ObjectError(
            "not a ptychodus product", file=path, found=error.args[0], expected="object, probe, positions"
        ) from None
    except (OSError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ObjectError(
            f"cannot be read as a ptychodus product ({error})",
            file=path,
            remedy="the file is damaged or something else",
        ) from None


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
    # ptychodus finds a position at (x_m - center_x_m) / pixel_width_m plus half the width
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


def _read(file: h5py.File, path: Path) -> Result:
    stored = file["object"]
    obj: NDArray[np.complex64] = np.array(stored[()], np.complex64)
    obj = obj.reshape(-1, *obj.shape[-2:])
    if len(obj) != 1:
        raise ObjectError("several layers", file=path, key="object", found=stored.shape, expected="one")
    height, width = obj.shape[1:]
    pixel = np.array([stored.attrs["pixel_height_m"], stored.attrs["pixel_width_m"]], np.float64)
    centre = np.array([stored.attrs["center_y_m"], stored.attrs["center_x_m"]], np.float64)
    positions = np.stack([file["probe_position_y_m"][()], file["probe_position_x_m"][()]], axis=1)
    corner = centre / pixel - np.array([height, width]) / 2  # object coordinate of pixel (0, 0)
    ours = file.get(GROUP)
    origin = np.rint(corner) if ours is None else ours.attrs["origin_px"]
    mask = np.zeros((height, width), bool) if ours is None else np.array(ours["mask"][()], bool)
    probe = np.array(file["probe"][()], np.complex64)
    return Result(
        object=np.where(mask, np.complex64(complex(np.nan, np.nan)), obj[0]),
        mask=mask,
        origin_px=(int(origin[0]), int(origin[1])),
        positions_px=positions / pixel - corner + origin,
        probe=probe.reshape(-1, *probe.shape[-3:])[0] if probe.ndim > 2 else probe[np.newaxis],
        residual=None if ours is None else ours["residual"][()],
        r_factor=None if ours is None else float(ours.attrs["r_factor"]),
        vacuum_r_factor=None if ours is None else float(ours.attrs["vacuum_r_factor"]),
        object_pixel_size_m=None if ours is not None and ours.attrs["length_unit"] != "m" else float(pixel[1]),
        name=str(file.attrs["name"]),
    )
