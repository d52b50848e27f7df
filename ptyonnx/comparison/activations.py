"""Level 3, activations: where on their way through the network two of them part.

Values are paired by their canonical name and by nothing else. Both networks get the very same
patterns, a few at a time; nothing but one number per value and figure is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.patterns import Patterns
from ptyonnx.comparison.rounding import tolerances
from ptyonnx_bundles import OnnxFile
from ptyonnx_runtime.engine import Engine

__all__ = ["Activations", "LayerDifference", "compare_activations"]

_BATCH_PX = 8 * 64 * 64  # patterns that are in both networks at a time: some 100 MB at any N


@dataclass(frozen=True)
class LayerDifference:
    """One value of the network, in two implementations.

    Attributes
    ----------
    name : str
        Canonical.
    largest, rms : float
        Of the difference; infinite where one of them is not a number.
    magnitude : float
        Largest of the value itself.
    tolerance : float
        Of `largest`, see :mod:`ptyonnx.comparison.rounding`.
    """

    name: str
    largest: float
    rms: float
    magnitude: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether rounding alone can explain the difference."""
        return self.largest <= self.tolerance

    @property
    def excess(self) -> float:
        """The largest difference in units of the tolerance."""
        return self.largest / self.tolerance if self.tolerance > 0 else math.inf if self.largest > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON; None stands for infinity."""
        numbers = {key: value if math.isfinite(value) else None for key, value in asdict(self).items() if key != "name"}
        return {"name": self.name, **numbers, "passed": self.passed}


@dataclass(frozen=True)
class Activations:
    """All values of two networks on the same patterns.

    Attributes
    ----------
    passed : bool or None
        Whether rounding explains every difference; None where the values have no counterparts.
    sentence : str
    source : {"scan", "self-tests"} or None
        Where the patterns come from.
    patterns : int
        Number of them.
    first : str or None
        Name of the first value, in order of computation, that is beyond its tolerance.
    layers : tuple of LayerDifference
        In order of computation.
    """

    passed: bool | None
    sentence: str
    source: str | None = None
    patterns: int = 0
    first: str | None = None
    layers: tuple[LayerDifference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**vars(self), "layers": [layer.to_dict() for layer in self.layers]}


def compare_activations(graph: OnnxFile, a: Engine, b: Engine, patterns: Patterns) -> Activations:
    """Run two networks of one graph on the same patterns and compare every value.

    Parameters
    ----------
    graph : OnnxFile
        Of both.
    a, b : Engine
    patterns : Patterns
    """
    sums: dict[str, _Sums] = {}
    for diffraction in _batches(patterns.diffraction):
        first, second = a.activations(diffraction), b.activations(diffraction)
        for name, value in first.items():
            sums.setdefault(name, _Sums()).add(value, second.get(name))
        for name in second.keys() - first.keys():
            sums.setdefault(name, _Sums()).add(second[name], None)
    allowed = tolerances(graph, {name: found.magnitude for name, found in sums.items()})
    layers = tuple(
        LayerDifference(name, sums[name].largest, sums[name].rms, sums[name].magnitude, tolerance)
        for name, tolerance in allowed.items()
    )
    return _judge(layers, patterns)


def _judge(layers: tuple[LayerDifference, ...], patterns: Patterns) -> Activations:
    beyond = next((index for index, layer in enumerate(layers) if not layer.passed), None)
    seen = f"{patterns.count} patterns ({patterns.source})"
    if not layers:
        return Activations(None, "not comparable: the two engines name no value alike", patterns.source, patterns.count)
    if beyond is None:
        closest = max(layers, key=lambda layer: layer.excess)
        sentence = f"all {len(layers)} values agree to rounding on {seen}"
        if closest.largest > 0:
            sentence += f", the nearest to its tolerance, {closest.name}, at {closest.excess:.1%} of it"
        return Activations(True, sentence, patterns.source, patterns.count, None, layers)
    layer = layers[beyond]
    sentence = (
        f"the two part at {layer.name}: largest difference {layer.largest:.2g}, rounding explains {layer.tolerance:.2g} "
        f"(values up to {layer.magnitude:.2g}); {beyond} values before it agree, on {seen}"
    )
    return Activations(False, sentence, patterns.source, patterns.count, layer.name, layers)


def _batches(diffraction: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    size = max(1, _BATCH_PX // math.prod(diffraction.shape[1:]))
    for start in range(0, len(diffraction), size):
        yield diffraction[start : start + size]


class _Sums:
    """What is kept of a value: largest and squared differences, largest magnitude."""

    def __init__(self) -> None:
        self.largest = self.magnitude = self._squares = 0.0
        self._count = 0

    def add(self, a: NDArray[np.float32], b: NDArray[np.float32] | None) -> None:
        if b is None or a.shape != b.shape:
            self.largest = self._squares = math.inf
        else:
            distance = np.abs(a - b)
            largest = float(distance.max(initial=0))
            self.largest = max(self.largest, largest) if math.isfinite(largest) else math.inf
            self._squares += float(np.vdot(distance, distance)) if math.isfinite(largest) else math.inf
        self._count += a.size
        finite = [float(np.abs(value).max(initial=0)) for value in (a, b) if value is not None]
        self.magnitude = max(self.magnitude, *(value for value in finite if math.isfinite(value)), 0.0)

    @property
    def rms(self) -> float:
        return math.sqrt(self._squares / self._count) if self._count else 0.0
