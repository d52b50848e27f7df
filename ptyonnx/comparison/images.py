"""Differences of two complex images after removal of a global phase and amplitude scale.

Diffraction patterns do not determine the global phase of an object, nor its amplitude scale unless that of the probe
is known. Neither therefore counts as a difference.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ObjectError

__all__ = [
    "CENTRAL",
    "LARGEST_SCALE",
    "Difference",
    "aligned",
    "comparable",
    "difference",
    "global_factor",
    "nothing_in_common",
    "on_canvas",
    "phase_correlation",
    "rms",
]

CENTRAL = (0.23, 0.77)  # fraction of each axis where the overlap of a scan is complete
LARGEST_SCALE = (
    100.0  # ratio of amplitudes, 10 000 in photons: a larger one is not a choice of units but a dead network
)
# Rounding error of a phase: eps for each of two complex products and the arctangent, pi eps for the mean of phases.
_PHASE_ROUNDING_RAD = 8 * float(np.finfo(np.float64).eps)
_WHOLE_PIXEL = 1e-6  # px: canvas origins are integers up to rounding

Image = NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True)
class Difference:
    """Difference of two complex arrays.

    Attributes
    ----------
    maximum, rms : float
        Largest and root mean square of the absolute difference. Where a scale was removed, both are relative to the
        common rms amplitude. Infinite where a value is not finite, or where one array is zero or more than
        :data:`LARGEST_SCALE` times fainter than the other.
    amplitude_scale, phase_rad : float
        The factor that was removed from the first array.
    pixels : int
        Number of compared pixels.
    """

    maximum: float
    rms: float
    amplitude_scale: float
    phase_rad: float
    pixels: int

    @classmethod
    def infinite(cls, pixels: int, amplitude_scale: float = 1.0, phase_rad: float = 0.0) -> Difference:
        """A difference that exceeds any tolerance."""
        return cls(math.inf, math.inf, amplitude_scale, phase_rad, pixels)

    @classmethod
    def of(
        cls, distance: NDArray[np.floating[Any]], amplitude_scale: float, phase_rad: float, *, comparable: bool = True
    ) -> Difference:
        """From the distance of each pixel; infinite where the two are not comparable."""
        if not (comparable and np.isfinite(distance).all()):
            return cls.infinite(distance.size, amplitude_scale, phase_rad)
        return cls(float(distance.max()), rms(distance), amplitude_scale, phase_rad, distance.size)

    def to_dict(self) -> dict[str, float | None]:
        """Names and numbers, for JSON; None stands for infinity."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def global_factor(image: Image, reference: Image, mask: NDArray[np.bool_] | None = None) -> complex:
    """Complex factor c that minimises ``sum |c image - reference|**2`` over the mask.

    Parameters
    ----------
    image, reference : (...) complex
        Pixels that are NaN in either are ignored.
    mask : (...) bool, optional
        Pixels to use.

    Returns
    -------
    complex
        1 where the image is zero everywhere.
    """
    a, b = _common(image, reference, mask)
    norm = float(np.vdot(a, a).real)
    return complex(np.vdot(a, b) / norm) if norm > 0 else 1 + 0j


def aligned(image: Image, reference: Image, mask: NDArray[np.bool_] | None = None) -> Image:
    """The image times :func:`global_factor`."""
    result: Image = image * np.complex64(global_factor(image, reference, mask))
    return result


def difference(
    image: Image, reference: Image, mask: NDArray[np.bool_] | None = None, *, free: bool = True
) -> Difference:
    """Compare two arrays after removing the global phase and amplitude scale.

    Both are scaled to the same rms amplitude, and the phase is that of their scalar product. The result does not
    depend on the order of the two.

    Parameters
    ----------
    image, reference : (...) complex
    mask : (...) bool, optional
        Pixels to use; by default all that are not NaN in both. A non-finite pixel among them makes the difference
        infinite.
    free : bool
        Whether to remove phase and scale. Without it the difference is absolute.

    Raises
    ------
    ObjectError
        Different shapes, or no pixel in common.
    """
    _check_shapes(image, reference)
    counts = ~(np.isnan(image) & np.isnan(reference)) if mask is None else mask
    a, b = (each[counts].astype(np.complex128) for each in (image, reference))
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.any():
        raise nothing_in_common(image, reference)
    if not finite.all():
        return Difference.infinite(a.size)
    if not free:
        return Difference.of(np.abs(a - b), 1.0, 0.0)
    first, second = rms(a), rms(b)
    if not comparable(first, second):
        return Difference.infinite(a.size, second / first if first > 0 else 1.0)
    phase = float(np.angle(np.vdot(a, b)))
    return Difference.of(np.abs(np.exp(1j * phase) / first * a - b / second), second / first, phase)


def comparable(first: float, second: float) -> bool:
    """Whether two rms amplitudes may differ by a choice of scale."""
    return max(first, second) <= LARGEST_SCALE * min(first, second) and min(first, second) > 0


def rms(values: NDArray[np.inexact[Any]]) -> float:
    """Root of the mean square of the magnitudes."""
    return float(np.sqrt(np.mean(np.abs(values) ** 2)))


def phase_correlation(image: Image, reference: Image, central: tuple[float, float] = CENTRAL) -> float:
    """Pearson correlation of two phase images over their central part, global phase removed.

    Parameters
    ----------
    image, reference : (y, x) complex
        On the same canvas; NaN pixels are ignored.
    central : pair of float
        Begin and end of the central part, as fractions of each axis.

    Returns
    -------
    float
        1 for equal phases; 0 where one image has no phase contrast beyond rounding.

    Raises
    ------
    ObjectError
        Different shapes, or no pixel in common.
    """
    part = tuple(slice(round(central[0] * size), round(central[1] * size)) for size in reference.shape)
    _check_shapes(image, reference)
    a, b = _common(image[part], reference[part], None)
    if a.size == 0:
        raise nothing_in_common(image[part], reference[part])
    middle = np.conj(np.mean(b / np.maximum(np.abs(b), np.finfo(np.float32).tiny)))
    factor = global_factor(a, b)
    first, second = (phase - phase.mean() for phase in (np.angle(factor * a * middle), np.angle(b * middle)))
    contrast = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if min(contrast) <= _PHASE_ROUNDING_RAD * math.sqrt(a.size):
        return 0.0
    return float(first @ second) / (contrast[0] * contrast[1])


def on_canvas(image: Image, origin_px: tuple[float, float], shape: tuple[int, int]) -> Image:
    """Place an image on a canvas whose pixel (i, j) has the coordinate (i, j); NaN outside the image.

    Parameters
    ----------
    image : (y, x) complex
    origin_px : pair of float
        (y, x) coordinate of its first pixel, integers.
    shape : pair of int
        Shape of the canvas.

    Raises
    ------
    ObjectError
        The origin is not an integer.
    """
    origin = np.round(np.asarray(origin_px, float)).astype(int)
    if np.abs(origin - np.asarray(origin_px, float)).max() > _WHOLE_PIXEL:
        raise ObjectError("the image lies between the pixels of the canvas", found=f"origin {tuple(origin_px)}")
    canvas = np.full(shape, np.nan + 1j * np.nan, np.complex64)
    first = np.maximum(origin, 0)
    last = np.minimum(origin + image.shape, shape)
    if (last > first).all():
        inside = tuple(slice(low, high) for low, high in zip(first - origin, last - origin, strict=True))
        canvas[first[0] : last[0], first[1] : last[1]] = image[inside]
    return canvas


def nothing_in_common(image: Image, reference: Image) -> ObjectError:
    """The error for two images without a common pixel."""
    counts = [int(np.isfinite(each).sum()) for each in (image, reference)]
    return ObjectError("the two images have no pixel in common", found=f"{counts[0]:,} and {counts[1]:,} known pixels")


def _common(image: Image, reference: Image, mask: NDArray[np.bool_] | None) -> tuple[NDArray[np.complex128], ...]:
    """The pixels of both images that are finite and in the mask, flat, in double precision."""
    _check_shapes(image, reference)
    counts = np.isfinite(image) & np.isfinite(reference)
    if mask is not None:
        counts &= mask
    return image[counts].astype(np.complex128), reference[counts].astype(np.complex128)


def _check_shapes(image: Image, reference: Image) -> None:
    if image.shape != reference.shape:
        raise ObjectError("images of different shapes", found=image.shape, expected=reference.shape)
