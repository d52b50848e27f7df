"""Objects for simulations, made from ordinary images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.images import read_grey

__all__ = ["object_from_images"]


def object_from_images(
    phase: Path,
    amplitude: Path | None = None,
    *,
    phase_range_rad: float = 1.0,
    amplitude_range: tuple[float, float] = (0.9, 1.0),
    shape: tuple[int, int] | None = None,
) -> NDArray[np.complex64]:
    """Make an object from the grey values of one or two images.

    Parameters
    ----------
    phase : Path
        PNG, TIFF, JPEG, BMP, GIF, PPM or WebP. The phase of black is 0, that of white `phase_range_rad`.
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
        Not an image, damaged, too large, several in one file, or without contrast.
    """
    angle = read_grey(phase, shape) * np.float32(phase_range_rad)
    obj = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=obj.real)
    np.sin(angle, out=obj.imag)
    if amplitude is not None:
        low, high = amplitude_range
        obj *= np.float32(low) + np.float32(high - low) * read_grey(amplitude, angle.shape)
    return obj
