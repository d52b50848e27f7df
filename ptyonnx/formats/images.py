"""Grey values of ordinary images. The size in the header is checked before anything is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptyonnx.formats.hdf5_arrays import LARGEST_OBJECT_PX
from ptyonnx_bundles.errors import ObjectError
from ptyonnx_bundles.files.input_files import check_regular_file

__all__ = ["read_grey"]

# A part of what Pillow reads: for PostScript it would start another program.
_FORMATS = ("PNG", "TIFF", "JPEG", "BMP", "GIF", "PPM", "WEBP")
_GREY = ("I", "F", "L", "I;16", "I;16L", "I;16B", "I;16N")


def read_grey(path: Path, shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """Read an image's grey values.

    Parameters
    ----------
    path : Path
    shape : pair of int, optional
        (y, x) to resample to.

    Returns
    -------
    (y, x) float32
        Between 0, the darkest pixel, and 1, the brightest.

    Raises
    ------
    ObjectError
        Not an image of these formats, damaged, too large, several in one file, or without contrast.
    """
    check_regular_file(path, ObjectError, "give the path of a file")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ObjectError(f"cannot be read ({error.strerror})", file=path, remedy="check the path") from None
    if shape is not None and not 0 < shape[0] * shape[1] <= LARGEST_OBJECT_PX:
        raise ObjectError(
            "size of the object is not supported", found=shape, expected=f"at most {LARGEST_OBJECT_PX} pixels"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about irrelevant tags, and about sizes, which are checked here
            grey = _read(path, shape)
    except ObjectError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise many types for damaged files
        raise ObjectError(
            f"not an image, or a damaged one ({type(error).__name__})", file=path,
            expected=f"{', '.join(_FORMATS)}, or complex numbers in .npz, .npy, .h5 or .hdf5",
        ) from None  # fmt: skip
    low, high = grey.min(), grey.max()
    if not np.isfinite([low, high]).all():
        raise ObjectError("non-finite pixels", file=path)
    if not high > low:
        raise ObjectError("an image without contrast", file=path)
    grey -= low
    grey /= grey.max()
    return grey


def _read(path: Path, shape: tuple[int, ...] | None) -> NDArray[np.float32]:
    with Image.open(path, formats=_FORMATS) as picture:
        if picture.width * picture.height > LARGEST_OBJECT_PX:
            raise ObjectError(
                "too large", file=path, found=f"{picture.height} x {picture.width}",
                expected=f"at most {LARGEST_OBJECT_PX} pixels", remedy="make the image smaller",
            )  # fmt: skip
        if picture.format != "JPEG" and getattr(picture, "n_frames", 1) > 1:
            raise ObjectError(
                "several images in one file",
                file=path,
                expected="one image",
                remedy="store the image to use in a file of its own",
            )
        single = picture if picture.mode in _GREY else picture.convert("L")
        values = single.convert("F")
    if shape is not None and shape != (values.height, values.width):
        values = values.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.array(values, np.float32)
