"""Objects to simulate: complex arrays from files, or made from ordinary images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

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
    array = read_complex(path, _KEYS)
    image = array[0] if array.ndim == 3 and len(array) == 1 else array
    if image.ndim != 2:
        raise ObjectError("wrong shape", file=path, key="object", found=array.shape, expected="(y, x)")
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
        Any image that Pillow reads; black is phase 0, white is `phase_range_rad`.
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
        Not an image, or one without contrast.
    """
    angle = _grey(phase, shape) * phase_range_rad
    low, high = amplitude_range
    modulus: Any = 1.0 if amplitude is None else low + (high - low) * _grey(amplitude, angle.shape)
    return np.asarray(modulus * np.exp(1j * angle), np.complex64)


def _grey(path: Path, shape: tuple[int, ...] | None) -> NDArray[np.float64]:
    """Grey values between 0 and 1, resampled where a shape is given."""
    try:
        with Image.open(path) as picture:
            single = (
                picture if picture.mode.startswith(("I", "F", "L")) and picture.mode != "LA" else picture.convert("L")
            )
            values = single.convert("F")
    except UnidentifiedImageError:
        raise ObjectError(
            "not an image", file=path, expected=f"an image, or complex numbers in {', '.join(COMPLEX_FILES)}"
        ) from None
    except OSError as error:
        raise ObjectError(f"cannot be read ({error.strerror or error})", file=path, remedy="check the path") from None
    if shape is not None and shape != (values.height, values.width):
        values = values.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    grey = np.asarray(values, np.float64)
    if not np.ptp(grey) > 0:
        raise ObjectError("an image without contrast", file=path)
    scaled: NDArray[np.float64] = (grey - grey.min()) / np.ptp(grey)
    return scaled
