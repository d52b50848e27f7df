"""How alike two real images are: differences, signal-to-noise ratio and structural similarity.

Both figures depend on the range of values that one takes for granted, so it is stated with them:
from the first to the 99th percentile of the reference, which single pixels cannot move.
SSIM [1]_ and PSNR are scikit-image's.

References
----------
.. [1] Z. Wang et al., "Image quality assessment: from error visibility to structural similarity",
   IEEE Trans. Image Process. 13 (2004) 600; uniform window of 7 x 7 pixels.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptyonnx.comparison.images import Image

__all__ = ["Similarity", "compare_amplitudes", "compare_phases"]

_WINDOW_PX = 7
_PERCENTILES = (1.0, 99.0)
_DARK = 0.1  # of the median amplitude: below, a pixel has no phase to speak of


@dataclass(frozen=True)
class Similarity:
    """Two real images beside each other.

    Attributes
    ----------
    maximum, rms : float
        Of the difference; radians for phases.
    data_range : float
        Span of the reference's values between their 1st and 99th percentile.
    psnr_db : float
        ``20 log10(data_range / rms)``; infinite for equal images.
    ssim : float or None
        Mean over the windows all of whose pixels count; None where there is none, or no
        contrast.
    """

    maximum: float
    rms: float
    data_range: float
    psnr_db: float
    ssim: float | None

    def to_dict(self) -> dict[str, Any]:
        """Names and numbers, for JSON; None stands for infinity."""
        return {
            key: None if value is None or not math.isfinite(value) else value for key, value in asdict(self).items()
        }


def compare_amplitudes(image: Image, reference: Image) -> Similarity:
    """Compare the amplitudes of two aligned images, (y, x) complex, NaN where nothing is known."""
    known = np.isfinite(image) & np.isfinite(reference)
    first, second = (np.abs(np.where(known, each, 0)).astype(np.float64) for each in (image, reference))
    return _compare(first, second, known)


def compare_phases(image: Image, reference: Image) -> Similarity:
    """Compare the phases of two aligned images, (y, x) complex, NaN where nothing is known.

    The difference is taken on the circle, so that a phase beyond pi does not count as one of -pi.
    Pixels that are nearly dark in one of them have no phase: they do not count, neither for the differences
    nor for SSIM. Where none is left the phases are infinitely far apart, unless the images are equal.
    """
    known = np.isfinite(image) & np.isfinite(reference)
    first, second = (np.where(known, each, 1).astype(np.complex128) for each in (image, reference))
    bright = known.copy()
    for each in (first, second):
        bright &= (np.abs(each) >= _DARK * np.median(np.abs(each[known]))) & (each != 0)
    if not bright.any():
        apart = 0.0 if np.array_equal(first, second) else math.inf
        return Similarity(apart, apart, 0.0, -math.inf if apart else math.inf, None)
    middle = np.conj(np.mean(second[known] / np.maximum(np.abs(second[known]), np.finfo(np.float32).tiny)))
    phase = np.angle(second * (middle if middle != 0 else 1))  # its jumps are as far from the values as can be
    return _compare(phase + np.angle(first * second.conj()), phase, bright)


def _compare(image: NDArray[np.float64], reference: NDArray[np.float64], counted: NDArray[np.bool_]) -> Similarity:
    distance = np.abs(image - reference)[counted]
    low, high = np.percentile(reference[counted], _PERCENTILES)
    span, rms = float(high - low), float(np.sqrt(np.mean(distance**2)))
    ratio = 20 * math.log10(span / rms) if span > 0 and rms > 0 else math.inf if rms == 0 else -math.inf
    return Similarity(float(distance.max()), rms, span, ratio, _ssim(image, reference, counted, span))


def _ssim(
    image: NDArray[np.float64], reference: NDArray[np.float64], counted: NDArray[np.bool_], span: float
) -> float | None:
    from skimage.metrics import structural_similarity

    whole = ndimage.binary_erosion(counted, np.ones((_WINDOW_PX, _WINDOW_PX), bool))
    if not whole.any() or span <= 0:
        return None
    _, similarity = structural_similarity(image, reference, win_size=_WINDOW_PX, data_range=span, full=True)
    return float(np.mean(similarity[whole]))
