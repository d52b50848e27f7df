"""What two networks make of the same patterns, patch by patch, before anything is stitched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.images import Difference, difference
from ptyonnx.comparison.patterns import Patterns, middle
from ptyonnx_bundles import Bundle
from ptyonnx_runtime.engine import Engine
from ptyonnx_runtime.runner import patches
from ptyonnx_runtime.scan import Scan

__all__ = ["PatchComparison", "compare_patches"]


@dataclass(frozen=True)
class PatchComparison:
    """Patches of two bundles from the same patterns.

    Attributes
    ----------
    passed : bool
        Whether every pixel is a number in both, and no two differ by more than the tolerance.
    sentence : str
    source : {"scan", "self-tests"}
        Where the patterns come from.
    patterns : int
        Number of them.
    free : bool
        Whether one complex factor for all patches was removed, which two networks may choose
        differently; two engines of one function may not.
    not_finite_a, not_finite_b : int
        Pixels that are no numbers.
    difference : Difference
        Infinite where any pixel is no number.
    """

    passed: bool
    sentence: str
    source: str
    patterns: int
    free: bool
    not_finite_a: int
    not_finite_b: int
    difference: Difference

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**vars(self), "difference": self.difference.to_dict()}


def compare_patches(
    engines: tuple[Engine, Engine],
    bundles: tuple[Bundle, Bundle],
    where: Scan | Patterns,
    *,
    tolerance: float,
    free: bool,
) -> PatchComparison:
    """Run two engines on the same patterns.

    Parameters
    ----------
    engines : pair of Engine
    bundles : pair of Bundle
        What they compute.
    where : Scan or Patterns
        A scan, of which the middle is taken, or groups of patterns that both take.
    tolerance : float
        Largest allowed difference of the complex object.
    free : bool
        Whether a complex factor is removed first.
    """
    counting = _Counting(engines[0]), _Counting(engines[1])
    if isinstance(where, Patterns):
        source, count = where.source, where.count
        first, second = (engine.run(where.diffraction) for engine in counting)
    else:
        part = middle(where)
        source, count = "scan", len(part)
        first, second = (patches(bundle, part, engine=engine) for bundle, engine in zip(bundles, counting, strict=True))
    broken_a, broken_b = broken = counting[0].not_finite, counting[1].not_finite
    found = Difference.infinite(first.size) if any(broken) else difference(first, second, free=free)
    passed = found.maximum <= tolerance and not any(broken)
    sentence = _sentence(found, broken, passed, tolerance)
    return PatchComparison(passed, sentence, source, count, free, broken_a, broken_b, found)


def _sentence(found: Difference, broken: tuple[int, int], passed: bool, tolerance: float) -> str:
    where = [f"{count:,} in {letter}" for letter, count in zip("ab", broken, strict=True) if count]
    if where:
        return f"beyond any tolerance: pixels that are no numbers, {' and '.join(where)}"
    verdict = "within" if passed else "beyond"
    return f"{verdict} the tolerance: largest difference {found.maximum:.2g}, allowed {tolerance:.2g}"


class _Counting:
    """An engine whose pixels that are no numbers are counted, and become zero for what follows."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.provider, self.activations = engine.name, engine.provider, engine.activations
        self.not_finite = 0
        self._engine = engine

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        values = self._engine.run(diffraction)
        finite = np.isfinite(values)
        self.not_finite += int(values.size - np.count_nonzero(finite))
        return values if finite.all() else np.where(finite, values, np.complex64(0))
