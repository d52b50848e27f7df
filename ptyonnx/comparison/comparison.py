"""Compare two bundles, or two engines of one bundle, on four levels.

Each level answers one question: is it the same function (identity), are the weights the same, are the activations the
same, are the images the same? :attr:`Comparison.passed` answers one of them: do A and B compute the same object within
the tolerance? For different functions, such as two trainings of one recipe, weights and activations differ by design
and only patches and images decide. Two engines of one function must agree in every layer as well.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
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
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.scan import Scan

__all__ = ["TOLERANCE", "Comparison", "Level", "compare"]

TOLERANCE = (
    1e-4  # of the complex object: an export may differ by 5e-5 from its native network, two exports by twice that
)

_NO_SCAN = Images(None, "not compared: no scan was given")

Level = Identity | Weights | Activations | Images


@dataclass(frozen=True, eq=False)
class Comparison:
    """The differences of two bundles, or of two engines.

    Attributes
    ----------
    a, b : str
        Names, with the engine where it is not onnxruntime.
    identity : Identity
    weights : Weights
    activations : Activations
    images : Images
        The four levels; each has ``passed`` (None where it could not be compared) and ``sentence``.
    patches : PatchComparison or None
        Patches that both compute from the same patterns; None where no patterns fit both, or nothing had to be run.
    tolerance : float
        Largest allowed difference of patches and image.
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
        """Largest difference of the complex objects; infinite where they could not be compared."""
        if self.images.passed is False and self.image is None:  # non-finite pixels
            return math.inf
        computed = [part.difference.maximum for part in (self.patches, self.image) if part is not None]
        if not computed:
            return 0.0 if self.same_function else math.inf
        return max(computed)

    @property
    def passed(self) -> bool:
        """The answer to :attr:`question`."""
        if self.patches is None:
            return self.same_function
        return self.patches.passed and self.images.passed is not False and not self.engines_differ

    @property
    def question(self) -> str:
        """What :attr:`passed` and the exit code of ``ptyonnx diff`` answer."""
        question = f"Do A and B compute the same object within {self.tolerance:.3g}"
        return f"{question}, and the same layers to rounding?" if self.same_function else f"{question}?"

    @property
    def deciding(self) -> tuple[str, ...]:
        """Names of the levels that decide :attr:`passed`; the others inform."""
        if self.patches is None:
            return ("identity",)
        return ("activations", "images") if self.same_function else ("images",)

    @property
    def engines_differ(self) -> bool:
        """Whether two engines of one function differ in a layer by more than rounding explains."""
        return self.same_function and self.activations.passed is False

    @property
    def sentence(self) -> str:
        """The outcome in one line: the relation of the two functions, and the agreement of their objects."""
        if self.same_function:
            return "; ".join(["same function", *self._obstacles] if self._obstacles else [self._agreement])
        differing = (
            "same graph, different weights" if self.identity.graph_a == self.identity.graph_b else "different graphs"
        )
        return "; ".join([f"different functions ({differing})", *(self._obstacles or [self._agreement])])

    @property
    def _agreement(self) -> str:
        """How well the objects agree, where they can be compared."""
        if self.patches is None:
            return "same function: weights and graph are equal bit for bit"
        what, same = ("patches" if self.image is None else "images"), self.largest <= self.tolerance
        if self.same_function:
            return f"same function, {'same' if same else 'different'} {what}"
        if same:
            return f"the {what} agree within the tolerance"
        if self.image is None:
            return f"the patches differ by {self.patches.difference.rms:.2g} (rms, relative)"
        return f"images correlate to {self.image.phase_correlation:.3f}"

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong beyond a difference of functions: an engine, non-finite pixels, flaws of an image."""
        broken = 0 if self.patches is None else self.patches.not_finite_a + self.patches.not_finite_b
        attribution = self.activations.attribution
        engines = f"the engines differ at {self.activations.first} by more than rounding explains"
        if attribution is not None and attribution.wrong:
            engines += f" ({' and '.join(attribution.wrong)} {'is' if len(attribution.wrong) == 1 else 'are'} wrong)"
        return (
            *([engines] if self.engines_differ else []),
            *(["non-finite pixels"] if broken else [self.images.fault] if self.images.fault else []),
            *(self.image.flaws if self.image is not None else ()),
        )

    @property
    def _obstacles(self) -> list[str]:
        """The faults, and why the objects could not be compared."""
        not_compared = self.patches is None and not self.same_function
        return [*self.faults, *([self.activations.sentence] if not_compared else [])]

    def is_fault(self, level: str) -> bool:
        """Whether a level that is not passed is a fault, not a difference that two functions may have.

        Parameters
        ----------
        level : str
            A key of :attr:`levels`.
        """
        not_finite = level == "activations" and any(layer.problem for layer in self.activations.layers)
        return self.same_function or not_finite or (level in self.deciding and bool(self.faults))

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON; None stands for infinity."""
        return {
            "a": self.a,
            "b": self.b,
            "question": self.question,
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
    """Compare two bundles, or two engines.

    Parameters
    ----------
    a, b : Bundle, Run, path-like or Implementation
        A path may name an engine behind an @: see :func:`ptyonnx.comparison.implementation.open_implementation`.
    scan : Scan or path-like, optional
        Patterns for both. Without a scan the patterns of the self-tests are used, and no image is compared.
    tolerance : float
        Largest allowed difference of the complex object. For two engines of the same function it is absolute;
        otherwise it is relative to the rms amplitude, after the ambiguities of ptychography have been removed.
    provider : str
        See :class:`ptyonnx_runtime.inference.session.Session`.
    limit_s : float
        Time limit for opening a foreign graph, and for each batch, in seconds.

    Raises
    ------
    BundleError
        Not a bundle.
    ScanError
        The scan fits neither bundle, or cannot be reconstructed.
    SettingsError, ProviderError, MissingDependencyError
        The tolerance is negative; an engine is unknown, not installed, or not usable on this machine.
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
    """Run both, if there are patterns that fit both."""
    unfit = _unfit(a, b, scan)
    if unfit:
        return Activations(None, unfit), None, Images(None, unfit) if scan else _NO_SCAN
    if scan is None and identity.passed and a.engine_label == b.engine_label and a.opened is b.opened:
        return Activations(None, "not compared: same function and same engine"), None, _NO_SCAN
    with ExitStack() as closing:
        engines = _open(a, closing), _open(b, closing)
        return _run_engines(a, b, engines, scan, identity, tolerance=tolerance)


def _open(implementation: Implementation, closing: ExitStack) -> Engine:
    """Open the engine, and have it closed unless it is the caller's."""
    engine = implementation.open()
    if implementation.opened is None:
        closing.callback(engine.close)
    return engine


def _run_engines(
    a: Implementation,
    b: Implementation,
    engines: tuple[Engine, Engine],
    scan: Scan | None,
    identity: Identity,
    *,
    tolerance: float,
) -> tuple[Activations, PatchComparison | None, Images]:
    """Run both on patterns that fit both."""
    patterns = patterns_of_selftests(a.bundle, b.bundle) if scan is None else patterns_of_scan(a.bundle, scan)
    if identity.graph_a != identity.graph_b:
        activations = Activations(None, "not comparable: the graphs differ")
    elif isinstance(a.bundle.manifest.recipe, ForeignRecipe):
        activations = Activations(None, "not comparable: a foreign network has no recipe that names its layers")
    else:
        activations = compare_activations(a.bundle.graph, *engines, patterns)
        differing = next((layer for layer in activations.layers if not layer.passed), None)
        if identity.passed and differing is not None and not differing.problem:
            attribution = attribute_difference(a.bundle, differing.name, engines, patterns)
            sentence = f"{activations.sentence}; {attribution.sentence}"
            activations = replace(activations, sentence=sentence, attribution=attribution)
    free = not identity.passed  # two engines of one function must agree in scale and phase, too
    where = patterns if scan is None else scan
    patches = compare_patches(a, b, engines, where, tolerance=tolerance, free=free)
    images = _NO_SCAN if scan is None else compare_stitched(a, b, engines, scan, tolerance, free=free)
    return activations, patches, images


def _unfit(a: Implementation, b: Implementation, scan: Scan | None) -> str | None:
    """Why no patterns fit both; None where some do."""
    first, second = (each.bundle.manifest.physics for each in (a, b))
    if scan is not None:
        fits = [physics.N == scan.N for physics in (first, second)]
        if not any(fits):
            raise ScanError(
                "the patterns fit neither bundle", file=scan.name, key="diffraction", found=f"N = {scan.N}",
                expected=f"N = {first.N}" + (f" or {second.N}" if second.N != first.N else ""),
                remedy="crop or pad the patterns, or leave the scan out",
            )  # fmt: skip
        if not all(fits):
            return f"not comparable: the scan has N = {scan.N}, {'B' if fits[0] else 'A'} has N = {(second if fits[0] else first).N}"
        return None
    if first.N != second.N:
        return f"not comparable: A has N = {first.N}, B has N = {second.N}"
    if first.gridsize != second.gridsize:
        return f"not comparable without a scan: A has gridsize {first.gridsize}, B has gridsize {second.gridsize}"
    return None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
