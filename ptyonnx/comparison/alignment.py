"""Align one image to another, removing the ambiguities of ptychography.

Four transformations of the object leave the measured patterns unchanged, alone or together with a change of the probe
or of the position origin: a global phase, an amplitude scale, a linear phase ramp and a shift. They are fitted together
by least squares where both images are known:

    minimise over s, phi, k, d:   sum_r |s exp(i (phi + k . (r - c))) a(r - d) - b(r)|**2

by Gauss-Newton steps from two initial guesses: no ramp and no shift, and a rough estimate of both from mean phase steps
and an upsampled cross-correlation [1]_. The image is interpolated by quintic splines, which reproduce every pixel at a
shift of 0, including those at the edge.

Of two solutions, the one with the smaller shift is kept unless the other explains significantly more of the difference
by an F test for two additional parameters: independent noise in each pixel exceeds `_SIGNIFICANT` in 5 of 100 000
comparisons [2]_. Shifts below the resolution of the data are therefore set to 0, and the result does not depend on the
rounding of a processor. Near unknown pixels a shifted image depends on extrapolated values. Those pixels are excluded
unless the shift changes the image by less than a tenth of the remaining difference.

References
----------
.. [1] M. Guizar-Sicairos, S. T. Thurman and J. R. Fienup, "Efficient subpixel image registration
   algorithms", Opt. Lett. 33 (2008) 156; scikit-image's `phase_cross_correlation`.
.. [2] G. A. F. Seber and A. J. Lee, "Linear Regression Analysis", 2nd ed. (2003), section 4.3.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptyonnx.comparison.images import Image, global_factor, nothing_in_common
from ptyonnx_bundles.errors import ObjectError

__all__ = ["Alignment", "align", "edge_window"]

_ORDER: Literal[5] = 5  # of the splines
_BORDER_PX = 4  # width of the border around unknown pixels that is not fitted, since splines extrapolate there
_MOST_STEPS = 30
_MOST_HALVINGS = 6
_SIGNIFICANT = 10.0  # noise alone gives a larger F(2, many) with a probability of exp(-10)
_ROUNDINGS = 32.0  # units in the last place: ten or so operations on the way to either image, and in the model
_LITTLE = 0.1  # of the remaining difference: the allowed effect of extrapolated values
_SUPPORT_PX = 3  # half the support of a quintic spline
_PADDING_PX = 12  # pixels beyond it contribute less than 1e-4 at the edge of the array
_STEP_PX = 1e-6  # of the shift, and of the ramp over the whole image in radians: converged
_LARGEST_SHIFT = 0.25  # of the image's side; beyond, the images show different regions
_LARGEST_FIT_PX = 640  # side of the central part that is fitted; a larger one takes longer and changes little
_FEWEST_PIXELS = 64  # for a fit of six parameters; with fewer, only the global factor is fitted

Mask = NDArray[np.bool_]
Array = NDArray[np.complex128]


@dataclass(frozen=True)
class Alignment:
    """The transformation that aligns the first image to the second.

    Attributes
    ----------
    amplitude_scale : float
    phase_rad : float
        Global phase, at the centre of the compared area.
    ramp_rad_per_px : (float, float)
        (y, x).
    shift_px : (float, float)
        (y, x): shift of the first image, down and to the right.
    """

    amplitude_scale: float
    phase_rad: float
    ramp_rad_per_px: tuple[float, float]
    shift_px: tuple[float, float]

    def inverse(self) -> Alignment:
        """The transformation that aligns the second image to the first."""
        y, x = self.ramp_rad_per_px
        down, right = self.shift_px
        phase = math.remainder(-(self.phase_rad + y * down + x * right), 2 * math.pi)
        return Alignment(1 / self.amplitude_scale, phase, (0.0 - y, 0.0 - x), (0.0 - down, 0.0 - right))

    def to_dict(self) -> dict[str, Any]:
        """Names and numbers, for JSON."""
        return asdict(self)


def align(image: Image, reference: Image) -> tuple[Alignment, NDArray[np.complex128]]:
    """Align an image to a reference.

    Parameters
    ----------
    image, reference : (y, x) complex
        On the same canvas, NaN where unknown.

    Returns
    -------
    Alignment
    (y, x) complex128
        The aligned image; NaN where unknown.

    Raises
    ------
    ObjectError
        Different shapes, or no pixel in common.
    """
    common = _common(image, reference)
    centre = tuple(float(axis.mean()) for axis in np.nonzero(common))
    part = _middle(common, centre)
    fit = _Fit(image[part], reference[part], (centre[0] - part[0].start, centre[1] - part[1].start))
    best = fit.best()
    log_scale, phase, *rest = (float(number) for number in best)
    ramp, shift = (rest[0], rest[1]), (rest[2], rest[3])
    border = _SUPPORT_PX if fit.extrapolates(best) else 0
    if fit.shape != image.shape:
        fit = _Fit(image, reference, centre)
    known = fit.known(best, border)
    if not (known & fit.known_b).any():
        raise nothing_in_common(image, reference)
    alignment = Alignment(math.exp(log_scale), math.remainder(phase, 2 * math.pi), ramp, shift)
    return alignment, np.where(known, fit.model(best), complex(np.nan, np.nan))


def edge_window(mask: Mask) -> NDArray[np.float64]:
    """A window that is 1 inside a region and falls to 0 at its edge as a squared sine.

    Parameters
    ----------
    mask : (y, x) bool
        The region. Pixels beyond the array are outside.

    Returns
    -------
    (y, x) float64
        The edge is one eighth as wide as the smaller extent of the region.
    """
    depth = _depth(mask)
    extent = min(int(np.ptp(axis)) + 1 for axis in np.nonzero(mask)) if mask.any() else 1
    window: NDArray[np.float64] = np.sin(np.pi / 2 * np.minimum(depth / max(2.0, extent / 8), 1)) ** 2
    return window


class _Fit:
    """Least-squares fit of (log scale, phase, ramp y, ramp x, shift y, shift x)."""

    def __init__(self, image: Image, reference: Image, centre: tuple[float, ...]) -> None:
        self.shape = image.shape
        self._known_a, self.known_b = ~np.isnan(image), ~np.isnan(reference)
        common = self._known_a & self.known_b
        self._a = _filled(image, self._known_a)
        self._b = _filled(reference, self.known_b)
        self._splines = [
            ndimage.spline_filter(_continued(part), order=_ORDER, output=np.float64, mode="mirror")
            for part in (self._a.real, self._a.imag)
        ]
        self._depth_a = _depth(self._known_a)
        inner = int(((self._depth_a > _BORDER_PX) & self.known_b).sum())
        self._border = _BORDER_PX if inner >= _FEWEST_PIXELS else 0
        self._pixels = inner if inner >= _FEWEST_PIXELS else int(common.sum())
        self._common = common
        self._rounding = float(np.mean(np.abs(self._b[common]) ** 2)) * (_ROUNDINGS * np.finfo(np.float64).eps) ** 2
        axes = [np.arange(size) - middle for size, middle in zip(image.shape, centre, strict=True)]
        self._y, self._x = np.meshgrid(*axes, indexing="ij", sparse=True)
        self._extent = np.maximum(np.array(image.shape, float), 2)

    def best(self) -> NDArray[np.float64]:
        """The parameters with the smallest misfit; of equally good ones those with the smallest shift."""
        unmoved = self._with_factor(np.zeros(6))
        if self._pixels < _FEWEST_PIXELS:
            return unmoved
        still = self._improve(unmoved, moving=False)
        if self.misfit(still) <= self._rounding:
            return still
        moved, guessed = self._improve(unmoved), self._improve(self._guess())
        best = guessed if self._explains_more(guessed, moved) else moved
        still = self._improve(self._with_factor(best * [0, 0, 1, 1, 0, 0]), moving=False)
        return best if self._explains_more(best, still) else still

    def _explains_more(self, parameters: NDArray[np.float64], simpler: NDArray[np.float64]) -> bool:
        """Whether the misfit decreases by more than noise and rounding explain."""
        least, misfit = (max(self.misfit(each), self._rounding) for each in (parameters, simpler))
        return self._pixels * (misfit - least) > _SIGNIFICANT * least

    def extrapolates(self, parameters: NDArray[np.float64]) -> bool:
        """Whether extrapolated values near unknown pixels would affect the difference."""
        if not any(parameters[4:]):
            return False
        down, right = self._slopes(parameters, self.model(parameters))
        change = (parameters[4] * down + parameters[5] * right)[self._part(parameters)]
        return float(np.mean(np.abs(change) ** 2)) > _LITTLE**2 * self.misfit(parameters)

    def _with_factor(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same ramp and shift, with the best scale and phase."""
        part = self._part(parameters)
        factor = global_factor(self.model(parameters)[part], self._b[part])
        return np.asarray(parameters + [*_polar(factor), 0, 0, 0, 0], np.float64)  # noqa: RUF005 - arrays add up

    def _guess(self) -> NDArray[np.float64]:
        from skimage.registration import phase_cross_correlation

        ramp = [_phase_step(self._b, self._common, axis) - _phase_step(self._a, self._common, axis) for axis in (0, 1)]
        flat = self._a * np.exp(1j * (ramp[0] * self._y + ramp[1] * self._x))
        window = edge_window(self._common)
        windowed = [window * (part - np.average(part, weights=window)) for part in (self._b, flat)]
        contrast = [float(np.abs(part).max()) for part in windowed]
        if min(contrast) == 0:  # the position of a flat image is undefined
            return self._with_factor(np.array([0, 0, *ramp, 0, 0]))
        unit = [part / largest for part, largest in zip(windowed, contrast, strict=True)]
        shift, _, _ = phase_cross_correlation(*unit, upsample_factor=10, normalization=None)
        limit = _LARGEST_SHIFT * self._extent
        return self._with_factor(np.array([0, 0, *ramp, *np.clip(np.nan_to_num(shift), -limit, limit)]))

    def model(self, parameters: NDArray[np.float64]) -> Array:
        """The transformed image, including unknown pixels."""
        log_scale, phase, ramp_y, ramp_x, *shift = parameters
        moved = self._a
        if any(shift):
            real, imag = (
                ndimage.shift(spline, shift, order=_ORDER, mode="mirror", prefilter=False) for spline in self._splines
            )
            moved = (real + 1j * imag)[_PADDING_PX:-_PADDING_PX, _PADDING_PX:-_PADDING_PX]
        return np.asarray(
            moved * np.exp(complex(log_scale, phase) + 1j * (ramp_y * self._y + ramp_x * self._x)), np.complex128
        )

    def known(self, parameters: NDArray[np.float64], border: float) -> Mask:
        """Where the shifted image is known, without a border."""
        inside = (self._depth_a > border).astype(np.uint8)
        return ndimage.shift(inside, np.round(parameters[4:]), order=0, mode="constant").astype(bool)

    def _part(self, parameters: NDArray[np.float64]) -> Mask:
        """The pixels that are fitted."""
        return self.known(parameters, self._border) & self.known_b

    def misfit(self, parameters: NDArray[np.float64]) -> float:
        """Mean square difference; infinite where the overlap is too small."""
        return self._misfit(parameters, self.model(parameters), self._part(parameters))

    def _misfit(self, parameters: NDArray[np.float64], model: Array, part: Mask) -> float:
        if 2 * part.sum() < self._pixels or (np.abs(parameters[4:]) > _LARGEST_SHIFT * self._extent).any():
            return math.inf
        value = float(np.mean(np.abs((model - self._b)[part]) ** 2))
        return value if math.isfinite(value) else math.inf

    def _improve(self, parameters: NDArray[np.float64], *, moving: bool = True) -> NDArray[np.float64]:
        """Gauss-Newton steps with step halving, until convergence."""
        model, part = self.model(parameters), self._part(parameters)
        misfit = self._misfit(parameters, model, part)
        for _ in range(_MOST_STEPS):
            if misfit <= self._rounding:
                break
            step = self._step(parameters, model, part, moving=moving)
            for _ in range(_MOST_HALVINGS):
                tried = parameters + step
                trial = self.model(tried), self._part(tried)
                found = self._misfit(tried, *trial)
                if found < misfit:
                    break
                step = step / 2
            else:
                break
            parameters, (model, part), misfit = tried, trial, found
            if max(np.abs(step[4:]).max(), np.abs(step[2:4] * self._extent).max(), np.abs(step[:2]).max()) < _STEP_PX:
                break
        return parameters

    def _slopes(self, parameters: NDArray[np.float64], model: Array) -> list[Array]:
        """Derivatives of the model by the shift. The ramp does not move with the image, so its slope is subtracted."""
        return [1j * ramp * model - slope for ramp, slope in zip(parameters[2:4], np.gradient(model), strict=True)]

    def _step(self, parameters: NDArray[np.float64], model: Array, part: Mask, *, moving: bool) -> NDArray[np.float64]:
        """The Gauss-Newton step."""
        columns = [model, 1j * model, 1j * self._y * model, 1j * self._x * model]
        columns += self._slopes(parameters, model) if moving else [np.zeros_like(model)] * 2
        scale = np.array([1, 1, *(2 / self._extent), 1, 1])  # columns of similar magnitude
        jacobian = np.stack([column[part] for column in columns], axis=1) * scale
        normal = (jacobian.conj().T @ jacobian).real
        right = (jacobian.conj().T @ (self._b - model)[part]).real
        solution: NDArray[np.float64] = scale * np.linalg.lstsq(normal, right, rcond=1e-10)[0]
        return solution


def _common(image: Image, reference: Image) -> Mask:
    if image.shape != reference.shape or image.ndim != 2:
        raise ObjectError("images of different shapes", found=image.shape, expected=reference.shape)
    common = ~(np.isnan(image) | np.isnan(reference))
    if not common.any():
        raise nothing_in_common(image, reference)
    return common


def _middle(common: Mask, centre: tuple[float, ...]) -> tuple[slice, slice]:
    """The central part of the common region; the whole image where it is small, or where that part is mostly unknown."""
    starts = [
        int(np.clip(middle - _LARGEST_FIT_PX // 2, 0, max(0, size - _LARGEST_FIT_PX)))
        for middle, size in zip(centre, common.shape, strict=True)
    ]
    part = slice(starts[0], starts[0] + _LARGEST_FIT_PX), slice(starts[1], starts[1] + _LARGEST_FIT_PX)
    return (
        part if np.mean(common[part]) > 0.5 or common[part].shape == common.shape else (slice(0, None), slice(0, None))
    )


def _filled(image: Image, known: Mask) -> Array:
    """Fill unknown pixels with the nearest known value, so that splines stay smooth."""
    if known.all():
        return image.astype(np.complex128)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(nearest)], np.complex128)


def _continued(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The image, padded by odd reflection at its edge pixels: value and slope are continuous."""
    return np.pad(image, _PADDING_PX, mode="reflect", reflect_type="odd")


def _depth(mask: Mask) -> NDArray[np.float64]:
    """Distance of every pixel of a region to the nearest pixel outside it, which may lie beyond the array."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1], np.float64)


def _polar(factor: complex) -> tuple[float, float]:
    size = abs(factor)
    return (math.log(size), math.atan2(factor.imag, factor.real)) if size > 0 else (0.0, 0.0)


def _phase_step(image: Array, known: Mask, axis: int) -> float:
    """Mean phase step between neighbouring pixels, rad: it measures a ramp independently of a shift."""
    before, after = (
        tuple(slice(start, stop) if ax == axis else slice(None) for ax in (0, 1))
        for start, stop in ((0, -1), (1, None))
    )
    both = known[before] & known[after]
    return float(np.angle(np.sum((image[after] * image[before].conj())[both])))
