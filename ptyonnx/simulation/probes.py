"""Probes to simulate with: from scans, arrays, bundles and products; further modes on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.formats.hdf5_arrays import modes_of, read_probe
from ptyonnx.simulation.arrays import COMPLEX_FILES, read_complex
from ptyonnx_bundles import read_bundle
from ptyonnx_bundles.errors import ObjectError, SettingsError

__all__ = ["add_modes", "load_probe"]

_KEYS = ("probe", "probeGuess")
_MOST_MODES = 10


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
            raise ObjectError("the bundle has no probe", file=path, key="probe", remedy="name a scan or an array")
        return bundle.probe
    if path.suffix.lower() not in COMPLEX_FILES:
        raise ObjectError("no file of a probe", file=path, expected=", ".join((*COMPLEX_FILES, ".onnx")))
    modes = read_complex(path, _KEYS, lambda shape: modes_of(shape, path), read_probe)
    if not np.isfinite(modes).all() or not np.any(modes):
        raise ObjectError("zero everywhere, or not finite", file=path, key="probe")
    return modes


def add_modes(
    probe: NDArray[np.complexfloating[Any, Any]], modes: int, second_mode_power: float = 0.2
) -> NDArray[np.complex64]:
    """Add incoherent modes to a probe of one mode, keeping its photons.

    The modes are the probe times 1, x, y, x y, … made orthogonal: what small vibrations of the
    sample or the source do to first and second order.

    Parameters
    ----------
    probe : (1, y, x) complex
    modes : int
        Number of modes afterwards.
    second_mode_power : float
        Photons of the second mode relative to those of the first two; further modes weaken
        by the same ratio.

    Returns
    -------
    (mode, y, x) complex64

    Raises
    ------
    SettingsError
        The probe has several modes already, or the numbers make no sense.
    """
    if len(probe) != 1 and modes != len(probe):
        raise SettingsError(
            "the probe has several modes already", key="probe_modes", found=len(probe), expected=modes,
            remedy="leave the number of modes out",
        )  # fmt: skip
    if not 1 <= modes <= _MOST_MODES or not 0 < second_mode_power < 1:
        raise SettingsError(
            "unusable value", key="probe_modes, second_mode_power", found=(modes, second_mode_power),
            expected=f"1 to {_MOST_MODES} modes and a power between 0 and 1",
        )  # fmt: skip
    if modes == len(probe):
        return np.asarray(probe, np.complex64)
    N = probe.shape[-1]
    y, x = (np.indices((N, N)) - N // 2) / N
    orders = sorted(((i, j) for i in range(_MOST_MODES) for j in range(_MOST_MODES)), key=lambda ij: (sum(ij), ij[1]))
    columns = np.stack([(probe[0] * x**i * y**j).reshape(-1) for i, j in orders[:modes]], axis=1)
    orthonormal, triangle = np.linalg.qr(columns.astype(np.complex128))
    orthonormal = orthonormal * np.exp(1j * np.angle(np.diagonal(triangle)))
    power = (second_mode_power / (1 - second_mode_power)) ** np.arange(modes)
    photons = float(np.sum(np.abs(probe) ** 2)) * power / power.sum()
    return np.asarray((orthonormal * np.sqrt(photons)).T.reshape(modes, N, N), np.complex64)
