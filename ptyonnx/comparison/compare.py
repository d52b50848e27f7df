"""Two bundles beside each other: what they say, what they are, what they compute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptyonnx.comparison.images import Difference, difference, phase_correlation
from ptyonnx.comparison.manifests import (
    GraphComparison,
    ManifestDifference,
    compare_graphs,
    compare_manifests,
    same_function,
)
from ptyonnx.comparison.patches import PatchComparison, compare_patches
from ptyonnx.comparison.weights import WeightDifference, compare_weights
from ptyonnx_bundles import Bundle, read_bundle
from ptyonnx_bundles.errors import BundleError, SettingsError
from ptyonnx_runtime.reconstruct import reconstruct
from ptyonnx_runtime.scan import Scan

__all__ = ["TOLERANCE", "Comparison", "ImageComparison", "compare"]

TOLERANCE = 1e-4  # of the complex object: an export may be 5e-5 from its native network, two of them twice that


@dataclass(frozen=True)
class ImageComparison:
    """The stitched objects of two bundles from the same scan.

    Attributes
    ----------
    difference : Difference
        Where both know the object, after one complex factor.
    phase_correlation : float
        Pearson, central part, see :func:`ptyonnx.comparison.images.phase_correlation`.
    r_factor_a, r_factor_b : float
        Of the stitched objects against the measurement.
    """

    difference: Difference
    phase_correlation: float
    r_factor_a: float
    r_factor_b: float

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**vars(self), "difference": self.difference.to_dict()}


@dataclass(frozen=True)
class Comparison:
    """How far two bundles are apart.

    Attributes
    ----------
    a, b : str
        Their names.
    same_function : bool
        Weights and graph are equal bit for bit.
    manifest : tuple of ManifestDifference
    graph : GraphComparison
    weights : tuple of WeightDifference
    patches : PatchComparison or None
    image : ImageComparison or None
        Only with a scan.
    tolerance : float
        Of the largest difference of patches and image.
    """

    a: str
    b: str
    same_function: bool
    manifest: tuple[ManifestDifference, ...]
    graph: GraphComparison
    weights: tuple[WeightDifference, ...]
    patches: PatchComparison | None
    image: ImageComparison | None
    tolerance: float

    @property
    def largest(self) -> float:
        """Largest difference that was computed; infinite where nothing could be."""
        computed = [part.difference.maximum for part in (self.patches, self.image) if part is not None]
        if not computed:
            return 0.0 if self.same_function else math.inf
        return max(computed)

    @property
    def passed(self) -> bool:
        """Whether the two are within the tolerance."""
        return self.largest <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON; None stands for infinity."""
        return {
            "a": self.a,
            "b": self.b,
            "same_function": self.same_function,
            "passed": self.passed,
            "tolerance": _finite(self.tolerance),
            "largest": _finite(self.largest),
            "manifest": [entry.to_dict() for entry in self.manifest],
            "graph": self.graph.to_dict(),
            "weights": [entry.to_dict() for entry in self.weights],
            "patches": None if self.patches is None else self.patches.to_dict(),
            "image": None if self.image is None else self.image.to_dict(),
        }


def compare(
    a: Bundle | Path | str,
    b: Bundle | Path | str,
    scan: Scan | None = None,
    *,
    tolerance: float = TOLERANCE,
    provider: str = "auto",
) -> Comparison:
    """Compare two bundles.

    Parameters
    ----------
    a, b : Bundle or path-like
    scan : Scan, optional
        To run both on. Without it, the patterns of their self-tests serve.
    tolerance : float
        Largest allowed absolute difference of the complex object, global phase and scale removed.
    provider : str
        See :class:`ptyonnx_runtime.session.Session`.

    Raises
    ------
    BundleError
        Not a bundle, or the two are for patterns of different size.
    ScanError
        The scan does not fit.
    """
    if math.isnan(tolerance) or tolerance < 0:
        raise SettingsError("must not be negative", key="tolerance", found=tolerance)
    first, second = (each if isinstance(each, Bundle) else read_bundle(each) for each in (a, b))
    same = same_function(first, second)
    if first.manifest.physics.N != second.manifest.physics.N:
        raise BundleError(
            "another N than the other bundle: no pattern fits both", file=second.path or second.name, key="physics.N",
            found=second.manifest.physics.N, expected=first.manifest.physics.N,
        )  # fmt: skip
    skip = same and scan is None
    return Comparison(
        a=str(first.path or first.name),
        b=str(second.path or second.name),
        same_function=same,
        manifest=compare_manifests(first.manifest, second.manifest),
        graph=compare_graphs(first.graph, second.graph),
        weights=compare_weights(first.weights, second.weights),
        patches=None if skip else compare_patches(first, second, scan, provider),
        image=None if scan is None else _compare_images(first, second, scan, provider),
        tolerance=tolerance,
    )


def _compare_images(a: Bundle, b: Bundle, scan: Scan, provider: str) -> ImageComparison:
    first, second = (reconstruct(bundle, scan, provider=provider) for bundle in (a, b))
    return ImageComparison(
        difference=difference(first.object, second.object),
        phase_correlation=phase_correlation(first.object, second.object),
        r_factor_a=first.r_factor,
        r_factor_b=second.r_factor,
    )


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
