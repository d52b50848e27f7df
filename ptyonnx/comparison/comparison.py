"""Two bundles, or two engines of one, side by side on four levels.

Identity, weights, activations and images; each level has a verdict of its own and says so where it
cannot be compared. Whether the two pass is decided by what they compute, patches and images; two
engines of one function must agree in every layer, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ptyonnx.comparison.activations import Activations, compare_activations
from ptyonnx.comparison.attribution import attribute_difference
from ptyonnx.comparison.identity import GraphComparison, Identity, ManifestDifference, compare_identity
from ptyonnx.comparison.implementation import AnyImplementation, Implementation, open_implementation
from ptyonnx.comparison.patches import PatchComparison, compare_patches
from ptyonnx.comparison.stitched import ImageComparison, Images, compare_stitched
from ptyonnx.comparison.weights import Weights, compare_weights, judge_weights
from ptyonnx.opening import AnyScan, open_scan
from ptyonnx.reference.pattern_selection import patterns_of_scan, patterns_of_selftests
from ptyonnx_bundles import ForeignRecipe
from ptyonnx_bundles.arguments import check_type
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_bundles.terminal import escape_unprintable
from ptyonnx_runtime.scan import Scan

__all__ = ["TOLERANCE", "Comparison", "Level", "compare"]

TOLERANCE = 1e-4  # of the complex object: an export may be 5e-5 from its native network, two of them twice that

Level = Identity | Weights | Activations | Images


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far two bundles are apart.

    Attributes
    ----------
    a, b : str
        Their names, with the engine where it is not onnxruntime.
    identity : Identity
    weights : Weights
    activations : Activations
    images : Images
        The four levels; each has ``passed`` (None where it could not be compared) and ``sentence``.
    patches : PatchComparison or None
        What both make of the same patterns; None where none fit both, or nothing had to be run.
    tolerance : float
        Of the largest difference of patches and image.
    """

    a: str
    b: str
    identity: Identity
    weights: Weights
    activations: Activations
    images: Images
    patches: PatchComparison | None
    tolerance: float

    def __repr__(self) -> str:
        return escape_unprintable(f"<Comparison of {self.a} and {self.b}: {self.sentence}>")

    @property
    def same_function(self) -> bool:
        """Whether weights and graph are equal bit for bit."""
        return self.identity.passed

    @property
    def manifest(self) -> tuple[ManifestDifference, ...]:
        """Entries of the manifests that differ."""
        return self.identity.manifest

    @property
    def graph(self) -> GraphComparison:
        """Nodes that differ."""
        return self.identity.graph

    @property
    def image(self) -> ImageComparison | None:
        """The stitched objects; only with a scan."""
        return self.images.image

    @property
    def levels(self) -> dict[str, Level]:
        """The four levels by name, in order."""
        return {
            "identity": self.identity,
            "weights": self.weights,
            "activations": self.activations,
            "images": self.images,
        }

    @property
    def largest(self) -> float:
        """Largest difference of the complex object that was computed; infinite where none could be."""
        if self.images.passed is False and self.image is None:  # an image of what is no number
            return math.inf
        computed = [part.difference.maximum for part in (self.patches, self.image) if part is not None]
        if not computed:
            return 0.0 if self.same_function else math.inf
        return max(computed)

    @property
    def passed(self) -> bool:
        """Whether patches and image are within the tolerance and, of one function, the layers as well.

        Two functions have to part somewhere; two engines of one function have no reason to.
        """
        if self.patches is None:
            return self.same_function
        return self.patches.passed and self.images.passed is not False and not self.engines_part

    @property
    def engines_part(self) -> bool:
        """Whether two engines of one function differ on the way by more than rounding explains."""
        return self.same_function and self.activations.passed is False

    @property
    def sentence(self) -> str:
        """The outcome of all levels together."""
        function = "the same function" if self.same_function else "different functions"
        if self.patches is None and self.image is None:
            return function if self.same_function else f"{function}; no patterns fit both, so nothing could be run"
        verdict = "within" if self.largest <= self.tolerance else "beyond"
        said = [
            f"{function}, {verdict} the tolerance: largest difference {self.largest:.3g}, allowed {self.tolerance:.3g}"
        ]
        if self.patches is not None and (self.patches.not_finite_a or self.patches.not_finite_b):
            said.append(self.patches.sentence)
        if self.image is not None and self.image.flaws:
            said.append(f"images: {', '.join(self.image.flaws)}")
        if self.engines_part:
            said.append(f"but its engines part at {self.activations.first}, by more than rounding explains")
        return "; ".join(said)

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON; None stands for infinity."""
        return {
            "a": self.a,
            "b": self.b,
            "passed": self.passed,
            "sentence": self.sentence,
            "same_function": self.same_function,
            "tolerance": _finite(self.tolerance),
            "largest": _finite(self.largest),
            **{name: level.to_dict() for name, level in self.levels.items()},
            "patches": None if self.patches is None else self.patches.to_dict(),
        }


def compare(
    a: AnyImplementation,
    b: AnyImplementation,
    scan: AnyScan | None = None,
    *,
    tolerance: float = TOLERANCE,
    provider: str = "auto",
    limit_s: float = DEFAULT_LIMIT_S,
) -> Comparison:
    """Compare two bundles, or what two engines make of them.

    Parameters
    ----------
    a, b : Bundle, Run, path-like or Implementation
        A path may name an engine behind an @: see :func:`ptyonnx.comparison.implementation.open_implementation`.
    scan : Scan or path-like, optional
        To run both on. Without it, the patterns of their self-tests serve, and there is no image.
    tolerance : float
        Largest allowed difference of the complex object: between two engines of the same function
        absolute; otherwise in parts of the rms amplitude, once what ptychography leaves free is removed.
    provider : str
        See :class:`ptyonnx_runtime.inference.session.Session`.
    limit_s : float
        Seconds that a foreign graph may take to be opened, and for each batch.

    Raises
    ------
    BundleError
        Not a bundle.
    ScanError
        The scan fits neither of the two, or cannot be reconstructed.
    SettingsError, ProviderError, MissingDependencyError
        The tolerance is negative; an engine is unknown, not installed, or does not work here.
    """
    check_type(tolerance, "tolerance", (int, float), "a number")
    if math.isnan(tolerance) or tolerance < 0:
        raise SettingsError("must not be negative", key="tolerance", found=tolerance)
    first, second = (
        open_implementation(a, provider, limit_s, key="a"),
        open_implementation(b, provider, limit_s, key="b"),
    )
    scan = None if scan is None else open_scan(scan)
    identity = compare_identity(first, second)
    activations, patches, images = _run(first, second, scan, identity, tolerance)
    return Comparison(
        a=first.name,
        b=second.name,
        identity=identity,
        weights=judge_weights(compare_weights(first.bundle.weights, second.bundle.weights)),
        activations=activations,
        images=images,
        patches=patches,
        tolerance=tolerance,
    )


def _run(
    a: Implementation, b: Implementation, scan: Scan | None, identity: Identity, tolerance: float
) -> tuple[Activations, PatchComparison | None, Images]:
    """Run both, as far as there are patterns for both."""
    unfit = _unfit(a, b, scan)
    without_scan = Images(None, "not compared: there is no scan to reconstruct")
    if unfit:
        return Activations(None, unfit), None, Images(None, unfit) if scan else without_scan
    if scan is None and identity.passed and a.engine_label == b.engine_label and a.opened is b.opened:
        return Activations(None, "not run: the same function, and the same engine for both"), None, without_scan
    engines = a.open(), b.open()
    patterns = patterns_of_selftests(a.bundle, b.bundle) if scan is None else patterns_of_scan(a.bundle, scan)
    if identity.graph_a != identity.graph_b:
        activations = Activations(None, "not comparable: the graphs differ, so that layers have no counterparts")
    elif isinstance(a.bundle.manifest.recipe, ForeignRecipe):
        activations = Activations(
            None, "not comparable: a network of another system has no recipe that names its layers"
        )
    else:
        activations = compare_activations(a.bundle.graph, *engines, patterns)
        parting = next((layer for layer in activations.layers if not layer.passed), None)
        if identity.passed and parting is not None and not parting.problem:
            erring = attribute_difference(a.bundle, parting.name, engines, patterns)
            activations = replace(activations, sentence=f"{activations.sentence}; {erring}")
    free = not identity.passed  # two engines of one function have nothing to choose
    where = patterns if scan is None else scan
    patches = compare_patches(engines, (a.bundle, b.bundle), where, tolerance=tolerance, free=free)
    images = without_scan if scan is None else compare_stitched(a, b, engines, scan, tolerance, free=free)
    return activations, patches, images


def _unfit(a: Implementation, b: Implementation, scan: Scan | None) -> str | None:
    """Why there are no patterns that both take; None where there are."""
    first, second = (subject.bundle.manifest.physics for subject in (a, b))
    if scan is not None:
        fits = [physics.N == scan.N for physics in (first, second)]
        if not any(fits):
            raise ScanError(
                "the patterns fit neither bundle", file=scan.name, key="diffraction", found=f"N = {scan.N}",
                expected=f"N = {first.N}" + (f" or {second.N}" if second.N != first.N else ""),
                remedy="crop or pad the patterns, or leave the scan out",
            )  # fmt: skip
        if not all(fits):
            return f"not comparable: the scan has N = {scan.N}, {'B' if fits[0] else 'A'} is for N = {(second if fits[0] else first).N}"
        return None
    if first.N != second.N:
        return f"not comparable: no pattern fits both, A is for N = {first.N} and B for N = {second.N}"
    if first.gridsize != second.gridsize:
        return (
            f"not comparable: no group of patterns fits both, A has gridsize {first.gridsize} and B {second.gridsize}; "
            "a scan serves both"
        )
    return None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
