"""Level 4, images: two stitched objects of one scan, after the ambiguities of ptychography have been removed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.alignment import Alignment, align
from ptyonnx.comparison.images import Difference, Image, comparable, nothing_in_common, phase_correlation, rms
from ptyonnx.comparison.implementation import Implementation
from ptyonnx.comparison.ring_correlation import RingCorrelation, ring_correlation
from ptyonnx.comparison.similarity import Similarity, compare_amplitudes, compare_phases
from ptyonnx_bundles.errors import MissingDependencyError, NotFiniteError, ObjectError
from ptyonnx_bundles.terminal import escape_unprintable
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.reconstruct import Reconstruction, reconstruct
from ptyonnx_runtime.scan import Scan

__all__ = ["ImageComparison", "Images", "compare_objects", "compare_stitched", "images_installed"]

Mask = NDArray[np.bool_]

_UNMOVED = Alignment(1.0, 0.0, (0.0, 0.0), (0.0, 0.0))
_LEAST_IN_COMMON = 0.5  # of the pixels that either knows: below, most of an image is not compared
REMEDY = "pip install 'ptyonnx[compare]'"


@dataclass(frozen=True, eq=False)
class ImageComparison:
    """Two images of one object. The fainter is aligned to the brighter, so that the order does not matter.

    Attributes
    ----------
    free : bool
        Whether scale, phase, ramp and shift were removed; they are not between two engines of one function.
    alignment : Alignment
        The transformation that aligns A to B.
    difference : Difference
        Difference of the aligned complex images where both are known. Infinite where they cannot be compared.
    in_common, only_a, only_b : int
        Number of pixels known in both, in A only and in B only, before alignment. Two bundles may differ in the
        extent of their probes; two engines of one function must know the same pixels.
    not_finite_a, not_finite_b : int
        Number of non-finite pixels outside the unknown region.
    rms_amplitude_a, rms_amplitude_b : float
        Over the pixels known in both, before alignment.
    amplitude, phase : Similarity
        Similarities; the data range is that of the brighter image.
    ring : RingCorrelation
    phase_correlation : float
        Pearson, central part, see :func:`ptyonnx.comparison.images.phase_correlation`.
    r_factor_a, r_factor_b : float or None
        R-factors of the stitched objects; None for images without measured patterns.
    object_pixel_size_m : float or None
    object_a, object_b : (y, x) complex64
        The compared images, NaN where unknown. The JSON does not contain them.
    """

    free: bool
    alignment: Alignment
    difference: Difference
    in_common: int
    only_a: int
    only_b: int
    not_finite_a: int
    not_finite_b: int
    rms_amplitude_a: float
    rms_amplitude_b: float
    amplitude: Similarity
    phase: Similarity
    ring: RingCorrelation
    phase_correlation: float
    r_factor_a: float | None
    r_factor_b: float | None
    object_pixel_size_m: float | None
    object_a: NDArray[np.complex64]
    object_b: NDArray[np.complex64]

    @property
    def unlike(self) -> tuple[str, ...]:
        """Sentences on the pixels that only one of the two knows."""
        return tuple(
            f"{count:,} pixels known in {name} only"
            for name, count in (("A", self.only_a), ("B", self.only_b))
            if count
        )

    @property
    def flaws(self) -> tuple[str, ...]:
        """Why the two differ at any tolerance."""
        broken = (("A", self.not_finite_a), ("B", self.not_finite_b))
        found = [f"{count:,} non-finite pixels in {name}" for name, count in broken if count]
        if self.unlike and not self.free:
            found.extend(self.unlike)
        elif self.in_common < _LEAST_IN_COMMON * (self.in_common + max(self.only_a, self.only_b)):
            found.append(f"{self.in_common:,} pixels in common, {', '.join(self.unlike)}")
        a, b = self.rms_amplitude_a, self.rms_amplitude_b
        if self.free and not comparable(a, b):
            faint, other = ("A", "B") if a < b else ("B", "A")
            values = f"the rms amplitude of A is {a:.2g}, that of B {b:.2g}"
            found.append(
                f"{faint} is nearly zero compared to {other}: {values}"
                if a + b > 0
                else "both images are zero everywhere"
            )
        return tuple(found)

    def __repr__(self) -> str:
        found = self.difference
        return (
            f"<ImageComparison, {found.pixels:,} px: largest difference {found.maximum:.2g}, rms {found.rms:.2g}; "
            f"{'; '.join((*self.flaws, self.ring.sentence))}; phase correlation {self.phase_correlation:.3g}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        parts = {name: value for name, value in vars(self).items() if name not in {"object_a", "object_b"}}
        return {name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in parts.items()}


@dataclass(frozen=True, eq=False)
class Images:
    """Level 4: the stitched objects.

    Attributes
    ----------
    passed : bool or None
        Whether no pixel differs by more than the tolerance and the images have no flaws; None where nothing was
        reconstructed.
    sentence : str
    image : ImageComparison or None
    fault : str or None
        Why there is no image although both were run, in a few words.
    """

    passed: bool | None
    sentence: str
    image: ImageComparison | None = None
    fault: str | None = None

    def __repr__(self) -> str:
        return f"<Images: {escape_unprintable(self.sentence)}>"

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        image = None if self.image is None else self.image.to_dict()
        return {"passed": self.passed, "sentence": self.sentence, "image": image}


def images_installed() -> bool:
    """Whether scikit-image, which this level requires, is installed."""
    try:
        return importlib.util.find_spec("skimage") is not None
    except ValueError:  # sys.modules has None for a module that must not be imported
        return False


def compare_objects(
    a: Image,
    b: Image,
    pixel_size_m: float | None = None,
    *,
    unknown: tuple[Mask, Mask] | None = None,
    free: bool = True,
) -> ImageComparison:
    """Compare two complex images on one canvas.

    Parameters
    ----------
    a, b : (y, x) complex
    pixel_size_m : float, optional
    unknown : pair of (y, x) bool, optional
        The unknown pixels of each, as in :attr:`Reconstruction.mask`; by default those that are NaN. Elsewhere a
        non-finite pixel counts as a difference.
    free : bool
        Whether to remove scale, phase, ramp and shift.

    Raises
    ------
    ObjectError
        Different shapes, or too little in common.
    MissingDependencyError
        scikit-image is not installed.
    """
    if not images_installed():
        raise MissingDependencyError("comparing images needs scikit-image", remedy=REMEDY)
    if a.shape != b.shape:
        raise ObjectError("images of different shapes", found=a.shape, expected=b.shape)
    unknown_a, unknown_b = unknown or (np.isnan(a), np.isnan(b))
    broken = [int(np.sum(~np.isfinite(each) & ~hidden)) for each, hidden in ((a, unknown_a), (b, unknown_b))]
    first, second = _hidden(a, unknown_a), _hidden(b, unknown_b)
    common = ~np.isnan(first) & ~np.isnan(second)
    if not common.any():
        raise nothing_in_common(first, second)
    amplitudes = rms(first[common]), rms(second[common])
    alignment = _UNMOVED
    if free:
        alignment, first, second = _aligned_pair(first, second, common)
    both = ~np.isnan(first) & ~np.isnan(second)
    distance = np.abs(first[both] - second[both]) / ((max(amplitudes) or 1.0) if free else 1.0)
    return ImageComparison(
        free=free,
        alignment=alignment,
        difference=Difference.of(
            distance, alignment.amplitude_scale, alignment.phase_rad,
            comparable=not any(broken) and (not free or comparable(*amplitudes)),
        ),
        in_common=int(np.sum(~unknown_a & ~unknown_b)),
        only_a=int(np.sum(~unknown_a & unknown_b)),
        only_b=int(np.sum(~unknown_b & unknown_a)),
        not_finite_a=broken[0],
        not_finite_b=broken[1],
        rms_amplitude_a=amplitudes[0],
        rms_amplitude_b=amplitudes[1],
        amplitude=compare_amplitudes(first, second),
        phase=compare_phases(first, second),
        ring=ring_correlation(first, second, pixel_size_m),
        phase_correlation=phase_correlation(first, second),
        r_factor_a=None,
        r_factor_b=None,
        object_pixel_size_m=pixel_size_m,
        object_a=first.astype(np.complex64),
        object_b=second.astype(np.complex64),
    )  # fmt: skip


def _hidden(image: Image, unknown: Mask) -> Image:
    """The image in double precision, NaN where it is unknown or non-finite."""
    return np.where(unknown | ~np.isfinite(image), complex(np.nan, np.nan), image).astype(np.complex128)


def _aligned_pair(a: Image, b: Image, common: Mask) -> tuple[Alignment, Image, Image]:
    """The transformation that aligns A to B, and both images, the fainter aligned to the brighter."""

    def rank(image: Image) -> tuple[float, bytes]:
        return (
            rms(image[common]),
            image.tobytes(),
        )  # equally bright images are ordered by their bytes, so that the order of A and B does not matter

    if rank(a) <= rank(b):
        alignment, moved = align(a, b)
        return alignment, moved, b
    alignment, moved = align(b, a)
    return alignment.inverse(), a, moved


def compare_stitched(
    a: Implementation,
    b: Implementation,
    engines: tuple[Engine, Engine],
    scan: Scan,
    tolerance: float,
    *,
    free: bool = True,
) -> Images:
    """Reconstruct a scan with both and compare the objects.

    Parameters
    ----------
    a, b : Implementation
    engines : pair of Engine
        The engines of A and B.
    scan : Scan
        A scan that fits both.
    tolerance : float
        Largest allowed difference of the complex object.
    free : bool
        See :func:`compare_objects`.
    """
    if not images_installed():
        return Images(None, f"not compared: comparing images needs scikit-image; {REMEDY}")
    try:
        first, second = (_stitch(each, engine, scan) for each, engine in zip((a, b), engines, strict=True))
        masks = first.mask, second.mask
        found = compare_objects(first.object, second.object, scan.object_pixel_size_m, unknown=masks, free=free)
    except NotFiniteError as error:
        return Images(False, f"beyond any tolerance: {error}", fault="non-finite pixels")
    except ObjectError as error:
        return Images(False, f"not comparable: {error.problem}", fault=error.problem)
    image = replace(found, r_factor_a=first.r_factor, r_factor_b=second.r_factor)
    passed = image.difference.maximum <= tolerance and not image.flaws
    return Images(passed, _sentence(image, passed, tolerance), image)


def _stitch(implementation: Implementation, engine: Engine, scan: Scan) -> Reconstruction:
    return reconstruct(implementation.bundle, scan, engine, implementation.options(engine))


def _sentence(image: ImageComparison, passed: bool, tolerance: float) -> str:
    figures = (
        f"largest difference {image.difference.maximum:.2g}, allowed {tolerance:.2g}; "
        f"rms {image.difference.rms:.2g}; {image.ring.sentence} (Fourier ring correlation, half-bit threshold)"
    )
    if image.flaws:
        return f"beyond any tolerance: {'; '.join((*image.flaws, figures))}"
    return f"{'within' if passed else 'beyond'} the tolerance: {'; '.join((figures, *image.unlike))}"
