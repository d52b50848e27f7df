"""Objects for simulations, made from ordinary images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.hdf5_arrays import LARGEST_OBJECT_PX
from ptyonnx.formats.images import read_grey
from ptyonnx.simulation.ranges import checked_count, checked_number
from ptyonnx_bundles.errors import SettingsError

__all__ = ["object_from_images"]

_AMPLITUDES = (0.9, 1.0)  # of black and of white
_LARGEST_AMPLITUDE = 100.0
_LARGEST_PHASE_rad = 1e4  # beyond it, float32 resolves no milliradian


def object_from_images(
    phase: Path,
    amplitude: Path | None = None,
    *,
    phase_range_rad: float = 1.0,
    amplitude_range: tuple[float, float] | None = None,
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
        From -1e4 to 1e4.
    amplitude_range : pair of float, optional
        Amplitude of black and of white, each from 0 to 100; by default 0.9 and 1. It requires `amplitude`.
    shape : pair of int, optional
        (y, x) to resample both to.

    Returns
    -------
    (y, x) complex64

    Raises
    ------
    ObjectError
        Not an image, damaged, too large, several in one file, or without contrast.
    SettingsError
        A number is out of range, or `amplitude_range` is given without `amplitude`.
    """
    phase_range_rad = checked_number(
        phase_range_rad, "phase_range_rad", low=-_LARGEST_PHASE_rad, high=_LARGEST_PHASE_rad
    )
    low, high = _amplitudes(amplitude_range, given=amplitude is not None)
    size = None if shape is None else _size(shape)
    angle = read_grey(phase, size) * np.float32(phase_range_rad)
    obj = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=obj.real)
    np.sin(angle, out=obj.imag)
    if amplitude is not None:
        obj *= np.float32(low) + np.float32(high - low) * read_grey(amplitude, angle.shape)
    return obj


def _amplitudes(pair: tuple[float, float] | None, *, given: bool) -> tuple[float, float]:
    """Check the amplitudes of black and of white; `given` says whether an image of the amplitude is."""
    if pair is None:
        return _AMPLITUDES
    if not given:
        raise SettingsError(
            "no effect without an image of the amplitude", key="amplitude_range",
            remedy="name the image, amplitude=…, or omit the range",
        )  # fmt: skip
    low, high = (checked_number(each, "amplitude_range", low=0, high=_LARGEST_AMPLITUDE) for each in pair)
    if not max(low, high) > 0:
        raise SettingsError("the object is zero everywhere", key="amplitude_range", found=f"{low:g},{high:g}")
    return low, high


def _size(shape: tuple[int, int]) -> tuple[int, int]:
    height, width = (checked_count(each, "shape", high=LARGEST_OBJECT_PX) for each in shape)
    if height * width > LARGEST_OBJECT_PX:
        raise SettingsError(
            "too large", key="shape", found=f"{height} x {width}", expected=f"at most {LARGEST_OBJECT_PX} pixels"
        )
    return height, width
