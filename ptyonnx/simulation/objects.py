"""Objects to simulate: complex arrays from files, or made from ordinary images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.hdf5_arrays import check_layers, read_object
from ptyonnx.formats.images import read_grey
from ptyonnx.simulation.arrays import COMPLEX_FILES, read_complex
from ptyonnx_bundles.errors import ObjectError

__all__ = ["load_object", "object_from_images"]

_KEYS = ("object", "objectGuess")


def load_object(path: Path) -> NDArray[np.complex64]:
    """Read a transmission from `.npy`, `.npz` (key ``object`` or ``objectGuess``) or a product `.h5`.

    Parameters
    ----------
    path : Path

    Returns
    -------
    (y, x) complex64

    Raises
    ------
    ObjectError
    """
    if path.suffix.lower() not in COMPLEX_FILES:
        raise ObjectError("not a file of complex numbers", file=path, expected=", ".join(COMPLEX_FILES))
    image = read_complex(path, _KEYS, lambda shape: check_layers(shape, path), read_object)
    if not np.isfinite(image).all():
        raise ObjectError("NaN or infinity", file=path, key="object", remedy="crop to where the object is known")
    return image


def object_from_images(
    phase: Path,
    amplitude: Path | None = None,
    *,
    phase_range_rad: float = 1.0,
    amplitude_range: tuple[float, float] = (0.9, 1.0),
    shape: tuple[int, int] | None = None,
) -> NDArray[np.complex64]:
    """Make an object whose phase and amplitude are grey values.

    Parameters
    ----------
    phase : Path
        PNG, TIFF, JPEG, BMP, GIF, PPM or WebP; black is phase 0, white is `phase_range_rad`.
    amplitude : Path, optional
        Resampled to the shape of the phase. Without it the amplitude is 1.
    phase_range_rad : float
    amplitude_range : pair of float
        Amplitude of black and of white.
    shape : pair of int, optional
        (y, x) to resample both to.

    Returns
    -------
    (y, x) complex64

    Raises
    ------
    ObjectError
        Not an image, damaged, too large, several in one file, or one without contrast.
    """
    angle = read_grey(phase, shape) * np.float32(phase_range_rad)
    obj = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=obj.real)
    np.sin(angle, out=obj.imag)
    if amplitude is not None:
        low, high = amplitude_range
        obj *= np.float32(low) + np.float32(high - low) * read_grey(amplitude, angle.shape)
    return obj
