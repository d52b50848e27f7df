"""The patches that two networks compute from the same patterns, before stitching."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.images import Difference, difference
from ptyonnx.comparison.implementation import Implementation
from ptyonnx.reference.pattern_selection import PatternGroups, middle_of_scan
from ptyonnx_bundles import Bundle
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.runner import patches
from ptyonnx_runtime.scan import Scan
from ptyonnx_runtime.stitching.placement import conventions, patch_weight

__all__ = ["PatchComparison", "compare_patches"]


@dataclass(frozen=True)
class PatchComparison:
    """Patches of two bundles from the same patterns.

    Attributes
    ----------
    passed : bool
        Whether all pixels are finite and none differs by more than the tolerance.
    sentence : str
    source : {"scan", "self-tests"}
        Origin of the patterns.
    patterns : int
        Number of patterns.
    free : bool
        Whether one complex factor, common to all patches, was removed. Two networks may differ by such a factor;
        two engines of one function may not.
    not_finite_a, not_finite_b : int
        Number of non-finite pixels.
    pixels : int
        Number of pixels in all patches. `difference.pixels` of them are compared: those that both networks predict,
        see :func:`ptyonnx_runtime.stitching.placement.patch_weight`.
    difference : Difference
        Infinite where any pixel is non-finite, compared or not.
    """

    passed: bool
    sentence: str
    source: str
    patterns: int
    free: bool
    not_finite_a: int
    not_finite_b: int
    pixels: int
    difference: Difference

    def __repr__(self) -> str:
        return f"<PatchComparison of {self.patterns} patches: {self.sentence}>"

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**vars(self), "difference": self.difference.to_dict()}


def compare_patches(
    a: Implementation,
    b: Implementation,
    engines: tuple[Engine, Engine],
    where: Scan | PatternGroups,
    *,
    tolerance: float,
    free: bool,
) -> PatchComparison:
    """Run two engines on the same patterns.

    Parameters
    ----------
    a, b : Implementation
    engines : pair of Engine
        The engines of A and B.
    where : Scan or PatternGroups
        A scan, from whose centre patterns are taken, or groups of patterns that fit both.
    tolerance : float
        Largest allowed difference of the complex object.
    free : bool
        Whether to remove a complex factor first.
    """
    counting = _Counting(engines[0]), _Counting(engines[1])
    if isinstance(where, PatternGroups):
        source, count = where.source, where.count
        first, second = (engine.run(where.diffraction) for engine in counting)
    else:
        part = middle_of_scan(where)
        source, count = "scan", len(part)
        first, second = (
            patches(each.bundle, part, engine, each.options(engine))
            for each, engine in zip((a, b), counting, strict=True)
        )
    broken_a, broken_b = broken = counting[0].not_finite, counting[1].not_finite
    known = _known((a.bundle, b.bundle), first.shape[-1])
    left, right = first[..., known], second[..., known]
    found = Difference.infinite(left.size) if any(broken) else difference(left, right, free=free)
    passed = found.maximum <= tolerance and not any(broken)
    sentence = _sentence(found, first.size, broken, passed, tolerance)
    return PatchComparison(passed, sentence, source, count, free, broken_a, broken_b, first.size, found)


def _known(bundles: tuple[Bundle, Bundle], N: int) -> NDArray[np.bool_]:
    """(N, N): the pixels of a patch that both networks predict."""
    everywhere = np.ones((N, N), np.float32)
    first, second = (patch_weight(conventions(bundle), everywhere) > 0 for bundle in bundles)
    return np.logical_and(first, second)


def _sentence(found: Difference, pixels: int, broken: tuple[int, int], passed: bool, tolerance: float) -> str:
    where = [f"{count:,} in {letter}" for letter, count in zip("AB", broken, strict=True) if count]
    if where:
        return f"beyond any tolerance: non-finite pixels, {' and '.join(where)}"
    verdict = "within" if passed else "beyond"
    compared = f"{found.pixels:,} pixels compared"
    if found.pixels < pixels:
        compared = f"{found.pixels:,} of {pixels:,} pixels compared: those that both predict"
    return f"{verdict} the tolerance: largest difference {found.maximum:.2g}, allowed {tolerance:.2g}; {compared}"


class _Counting:
    """An engine that counts its non-finite pixels and replaces them by zero."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.provider, self.activations = engine.name, engine.provider, engine.activations
        self.concurrency, self.batch_px, self.close = engine.concurrency, engine.batch_px, engine.close
        self.not_finite = 0
        self._lock = threading.Lock()
        self._engine = engine

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        values = self._engine.run(diffraction)
        finite = np.isfinite(values)
        with self._lock:
            self.not_finite += int(values.size - np.count_nonzero(finite))
        return values if finite.all() else np.where(finite, values, np.complex64(0))
