"""Level 4, images: two stitched objects of one scan, once what ptychography leaves free is removed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.alignment import Alignment, align
from ptyonnx.comparison.images import Difference, Image, phase_correlation
from ptyonnx.comparison.ring_correlation import RingCorrelation, ring_correlation
from ptyonnx.comparison.similarity import Similarity, compare_amplitudes, compare_phases
from ptyonnx.comparison.subject import Subject
from ptyonnx_bundles.errors import MissingDependencyError, NotFiniteError, ObjectError
from ptyonnx_runtime.engine import Engine
from ptyonnx_runtime.reconstruct import Reconstruction, reconstruct
from ptyonnx_runtime.scan import Scan

__all__ = ["ImageComparison", "Images", "compare_objects", "compare_stitched", "images_installed"]

_UNMOVED = Alignment(1.0, 0.0, (0.0, 0.0), (0.0, 0.0))
REMEDY = "pip install 'ptyonnx[compare]'"


@dataclass(frozen=True, eq=False)
class ImageComparison:
    """Two images of one object, the first aligned to the second.

    Attributes
    ----------
    alignment : Alignment
        What was removed: scale, phase, ramp and shift; nothing between two engines of one function.
    difference : Difference
        Of the complex images after that, where both are known.
    only_a, only_b : int
        Pixels that one of them knows and the other does not, before it is aligned.
    amplitude, phase : Similarity
    ring : RingCorrelation
    phase_correlation : float
        Pearson, central part, see :func:`ptyonnx.comparison.images.phase_correlation`.
    r_factor_a, r_factor_b : float or None
        Of the stitched objects against the measurement; None for images that come without one.
    object_pixel_size_m : float or None
    object_a, object_b : (y, x) complex64
        The images, the first as aligned; NaN where it is not known. Not in the JSON.
    """

    alignment: Alignment
    difference: Difference
    only_a: int
    only_b: int
    amplitude: Similarity
    phase: Similarity
    ring: RingCorrelation
    phase_correlation: float
    r_factor_a: float | None
    r_factor_b: float | None
    object_pixel_size_m: float | None
    object_a: NDArray[np.complex64] = field(repr=False)
    object_b: NDArray[np.complex64] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        parts = {name: value for name, value in vars(self).items() if name not in {"object_a", "object_b"}}
        return {name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in parts.items()}


@dataclass(frozen=True, eq=False)
class Images:
    """The verdict on the stitched objects.

    Attributes
    ----------
    passed : bool or None
        Whether no pixel differs by more than the tolerance; None where there are no two images.
    sentence : str
    image : ImageComparison or None
    """

    passed: bool | None
    sentence: str
    image: ImageComparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**vars(self), "image": None if self.image is None else self.image.to_dict()}


def images_installed() -> bool:
    """Whether scikit-image, which compares images, is installed."""
    try:
        return importlib.util.find_spec("skimage") is not None
    except ValueError:  # None in sys.modules: a module that must not be found
        return False


def compare_objects(
    image: Image, reference: Image, pixel_size_m: float | None = None, *, free: bool = True
) -> ImageComparison:
    """Compare two complex images on one canvas.

    Parameters
    ----------
    image, reference : (y, x) complex
        NaN where nothing is known.
    pixel_size_m : float, optional
    free : bool
        Whether scale, phase, ramp and shift are removed.

    Raises
    ------
    ObjectError
        Different shapes, infinite values, or too little in common.
    MissingDependencyError
        scikit-image is not installed.
    """
    if not images_installed():
        raise MissingDependencyError("comparing images needs scikit-image", remedy=REMEDY)
    if np.isinf(image).any() or np.isinf(reference).any():
        raise ObjectError("infinite values in an image")
    alignment, aligned = align(image, reference) if free else (_UNMOVED, image)
    known_a, known_b = ~np.isnan(aligned), ~np.isnan(reference)
    both = known_a & known_b
    if not both.any():
        raise ObjectError("the two images have no pixel in common")
    distance = np.abs(aligned[both].astype(np.complex128) - reference[both])
    return ImageComparison(
        alignment=alignment,
        difference=Difference.of(distance, alignment.amplitude_scale, alignment.phase_rad),
        only_a=int(np.sum(~np.isnan(image) & ~known_b)),
        only_b=int(np.sum(known_b & np.isnan(image))),
        amplitude=compare_amplitudes(aligned, reference),
        phase=compare_phases(aligned, reference),
        ring=ring_correlation(aligned, reference, pixel_size_m),
        phase_correlation=phase_correlation(aligned, reference),
        r_factor_a=None,
        r_factor_b=None,
        object_pixel_size_m=pixel_size_m,
        object_a=aligned.astype(np.complex64),
        object_b=reference.astype(np.complex64),
    )


def compare_stitched(
    a: Subject, b: Subject, engines: tuple[Engine, Engine], scan: Scan, tolerance: float, *, free: bool = True
) -> Images:
    """Reconstruct a scan with both and compare what comes out.

    Parameters
    ----------
    a, b : Subject
    engines : pair of Engine
        Theirs.
    scan : Scan
        That fits both.
    tolerance : float
        Largest allowed difference of the complex object.
    free : bool
        See :func:`compare_objects`.
    """
    if not images_installed():
        return Images(None, f"not compared: comparing images needs scikit-image; {REMEDY}")
    try:
        first, second = (_stitch(subject, engine, scan) for subject, engine in zip((a, b), engines, strict=True))
        found = compare_objects(first.object, second.object, scan.object_pixel_size_m, free=free)
    except NotFiniteError as error:
        return Images(False, f"beyond the tolerance: {error}")
    except ObjectError as error:
        return Images(None, f"not comparable: {error.problem}")
    image = ImageComparison(**{**vars(found), "r_factor_a": first.r_factor, "r_factor_b": second.r_factor})
    passed = image.difference.maximum <= tolerance
    return Images(passed, _sentence(image, passed, tolerance), image)


def _stitch(subject: Subject, engine: Engine, scan: Scan) -> Reconstruction:
    return reconstruct(subject.bundle, scan, provider=subject.provider, engine=subject.given(engine))


def _sentence(image: ImageComparison, passed: bool, tolerance: float) -> str:
    ring = image.ring
    if ring.resolution_px is None:
        agreement = "they agree at every spatial frequency"
    else:
        metres = "" if ring.resolution_m is None else f" ({ring.resolution_m * 1e9:.3g} nm)"
        agreement = f"they agree down to {ring.resolution_px:.3g} px{metres}"
    alone = [f"{count} pixels only in {name}" for name, count in (("a", image.only_a), ("b", image.only_b)) if count]
    unlike = f"; {', '.join(alone)}" if alone else ""
    return (
        f"{'within' if passed else 'beyond'} the tolerance: largest difference {image.difference.maximum:.2g}, "
        f"allowed {tolerance:.2g}; rms {image.difference.rms:.2g}; {agreement} (Fourier rings, half bit){unlike}"
    )
