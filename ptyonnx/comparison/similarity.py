"""Similarity of two real images: difference, peak signal-to-noise ratio (PSNR), structural similarity (SSIM).

PSNR and SSIM depend on the data range, which is therefore reported with them. It extends from the 1st to the 99th
percentile of the reference, so that single pixels do not affect it. SSIM [1]_ is computed by scikit-image.

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
_DARK = 0.1  # fraction of the median amplitude below which the phase of a pixel is not used


@dataclass(frozen=True)
class Similarity:
    """Figures of similarity of two real images.

    Attributes
    ----------
    maximum, rms : float
        Largest and root mean square difference; radians for phases.
    data_range : float
        Distance between the 1st and 99th percentile of the reference.
    psnr_db : float
        ``20 log10(data_range / rms)``; infinite for equal images.
    ssim : float or None
        Mean over the windows whose pixels are all used; None without such a window or without contrast.
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
    """Compare the phases of two aligned images, (y, x) complex, NaN where unknown.

    Differences are wrapped to the interval from -pi to pi. Pixels that are nearly dark in either image have no
    defined phase and are used neither for the differences nor for SSIM. If no pixel is left, the difference is
    infinite unless the images are equal.
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
    phase = np.angle(second * (middle if middle != 0 else 1))  # the branch cut lies opposite the mean phase
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
