"""The contents of a result file, independent of its format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """A reconstruction that was read from a file.

    Attributes
    ----------
    object : (y, x) complex64
        NaN where the mask is True.
    mask : (y, x) bool
        True where there is no data.
    origin_px : (int, int)
        Object coordinate (y, x) of pixel (0, 0).
    positions_px : (pattern, 2) float64
        (y, x).
    probe : (mode, y, x) complex64
        sqrt(photons).
    residual : (pattern,) float64 or None
        R-factor of every pattern.
    r_factor, vacuum_r_factor : float or None
        Over all patterns; of an object of ones.
    object_pixel_size_m : float or None
    name : str
    """

    object: NDArray[np.complex64]
    mask: NDArray[np.bool_]
    origin_px: tuple[int, int]
    positions_px: NDArray[np.float64]
    probe: NDArray[np.complex64]
    residual: NDArray[np.float64] | None
    r_factor: float | None
    vacuum_r_factor: float | None
    object_pixel_size_m: float | None
    name: str
