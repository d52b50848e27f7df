"""The forward model in float64 and complex NumPy, and its derivative.

It is independent of `ptyonnx_runtime.physics`: the Fourier transform is an FFT instead of a matrix, a patch is placed by
distributing its pixels to the two nearest rows and columns instead of by matrices, and numbers are complex.
"""

from __future__ import annotations

from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx.reference.simulated_rounding import EXACT, Rounding
from ptyonnx.settings import Loss
from ptyonnx.training.objective import LOG_FLOOR
from ptyonnx_runtime.physics import WEIGHT_FLOOR

__all__ = ["Evaluation", "Objective"]

Wave = NDArray[np.complex128]
Array = NDArray[np.float64]

_PLACING_TERMS = 4  # two rows, two columns
_LONGEST_RUN = 1024  # largest number of terms that the pairwise sums of the frameworks add sequentially


class Evaluation(NamedTuple):
    """The objective of a batch, and its derivatives.

    Attributes
    ----------
    intensity : (region, pattern, N, N)
        Expected photons.
    loss, r_factor : float
    slope : (region, pattern, N, N) complex
        Derivative of the loss by the real part of each patch, plus i times that by the imaginary part.
    probe_slope : (mode, N, N) complex
        The same by the probe.
    """

    intensity: Array
    loss: float
    r_factor: float
    slope: Wave
    probe_slope: Wave


class Objective:
    """The objective that training minimises.

    Parameters
    ----------
    probe : (mode, N, N) complex, sqrt(photons)
    mean_counts : float
        Mean photons per pixel.
    kind : str
        See :func:`ptyonnx.training.objective.loss_terms`.
    """

    def __init__(
        self,
        probe: NDArray[np.complexfloating[Any, Any]],
        mean_counts: float,
        kind: Loss,
    ) -> None:
        self.probe = probe.astype(np.complex128)
        self.mean_counts = mean_counts
        self.kind = kind
        illumination = np.sum(np.abs(self.probe) ** 2, axis=0)
        self.weight: Array = illumination / illumination.max() + WEIGHT_FLOOR

    def refined(self, shift: NDArray[Any]) -> Objective:
        """A copy with a changed probe; the weights of overlapping patches do not change."""
        other = copy(self)
        other.probe = self.probe + shift
        return other

    def evaluate(
        self,
        patch: Wave,
        offset_px: NDArray[Any],
        amplitude: NDArray[Any],
        rounding: Rounding = EXACT,
    ) -> Evaluation:
        """Compare the predicted with the measured intensities.

        Parameters
        ----------
        patch : (region, pattern, N, N) complex
        offset_px : (region, pattern, 2)
            (y, x) of each patch on its region's canvas.
        amplitude : (region, pattern, N, N)
            Measured.
        rounding : Rounding
        """
        N, modes = patch.shape[-1], len(self.probe)
        canvas = N + int(np.ceil(np.max(offset_px))) + 1
        total = sum(_place(self.weight, offset, canvas) for offset in _patterns(offset_px)) + WEIGHT_FLOOR**2
        shared = sum(_place(part * self.weight, offset, canvas) for part, offset in _pairs(patch, offset_px)) / total
        shared = rounding.wave(shared[:, np.newaxis], _PLACING_TERMS + patch.shape[1])[:, 0]
        agreed = np.stack([_take(shared, offset, N) for offset in _patterns(offset_px)], axis=1)
        fields = [rounding.wave(fourier(agreed * mode), 4 * N) for mode in self.probe]
        intensity = rounding.result(np.asarray(sum(np.abs(field) ** 2 for field in fields)), 2 * modes, 0.0)
        terms, steepness = self._terms(intensity, np.asarray(amplitude, np.float64))
        average = rounding.result(np.full((1, 1), terms.mean()), _LONGEST_RUN, float(np.abs(terms).mean()))
        exit_slopes = [fourier(2 * steepness / terms.size * field, inverse=True) for field in fields]
        by_modes = np.stack([np.sum(agreed.conj() * exit_slope, axis=(0, 1)) for exit_slope in exit_slopes])
        probe_slope = rounding.wave(by_modes[np.newaxis], 8 * N + agreed.shape[0] * agreed.shape[1])[0]
        slope = np.zeros_like(agreed)
        for mode, exit_slope in zip(self.probe, exit_slopes, strict=True):
            slope += mode.conj() * exit_slope
        slope = rounding.wave(slope, 8 * N * modes)
        back = sum(_place(part, offset, canvas) for part, offset in _pairs(slope, offset_px)) / total
        slope = np.stack([self.weight * _take(back, offset, N) for offset in _patterns(offset_px)], axis=1)
        residual = np.sqrt(np.maximum(intensity, 0)) - amplitude  # simulated rounding may make it negative
        r_factor = float(np.sqrt(np.sum(residual**2) / np.sum(np.square(amplitude, dtype=np.float64))))
        return Evaluation(intensity, float(average[0, 0]), r_factor, rounding.wave(slope, _PLACING_TERMS), probe_slope)

    def _terms(self, intensity: Array, amplitude: Array) -> tuple[Array, Array]:
        """Loss of every pixel, and its derivative by the intensity."""
        lifted = np.maximum(intensity, 0) + LOG_FLOOR
        if self.kind == "poisson":
            counts = amplitude**2
            return (intensity - counts * np.log(lifted)) / self.mean_counts, (1 - counts / lifted) / self.mean_counts
        difference, root = np.sqrt(lifted) - amplitude, 2 * np.sqrt(lifted)
        if self.kind == "amplitude_mse":
            return difference**2 / self.mean_counts, 2 * difference / root / self.mean_counts
        scale = self.mean_counts**0.5
        return np.abs(difference) / scale, np.sign(difference) / root / scale


def fourier(wave: Wave, *, inverse: bool = False) -> Wave:
    """Centred unitary Fourier transform of the last two axes, zero frequency at N//2."""
    transform = np.fft.ifft2 if inverse else np.fft.fft2
    result: Wave = np.fft.fftshift(transform(np.fft.ifftshift(wave, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    return result


def _patterns(offset_px: NDArray[Any]) -> list[NDArray[Any]]:
    """Offsets of the first pattern of all regions, of the second, and so on."""
    return list(np.asarray(offset_px, np.float64).swapaxes(0, 1))


def _pairs(stack: Any, offset_px: NDArray[Any]) -> list[tuple[Any, NDArray[Any]]]:
    return list(zip(stack.swapaxes(0, 1), _patterns(offset_px), strict=True))


def _place(patch: Any, offset_px: NDArray[Any], canvas: int) -> Any:
    """Add a patch of each region to its canvas, by bilinear weights.

    Parameters
    ----------
    patch : (region, N, N), or (N, N) for all regions
    offset_px : (region, 2)
    canvas : int
    """
    N = patch.shape[-1]
    patch = np.broadcast_to(patch, (len(offset_px), N, N))
    result = np.zeros((len(offset_px), canvas + 1, canvas + 1), patch.dtype)
    for region, (y, x, shares) in enumerate(_nearest(offset_px)):
        for (down, right), share in shares.items():
            result[region, y + down : y + down + N, x + right : x + right + N] += share * patch[region]
    return result[:, :canvas, :canvas]


def _take(canvas: Any, offset_px: NDArray[Any], N: int) -> Any:
    """Interpolate a patch of each region from its canvas: the adjoint of placing."""
    padded = np.pad(canvas, ((0, 0), (0, 1), (0, 1)))
    result = np.zeros((len(canvas), N, N), canvas.dtype)
    for region, (y, x, shares) in enumerate(_nearest(offset_px)):
        for (down, right), share in shares.items():
            result[region] += share * padded[region, y + down : y + down + N, x + right : x + right + N]
    return result


def _nearest(offset_px: NDArray[Any]) -> list[tuple[int, int, dict[tuple[int, int], float]]]:
    """Integer part of every offset, and the bilinear weights of the four pixels around it."""
    found = []
    for y, x in offset_px:
        below, beside = y - np.floor(y), x - np.floor(x)
        shares = {
            (0, 0): (1 - below) * (1 - beside), (0, 1): (1 - below) * beside,
            (1, 0): below * (1 - beside), (1, 1): below * beside,
        }  # fmt: skip
        found.append((int(np.floor(y)), int(np.floor(x)), shares))
    return found
