"""Read probes from scans, arrays, bundles and products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.complex_arrays import COMPLEX_FILES, read_complex
from ptyonnx.formats.hdf5_arrays import probe_shape, read_probe
from ptyonnx_bundles import read_bundle
from ptyonnx_bundles.errors import ObjectError

__all__ = ["load_probe"]

_KEYS = ("probe", "probeGuess")


def load_probe(path: Path) -> NDArray[np.complex64]:
    """Read a probe from a scan or array (`.npz`, `.npy`), a bundle (`.onnx`) or a product (`.h5`).

    Parameters
    ----------
    path : Path

    Returns
    -------
    (mode, y, x) complex64
        sqrt(photons).

    Raises
    ------
    ObjectError, BundleError
    """
    if path.suffix.lower() == ".onnx":
        bundle = read_bundle(path)
        if not len(bundle.probe):
            raise ObjectError(
                "the bundle has no probe", file=path, key="probe", remedy="use the probe of a scan or of an array"
            )
        return bundle.probe
    if path.suffix.lower() not in COMPLEX_FILES:
        raise ObjectError("unknown format of a probe", file=path, expected=", ".join((*COMPLEX_FILES, ".onnx")))
    modes = read_complex(path, _KEYS, lambda shape: probe_shape(shape, path), read_probe)
    if not np.isfinite(modes).all() or not np.any(modes):
        raise ObjectError("zero everywhere, or not finite", file=path, key="probe")
    return modes
