"""Phase that ptychography leaves undetermined: a constant, and a linear ramp where the probe may be tilted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["phase_ramp", "without_global_phase", "without_ramp"]

_MOST_STEPS = 10
_STEP_RAD = 1e-4  # over the whole image: converged
_PADDING = 2  # of the Fourier transform, whose peak then lies within a quarter of a turn over the image


def without_global_phase(obj: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Remove the mean phase of an object.

    Ptychography does not determine it, and it would make the phase wrap within the object.

    Parameters
    ----------
    obj : (y, x) complex64
        May contain NaN.

    Returns
    -------
    (y, x) complex64
    """
    mean = complex(np.nansum(obj))
    return obj * np.complex64(mean.conjugate() / abs(mean)) if mean else obj


def without_ramp(obj: NDArray[np.complex64], ramp_rad_per_px: tuple[float, float]) -> NDArray[np.complex64]:
    """Subtract a linear phase ramp.

    Parameters
    ----------
    obj : (y, x) complex64
        May contain NaN.
    ramp_rad_per_px : (float, float)
        Along (y, x).

    Returns
    -------
    (y, x) complex64
    """
    y, x = (np.exp(-1j * step * np.arange(size)) for step, size in zip(ramp_rad_per_px, obj.shape, strict=True))
    return (obj * y[:, np.newaxis] * x).astype(np.complex64)


def phase_ramp(obj: NDArray[np.complex64]) -> tuple[float, float]:
    """The linear phase ramp of an object.

    The peak of the object's Fourier transform gives the ramp up to a fraction of a turn over the image; planes fitted
    by least squares to the phase that remains refine it.

    Parameters
    ----------
    obj : (y, x) complex64
        May contain NaN.

    Returns
    -------
    (float, float)
        Along (y, x), rad/px; zero for an object without finite pixels.
    """
    known = np.isfinite(obj)
    if not known.any():
        return 0.0, 0.0
    filled = np.where(known, obj, 0)
    ramp = _peak(filled)
    rows, columns = np.nonzero(known)
    y, x = rows - rows.mean(), columns - columns.mean()
    for _ in range(_MOST_STEPS):
        rest = without_global_phase(without_ramp(filled, (ramp[0], ramp[1])))[known]
        step = _slope(np.angle(rest).astype(np.float64), y, x)
        ramp = ramp + step
        if np.abs(step * obj.shape).max() < _STEP_RAD:
            break
    return float(ramp[0]), float(ramp[1])


def _peak(filled: NDArray[np.complex64]) -> NDArray[np.float64]:
    """The spatial frequency at which the Fourier transform is largest, rad/px."""
    shape = [_PADDING * size for size in filled.shape]
    index = np.unravel_index(np.argmax(np.abs(np.fft.fft2(filled, shape))), shape)
    return np.array([2 * math.pi * np.fft.fftfreq(size)[i] for i, size in zip(index, shape, strict=True)])


def _slope(phase: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slope of the plane that fits best; 0 along an axis on which the pixels do not extend."""
    moments = np.array([[y @ y, y @ x], [y @ x, x @ x]])
    return np.asarray(np.linalg.pinv(moments, hermitian=True) @ np.array([y @ phase, x @ phase]), np.float64)
