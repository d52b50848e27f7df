"""Fourier ring correlation: up to which spatial frequency two images agree.

On every ring of spatial frequency, F and G being the transforms of the two images,

    FRC = Re(sum F G*) / sqrt(sum |F|**2 · sum |G|**2)

which is 1 where they are equal. It is judged by the half-bit threshold [1]_, the curve on which a
voxel carries half a bit of information,

    T = (0.2071 + 1.9102 / sqrt(n)) / (1.2071 + 0.9102 / sqrt(n))

with n the number of independent Fourier pixels of the ring. Images are complex, so all of a ring
count and not half of it; their mean is removed, and a window lets them fall to zero at the edge of
what is known, or the edge itself would be correlated. The window also makes neighbouring Fourier
pixels alike: of n pixels, n (sum w²)² / (A sum w⁴) are independent, with A the area. With n near 1
the threshold nears 1, which rounding alone falls below: rings of fewer than four independent pixels
are joined with their neighbours.

References
----------
.. [1] M. van Heel and M. Schatz, "Fourier shell correlation threshold criteria", J. Struct. Biol.
   151 (2005) 250, eq. 17.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.alignment import edge_window
from ptyonnx.comparison.images import Image
from ptyonnx_bundles.errors import ObjectError

__all__ = ["RingAgreement", "RingCorrelation", "half_bit_threshold", "ring_correlation"]

RingAgreement = Literal["everywhere", "partly", "nowhere"]

_NYQUIST = 0.5  # cycles per pixel
_ROUNDING = 1e3  # times the expected power: below, a ring is empty
_FEWEST = 4  # independent pixels of a ring
_SMALLEST = 8  # pixels: smaller images have no rings to speak of


@dataclass(frozen=True)
class RingCorrelation:
    """Fourier ring correlation of two images.

    The two agree where the correlation is at or above the threshold, from the lowest frequency on.

    Attributes
    ----------
    frequency : tuple of float
        Middle of each ring, cycles per pixel, rising to 0.5.
    correlation, half_bit : tuple of float
        Of each ring.
    resolution_px : float or None
        Period at which the correlation first falls below the threshold. None where it never does:
        the images agree at every frequency. Infinite where the very first ring is below: they agree
        at none.
    resolution_m : float or None
        The same in metres, where the size of a pixel is known.
    """

    frequency: tuple[float, ...]
    correlation: tuple[float, ...]
    half_bit: tuple[float, ...]
    resolution_px: float | None
    resolution_m: float | None

    def __repr__(self) -> str:
        return f"<RingCorrelation, {len(self.frequency)} rings: {self.sentence}>"

    @property
    def agreement(self) -> RingAgreement:
        """At which frequencies the two agree: ``"everywhere"``, ``"partly"``, down to the resolution, or ``"nowhere"``."""
        if self.resolution_px is None:
            return "everywhere"
        return "partly" if math.isfinite(self.resolution_px) else "nowhere"

    @property
    def sentence(self) -> str:
        """How far the two agree."""
        if self.resolution_px is None:
            return "they agree at every spatial frequency"
        if math.isinf(self.resolution_px):
            first = f"{self.correlation[0]:.2g} on the first ring, below the threshold of {self.half_bit[0]:.2g}"
            return f"they agree at no spatial frequency: {first}"
        metres = "" if self.resolution_m is None else f" ({self.resolution_m * 1e9:.3g} nm)"
        return f"they agree down to {self.resolution_px:.3g} px{metres}"

    def to_dict(self) -> dict[str, Any]:
        """Names and numbers, for JSON; the resolution is None unless the two agree partly: `agreement` tells why."""
        values = {**asdict(self), "agreement": self.agreement}
        return values if self.agreement == "partly" else {**values, "resolution_px": None, "resolution_m": None}


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
    known = np.isfinite(image) & np.isfinite(reference)
    if not known.any() or min(np.ptp(axis) + 1 for axis in np.nonzero(known)) < _SMALLEST:
        raise ObjectError(f"the two images have fewer than {_SMALLEST} x {_SMALLEST} pixels in common")
    part = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(known))
    window = edge_window(known[part])
    first, second = (_spectrum(each[part], known[part], window) for each in (image, reference))
    independence = np.sum(window**2) ** 2 / (window.size * np.sum(window**4))
    middle, ring, count = _rings(window.shape, independence)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(ring.ravel(), values.ravel(), count + 1)[1:], np.float64)

    pixels = total(np.ones(ring.shape))
    empty = [total(np.abs(each.spectrum) ** 2) <= _ROUNDING * pixels * each.rounding for each in (first, second)]
    power = np.sqrt(total(np.abs(first.spectrum) ** 2) * total(np.abs(second.spectrum) ** 2))
    shared = total((first.spectrum * second.spectrum.conj()).real)
    # A ring that is empty in both holds nothing that could differ; one that is empty in one of them, everything.
    correlation = np.divide(shared, power, out=np.ones_like(shared), where=~(empty[0] | empty[1]))
    correlation[empty[0] ^ empty[1]] = 0
    independent = independence * pixels
    frequency = total(middle) / pixels
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


class _Spectrum(NamedTuple):
    spectrum: NDArray[np.complex128]
    rounding: float  # power that rounding leaves in every Fourier pixel


def _spectrum(image: Image, known: NDArray[np.bool_], window: NDArray[np.float64]) -> _Spectrum:
    filled = np.where(known, image, 0).astype(np.complex128)
    mean = np.sum(window * filled) / np.sum(window)
    power = float(np.sum(np.abs(window * filled) ** 2))
    return _Spectrum(np.fft.fft2(window * (filled - mean)), np.finfo(np.float64).eps ** 2 * power)


def _rings(shape: tuple[int, ...], independence: float) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Middle of its thin ring and ring of every Fourier pixel, and the number of rings; ring 0 is none.

    Rings are one pixel of the shorter axis wide, or more where that gives too few independent pixels.
    """
    shorter = min(shape)
    y, x = (np.fft.fftfreq(size) for size in shape)
    thin = np.rint(np.hypot(y[:, np.newaxis], x) * shorter).astype(np.int64)
    last = int(shorter * _NYQUIST)
    thin[thin > last] = 0
    pixels = np.bincount(thin.ravel(), minlength=last + 1)
    joined, number, gathered = np.zeros(last + 1, np.int64), 1, 0.0
    for ring in range(1, last + 1):
        joined[ring] = number
        gathered += independence * pixels[ring]
        if gathered >= _FEWEST:
            number, gathered = number + 1, 0.0
    if gathered and number > 1:  # what is left over joins the ring before it
        joined[joined == number] = number - 1
    if joined.max() == number == 1 and gathered:
        raise ObjectError("too little in common for Fourier rings")
    return thin / shorter, joined[thin], int(joined.max())


def _first_crossing(frequency: NDArray[np.float64], above: NDArray[np.float64]) -> float | None:
    """Period at which a curve first falls below zero, by a straight line between two rings; infinite where it starts there."""
    below = np.flatnonzero(above < 0)
    if not below.size:
        return None
    index = int(below[0])
    if index == 0:
        return math.inf
    share = above[index - 1] / (above[index - 1] - above[index])
    return float(1 / (frequency[index - 1] + share * (frequency[index] - frequency[index - 1])))
