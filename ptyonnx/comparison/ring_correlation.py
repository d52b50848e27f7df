"""Fourier ring correlation: up to which spatial frequency two images agree.

On every ring of spatial frequency, F and G being the transforms of the two images,

    FRC = Re(sum F G*) / sqrt(sum |F|**2 · sum |G|**2)

which is 1 for equal images. It is compared with the half-bit threshold [1]_, at which a pixel carries half a bit of
information,

    T = (0.2071 + 1.9102 / sqrt(n)) / (1.2071 + 0.9102 / sqrt(n))

where n is the number of independent Fourier pixels of the ring. Since the images are complex, all pixels of a ring are
counted, not half of them. The mean is removed and a window tapers the images to zero at the edge of the known region;
otherwise the edge itself would correlate. The window w also correlates neighbouring Fourier pixels: of n pixels,
n (sum w²)² / (A sum w⁴) are independent, where A is the area. For n near 1 the threshold approaches 1, and rounding
alone would fall below it; rings with fewer than four independent pixels are therefore merged with their neighbours.

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
_ROUNDING = 1e3  # times the rounding power: a ring with less is empty
_FEWEST = 4  # independent pixels of a ring
_SMALLEST = 8  # pixels: smaller images have too few rings


@dataclass(frozen=True)
class RingCorrelation:
    """Fourier ring correlation of two images.

    Two images agree from the lowest frequency up to the first at which the correlation falls below the threshold.

    Attributes
    ----------
    frequency : tuple of float
        Mean frequency of each ring, cycles per pixel, up to 0.5.
    correlation, half_bit : tuple of float
        Correlation and threshold of each ring.
    resolution_px : float or None
        Period at which the correlation first falls below the threshold. None where it never does: the images agree
        at every frequency. Infinite where the first ring is below: they agree at none.
    resolution_m : float or None
        The same in metres, if the pixel size is known.
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
        """``"everywhere"`` (at every frequency), ``"partly"`` (down to the resolution) or ``"nowhere"``."""
        if self.resolution_px is None:
            return "everywhere"
        return "partly" if math.isfinite(self.resolution_px) else "nowhere"

    @property
    def sentence(self) -> str:
        """Down to which period the two agree."""
        if self.resolution_px is None:
            return "they agree at every spatial frequency"
        if math.isinf(self.resolution_px):
            first = f"{self.correlation[0]:.2g} on the first ring, below the threshold of {self.half_bit[0]:.2g}"
            return f"they agree at no spatial frequency: {first}"
        metres = "" if self.resolution_m is None else f" ({self.resolution_m * 1e9:.3g} nm)"
        return f"they agree down to {self.resolution_px:.3g} px{metres}"

    def to_dict(self) -> dict[str, Any]:
        """Names and numbers, for JSON; the resolution is None unless `agreement` is ``"partly"``."""
        values = {**asdict(self), "agreement": self.agreement}
        return values if self.agreement == "partly" else {**values, "resolution_px": None, "resolution_m": None}


def ring_correlation(image: Image, reference: Image, pixel_size_m: float | None = None) -> RingCorrelation:
    """Correlate two images ring by ring.

    Parameters
    ----------
    image, reference : (y, x) complex
        Aligned; NaN where unknown.
    pixel_size_m : float, optional

    Raises
    ------
    ObjectError
        Different shapes, or too few pixels in common.
    """
    if image.shape != reference.shape:
        raise ObjectError("images of different shapes", found=image.shape, expected=reference.shape)
    known = np.isfinite(image) & np.isfinite(reference)
    extent = [int(np.ptp(axis)) + 1 if axis.size else 0 for axis in np.nonzero(known)]
    if min(extent) < _SMALLEST:
        raise ObjectError(
            "the region that both images know is too small", found=f"{extent[0]} x {extent[1]} pixels",
            expected=f"at least {_SMALLEST} x {_SMALLEST}",
        )  # fmt: skip
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
    # The correlation of a ring is 1 where both spectra are empty, and 0 where only one is.
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
    """The half-bit threshold of van Heel and Schatz for rings of `independent` pixels, at least 1."""
    root = 1 / np.sqrt(np.maximum(independent, 1.0))
    return np.asarray((0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root))


class _Spectrum(NamedTuple):
    spectrum: NDArray[np.complex128]
    rounding: float  # power of rounding errors in each Fourier pixel


def _spectrum(image: Image, known: NDArray[np.bool_], window: NDArray[np.float64]) -> _Spectrum:
    filled = np.where(known, image, 0).astype(np.complex128)
    mean = np.sum(window * filled) / np.sum(window)
    power = float(np.sum(np.abs(window * filled) ** 2))
    return _Spectrum(np.fft.fft2(window * (filled - mean)), np.finfo(np.float64).eps ** 2 * power)


def _rings(shape: tuple[int, ...], independence: float) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Frequency and ring index of every Fourier pixel, and the number of rings; index 0 means no ring.

    Rings are one pixel of the shorter axis wide, or wider where that gives too few independent pixels.
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
    if gathered and number > 1:  # the remainder is merged with the ring before it
        joined[joined == number] = number - 1
    if joined.max() == number == 1 and gathered:
        raise ObjectError("the two images have too few pixels in common for a Fourier ring correlation")
    return thin / shorter, joined[thin], int(joined.max())


def _first_crossing(frequency: NDArray[np.float64], above: NDArray[np.float64]) -> float | None:
    """Period at which a curve first falls below zero, by linear interpolation; infinite where it starts below."""
    below = np.flatnonzero(above < 0)
    if not below.size:
        return None
    index = int(below[0])
    if index == 0:
        return math.inf
    share = above[index - 1] / (above[index - 1] - above[index])
    return float(1 / (frequency[index - 1] + share * (frequency[index] - frequency[index - 1])))
