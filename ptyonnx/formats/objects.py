"""Objects in files of complex numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.complex_arrays import COMPLEX_FILES, read_complex
from ptyonnx.formats.hdf5_arrays import object_shape, read_object
from ptyonnx_bundles.errors import ObjectError

__all__ = ["load_object"]

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
    image = read_complex(path, _KEYS, lambda shape: object_shape(shape, path), read_object)
    if not np.isfinite(image).all():
        raise ObjectError("non-finite pixels", file=path, key="object", remedy="crop to where the object is known")
    return image
