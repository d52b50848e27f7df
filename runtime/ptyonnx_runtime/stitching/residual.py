"""The residual: the forward model of a stitched object, compared with every measured pattern.

Unknown object pixels (NaN) are replaced by vacuum at the object's mean phase. They were all illuminated so weakly, see
:data:`ptyonnx_runtime.stitching.stitching.LEAST_WEIGHT`, that this hardly changes the expected patterns (7e-4 of an
R-factor of 0.104 on the shipped scan).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_runtime.physics import Pair, intensity, pair_from_complex
from ptyonnx_runtime.stitching.stitching import Frame, interpolate, split_subpixel
from ptyonnx_runtime.stitching.vacuum import with_vacuum

__all__ = ["ForwardModel", "Misfit", "r_factor"]


class Misfit(NamedTuple):
    """Sums over the pixels of each pattern, photons.

    Attributes
    ----------
    object : (pattern,) float64
        ``sum (sqrt(I) - A)**2`` for the stitched object.
    vacuum : (pattern,) float64
        The same for an object of ones.
    measured : (pattern,) float64
        ``sum A**2``.
    """

    object: NDArray[np.float64]
    vacuum: NDArray[np.float64]
    measured: NDArray[np.float64]


def r_factor(misfit: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    """``sqrt(sum misfit / sum measured)``, 0 for a perfect fit; NaN if nothing was measured."""
    total = float(np.sum(measured))
    return float(np.sqrt(np.sum(misfit) / total)) if total else float("nan")


class ForwardModel:
    """The forward model of a known object and probe: expected patterns, and their misfit to measured ones.

    Parameters
    ----------
    object_ : (y, x) complex64
        NaN is replaced by vacuum.
    frame : Frame
        Frame of the object.
    probe : (mode, N, N) complex64
        sqrt(photons).
    """

    def __init__(self, object_: NDArray[np.complex64], frame: Frame, probe: NDArray[np.complex64]) -> None:
        N = probe.shape[-1]
        planes = pair_from_complex(with_vacuum(object_, width=1))  # N pixels lie between N + 1
        window = (N + 1, N + 1)
        self._windows = [np.lib.stride_tricks.sliding_window_view(plane, window) for plane in planes]
        self._origin_px = frame.origin_px
        self._probe = pair_from_complex(probe)
        y, x = np.indices((N, N))
        self._signs = (1 - 2 * ((y + x) % 2)).astype(np.float32)
        ones = np.ones((N, N), np.float32)
        self._vacuum = np.sqrt(self._expected(Pair(ones, 0 * ones)))
        self._vacuum_squares = float(np.vdot(self._vacuum, self._vacuum))

    def patches(self, positions_px: NDArray[np.float64]) -> Pair:
        """The object around each position, by bilinear interpolation.

        Parameters
        ----------
        positions_px : (pattern, 2) float64

        Returns
        -------
        Pair of (pattern, N, N) float32
        """
        N = self._vacuum.shape[-1]
        corner, fraction = split_subpixel(positions_px, self._origin_px, N)
        y, x = corner.T
        real, imag = (interpolate(windows[y, x], fraction) for windows in self._windows)
        return Pair(real, imag)

    def photons(self, positions_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Photons expected in each pattern: those that probe and object transmit (Parseval).

        Parameters
        ----------
        positions_px : (pattern, 2) float64

        Returns
        -------
        (pattern,) float64
        """
        patch = self.patches(positions_px)
        transmission = np.square(patch.real) + np.square(patch.imag)
        illuminated = np.sum(np.square(self._probe.real) + np.square(self._probe.imag), axis=0)
        return np.asarray(transmission.reshape(len(transmission), -1) @ illuminated.reshape(-1), np.float64)

    def compare(self, diffraction: NDArray[np.float32], positions_px: NDArray[np.float64]) -> Misfit:
        """Compare expected and measured amplitudes.

        Parameters
        ----------
        diffraction : (pattern, N, N) float32
            Measured amplitude, at the probe's photon scale.
        positions_px : (pattern, 2) float64
        """
        expected = self._expected(self.patches(positions_px))
        difference = np.sqrt(expected, out=expected)
        difference -= diffraction
        measured = _square_sums(diffraction)
        common = diffraction.reshape(len(diffraction), -1) @ self._vacuum.reshape(-1)
        vacuum = self._vacuum_squares - 2 * common.astype(np.float64) + measured  # (V - A)**2, one pass over A
        return Misfit(_square_sums(difference), np.maximum(vacuum, 0), measured)

    def _expected(self, patch: Pair) -> NDArray[np.float32]:
        return np.asarray(intensity(patch, self._probe, self._signs, _far_field), np.float32)


def _far_field(wave: Pair, signs: NDArray[np.float32]) -> Pair:
    """Far field up to the sign of each pixel, which does not affect intensities.

    A centred transform is an ordinary one between two multiplications by ``(-1)**(y + x)``. It takes 10 us at N = 64; the
    matrix products of :func:`~ptyonnx_runtime.physics.propagate` take 38 us.
    """
    signed = np.empty(np.shape(wave.real), np.complex64)
    np.multiply(wave.real, signs, out=signed.real)
    np.multiply(wave.imag, signs, out=signed.imag)
    # SciPy's FFT is as fast, but takes a tenth of a second to import.
    field = np.fft.fft2(signed, norm="ortho")  # noqa: TID251 - a known object, nothing to differentiate or export
    return Pair(field.real, field.imag)


def _square_sums(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of squares of every pattern."""
    flat = array.reshape(len(array), 1, -1)
    return np.asarray((flat @ flat.transpose(0, 2, 1)).reshape(-1), np.float64)
