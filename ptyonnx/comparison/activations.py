"""Level 3, activations: the first layer in which two networks differ by more than rounding.

Values are paired by canonical name. Both networks receive the same patterns, a few at a time, and only the largest and
summed differences of each value are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.reference.analytic_tolerances import analytic_tolerances
from ptyonnx.reference.pattern_selection import PatternGroups
from ptyonnx_bundles import OnnxFile
from ptyonnx_bundles.terminal import escape_unprintable
from ptyonnx_runtime.inference.activations import value_names
from ptyonnx_runtime.inference.engine import Engine

if TYPE_CHECKING:
    from ptyonnx.comparison.attribution import Attribution

__all__ = ["Activations", "LayerDifference", "batches", "compare_activations"]

_BATCH_PX = 8 * 64 * 64  # pixels per batch: the values of both networks take about 100 MB at any N


@dataclass(frozen=True)
class LayerDifference:
    """One value of the network, in two implementations.

    Attributes
    ----------
    name : str
        Canonical.
    largest, rms : float
        Largest and root mean square difference; infinite where there is a problem.
    magnitude : float
        Largest magnitude of the value.
    tolerance : float
        Allowed `largest`, see :mod:`ptyonnx.reference.analytic_tolerances`.
    problem : str
        Why the values cannot be subtracted: one is missing, has another shape, or is not finite. Otherwise empty.
    """

    name: str
    largest: float
    rms: float
    magnitude: float
    tolerance: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether rounding alone can explain the difference."""
        return self.largest <= self.tolerance

    @property
    def excess(self) -> float:
        """The largest difference in units of the tolerance."""
        return self.largest / self.tolerance if self.tolerance > 0 else math.inf if self.largest > 0 else 0.0

    @property
    def sentence(self) -> str:
        """The difference beside its tolerance, or the problem."""
        return self.problem or (
            f"largest difference {self.largest:.2g}, rounding explains {self.tolerance:.2g} "
            f"(values up to {self.magnitude:.2g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON; None stands for infinity."""
        values = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        return {**values, "passed": self.passed}


@dataclass(frozen=True)
class Activations:
    """All values of two networks on the same patterns.

    Attributes
    ----------
    passed : bool or None
        Whether rounding explains every difference; None where values cannot be paired.
    sentence : str
    source : {"scan", "self-tests"} or None
        Origin of the patterns.
    patterns : int
        Number of patterns.
    first : str or None
        Name of the first value, in order of computation, that exceeds its tolerance.
    layers : tuple of LayerDifference
        All values that the graph names, in order of computation.
    outputs : tuple of LayerDifference
        For A and for B: the output of `run` beside the last value of `activations`. onnxruntime, for one, computes
        them with different kernels, and users receive the output of `run`.
    attribution : Attribution or None
        Which of two engines is wrong at `first`, where both compute the same function.
    """

    passed: bool | None
    sentence: str
    source: str | None = None
    patterns: int = 0
    first: str | None = None
    layers: tuple[LayerDifference, ...] = ()
    outputs: tuple[LayerDifference, ...] = ()
    attribution: Attribution | None = None

    def __repr__(self) -> str:
        return f"<Activations: {escape_unprintable(self.sentence)}>"

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        parts = {name: [each.to_dict() for each in getattr(self, name)] for name in ("layers", "outputs")}
        attribution = None if self.attribution is None else self.attribution.to_dict()
        return {**vars(self), **parts, "attribution": attribution}


def compare_activations(graph: OnnxFile, a: Engine, b: Engine, patterns: PatternGroups) -> Activations:
    """Run two networks of one graph on the same patterns and compare every value that it names.

    Parameters
    ----------
    graph : OnnxFile
        Graph of both networks, described by a recipe.
    a, b : Engine
    patterns : PatternGroups
    """
    names = value_names(graph)
    layers = {name: _Sums("A", "B") for name in names}
    outputs = _Sums("the output", "the last layer"), _Sums("the output", "the last layer")
    for diffraction in batches(patterns.diffraction):
        values = a.activations(diffraction), b.activations(diffraction)
        for name, kept in layers.items():
            kept.add(*(each.get(name) for each in values))
        for engine, each, kept in zip((a, b), values, outputs, strict=True):
            kept.add(_real(engine.run(diffraction)), each.get(names[-1]))
    allowed = analytic_tolerances(graph, {name: kept.magnitude for name, kept in layers.items()})
    return _judge(
        tuple(kept.difference(name, allowed[name]) for name, kept in layers.items()),
        tuple(kept.difference(names[-1], allowed[names[-1]]) for kept in outputs),
        patterns,
    )


def _judge(
    layers: tuple[LayerDifference, ...], outputs: tuple[LayerDifference, ...], patterns: PatternGroups
) -> Activations:
    beyond = next((index for index, layer in enumerate(layers) if not layer.passed), None)
    other = [(letter, output) for letter, output in zip("AB", outputs, strict=True) if not output.passed]
    seen = f"{patterns.count} patterns ({patterns.source})"
    parts, first = [], None
    if beyond is not None:
        first = layers[beyond].name
        parts.append(
            f"first difference at {first}: {layers[beyond].sentence}; {beyond} values before it agree on {seen}"
        )
    elif other:
        first = other[0][1].name
        parts.append(f"all {len(layers)} values agree to rounding on {seen}")
    for letter, output in other:
        if not output.problem or beyond is None:
            parts.append(f"the output of {letter} differs from its own last layer: {output.sentence}")
    if not parts:
        closest = max(layers, key=lambda layer: layer.excess)
        parts.append(f"all {len(layers)} values agree to rounding on {seen}")
        if closest.largest > 0:
            parts[0] += f"; {closest.name} comes closest to its tolerance, with {closest.excess:.1%} of it"
    return Activations(first is None, "; ".join(parts), patterns.source, patterns.count, first, layers, outputs)


def batches(diffraction: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Split patterns into batches whose activations fit into memory."""
    size = max(1, _BATCH_PX // math.prod(diffraction.shape[1:]))
    for start in range(0, len(diffraction), size):
        yield diffraction[start : start + size]


def _real(patches: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Patches as the graph's output: real and imaginary part on the last axis."""
    return np.stack((patches.real, patches.imag), axis=-1)


class _Sums:
    """Running figures of one value: largest and summed squared difference, largest magnitude."""

    def __init__(self, a: str, b: str) -> None:
        self.magnitude = 0.0
        self._names = a, b
        self._largest = self._squares = 0.0
        self._count = 0
        self._problem = ""

    def add(self, a: NDArray[np.float32] | None, b: NDArray[np.float32] | None) -> None:
        """Add a batch; None stands for a value that an engine does not provide."""
        for value in (a, b):
            if value is not None and value.size:
                largest = float(np.abs(value).max(initial=0, where=np.isfinite(value)))
                self.magnitude = max(self.magnitude, largest)
        problem = self._obstacle(a, b)
        if problem or a is None or b is None:
            self._problem = self._problem or problem
            return
        with np.errstate(over="ignore"):  # a difference of two float32 values may overflow
            distance = np.abs(a - b)
        self._largest = max(self._largest, float(distance.max(initial=0)))
        self._squares += float(np.vdot(distance, distance))
        self._count += a.size

    def difference(self, name: str, tolerance: float) -> LayerDifference:
        """The figures over all batches."""
        if self._problem:
            return LayerDifference(name, math.inf, math.inf, self.magnitude, tolerance, self._problem)
        rms = math.sqrt(self._squares / self._count) if self._count else 0.0
        return LayerDifference(name, self._largest, rms, self.magnitude, tolerance)

    def _obstacle(self, a: NDArray[np.float32] | None, b: NDArray[np.float32] | None) -> str:
        if a is None or b is None:
            absent = [name for name, value in zip(self._names, (a, b), strict=True) if value is None]
            return f"{absent[0]} does not provide it" if len(absent) == 1 else "neither provides it"
        if a.shape != b.shape:
            return f"{self._names[0]} has the shape {a.shape}, {self._names[1]} {b.shape}"
        broken = [name for name, value in zip(self._names, (a, b), strict=True) if not np.isfinite(value).all()]
        return f"not finite in {' and '.join(broken)}" if broken else ""
