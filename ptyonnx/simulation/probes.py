"""Incoherent modes of simulated probes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.simulation.ranges import checked_count, checked_number
from ptyonnx_bundles.errors import SettingsError

__all__ = ["add_modes"]

_MOST_MODES = 10


def add_modes(
    probe: NDArray[np.complexfloating[Any, Any]], modes: int, second_mode_power: float = 0.2
) -> NDArray[np.complex64]:
    """Add incoherent modes to a probe of one mode; the number of photons stays the same.

    The modes are the probe times 1, x, y, x y, …, made orthogonal. Small vibrations of the sample or the source have
    this effect to first and second order.

    Parameters
    ----------
    probe : (1, y, x) complex
    modes : int
        Number of modes of the result.
    second_mode_power : float
        Photons of the second mode, divided by those of the first two, from 1e-6 to 1 - 1e-6. Further modes decrease by the same ratio.

    Returns
    -------
    (mode, y, x) complex64

    Raises
    ------
    SettingsError
        The probe already has several modes, or an argument is out of range.
    """
    if len(probe) != 1 and modes != len(probe):
        raise SettingsError(
            "the probe already has several modes", key="probe_modes", found=len(probe), expected=modes,
            remedy="omit the number of modes",
        )  # fmt: skip
    modes = checked_count(modes, "probe_modes", high=_MOST_MODES)
    checked_number(second_mode_power, "second_mode_power", low=1e-6, high=1 - 1e-6)
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
