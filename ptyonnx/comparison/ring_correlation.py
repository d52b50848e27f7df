"""Fourier ring correlation: up to which spatial frequency two images agree.

On every ring of spatial frequency, F and G being the transforms of the two images,

    FRC = Re(sum F G*) / sqrt(sum |F|**2 · sum |G|**2)

which is 1 where they are equal. It is judged by the half-bit threshold [1]_, the curve on which a
voxel carries half a bit of information,

    T = (0.2071 + 1.9102 / sqrt(n)) / (1.2071 + 0.9102 / sqrt(n))

with n the number of independent Fourier pixels of the ring. Images are complex, so all of a ring
count and not half of it; their mean is removed, and a window lets them fall to zero at the edge of
what is known, or the edge itself would be correlated. The window also makes neighbouring Fourier
pixels alike: of n pixels, n (sum w²)² / (A sum w⁴) are independent, with A the area.

References
----------
.. [1] M. van Heel and M. Schatz, "Fourier shell correlation threshold criteria", J. Struct. Biol.
   151 (2005) 250, eq. 17.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.alignment import edge_window
from ptyonnx.comparison.images import Image
from ptyonnx_bundles.errors import ObjectError

__all__ = ["RingCorrelation", "half_bit_threshold", "ring_correlation"]

_NYQUIST = 0.5  # cycles per pixel
_SMALLEST = 8  # pixels: smaller images have no rings to speak of


@dataclass(frozen=True)
class RingCorrelation:
    """Fourier ring correlation of two images.

    Attributes
    ----------
    frequency : tuple of float
        Middle of each ring, cycles per pixel, rising to 0.5.
    correlation, half_bit : tuple of float
        Of each ring.
    resolution_px : float or None
        Period at which the correlation first falls below the threshold; None where it never does:
        the images then agree down to two pixels.
    resolution_m : float or None
        The same in metres, where the size of a pixel is known.
    """

    frequency: tuple[float, ...]
    correlation: tuple[float, ...]
    half_bit: tuple[float, ...]
    resolution_px: float | None
    resolution_m: float | None

    def to_dict(self) -> dict[str, Any]:
        """Names and numbers, for JSON."""
        return asdict(self)


def ring_correlation(image: Image, reference: Image, pixel_size_m: float | None = None) -> RingCorrelation:
    """Correlate two images ring by ring.

    Parameters
    ----------
    image, reference : (y, x) complex
        Aligned; NaN where nothing is known.
    pixel_size_m : float, optional

    Raises
    ------
    ObjectError
        Different shapes, or too little in common.
    """
    if image.shape != reference.shape:
        raise ObjectError("images of different shapes", found=image.shape, expected=reference.shape)
    known = ~(np.isnan(image) | np.isnan(reference))
    if not known.any() or min(np.ptp(axis) + 1 for axis in np.nonzero(known)) < _SMALLEST:
        raise ObjectError(f"the two images have fewer than {_SMALLEST} x {_SMALLEST} pixels in common")
    part = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(known))
    window = edge_window(known[part])
    first, second = (_spectrum(each[part], known[part], window) for each in (image, reference))
    ring, count = _rings(window.shape)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(ring.ravel(), values.ravel(), count + 1)[1:], np.float64)

    power = np.sqrt(total(np.abs(first) ** 2) * total(np.abs(second) ** 2))
    shared = total((first * second.conj()).real)
    # A ring without power in both holds nothing that could differ.
    correlation = np.divide(shared, power, out=np.ones_like(shared), where=power > 0)
    pixels = np.bincount(ring.ravel(), minlength=count + 1)[1:]
    independent = pixels * np.sum(window**2) ** 2 / (window.size * np.sum(window**4))
    frequency = np.arange(1, count + 1) / min(window.shape)
    half_bit = half_bit_threshold(independent)
    period = _first_crossing(frequency, correlation - half_bit)
    return RingCorrelation(
        frequency=tuple(frequency.tolist()),
        correlation=tuple(np.clip(correlation, -1, 1).tolist()),
        half_bit=tuple(half_bit.tolist()),
        resolution_px=period,
        resolution_m=None if period is None or pixel_size_m is None else period * pixel_size_m,
    )


def half_bit_threshold(independent: NDArray[np.float64]) -> NDArray[np.float64]:
    """The half-bit curve of van Heel and Schatz for rings of so many independent pixels, at least 1."""
    root = 1 / np.sqrt(np.maximum(independent, 1.0))
    return np.asarray((0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root))


def _spectrum(image: Image, known: NDArray[np.bool_], window: NDArray[np.float64]) -> NDArray[np.complex128]:
    filled = np.where(known, image, 0).astype(np.complex128)
    mean = np.sum(window * filled) / np.sum(window)
    return np.asarray(np.fft.fft2(window * (filled - mean)))


def _rings(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], int]:
    """Number of the ring of every Fourier pixel, one pixel of the shorter axis wide; 0 is none."""
    shorter = min(shape)
    y, x = (np.fft.fftfreq(size) for size in shape)
    radius = np.rint(np.hypot(y[:, np.newaxis], x) * shorter).astype(np.int64)
    count = int(shorter * _NYQUIST)
    return np.where(radius <= count, radius, 0), count


def _first_crossing(frequency: NDArray[np.float64], above: NDArray[np.float64]) -> float | None:
    """Period at which a curve first falls below zero, by a straight line between two rings."""
    below = np.flatnonzero(above < 0)
    if not below.size:
        return None
    index = int(below[0])
    if index == 0:
        return float(1 / frequency[0])
    share = above[index - 1] / (above[index - 1] - above[index])
    return float(1 / (frequency[index - 1] + share * (frequency[index] - frequency[index - 1])))
