"""What two bundles make of the same patterns."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.images import Difference, Image, difference
from ptyonnx.comparison.patterns import Patterns, middle
from ptyonnx.comparison.subject import Subject
from ptyonnx_bundles.errors import NotFiniteError
from ptyonnx_runtime.engine import Engine
from ptyonnx_runtime.runner import patches
from ptyonnx_runtime.scan import Scan

__all__ = ["PatchComparison", "compare_patches"]

_NOT_FINITE = Difference(math.inf, math.inf, 1.0, 0.0, 0)


@dataclass(frozen=True)
class PatchComparison:
    """Patches of two bundles from the same patterns; what is no number in one of them is infinitely far off.

    Attributes
    ----------
    source : {"scan", "self-tests"}
        Where the patterns come from.
    patterns : int
        Number of them.
    difference : Difference
        After one complex factor for all patches; of two engines of one function, without any.
    """

    source: str
    patterns: int
    difference: Difference

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**asdict(self), "difference": self.difference.to_dict()}


def compare_patches(
    a: Subject, b: Subject, engines: tuple[Engine, Engine], where: Scan | Patterns, *, free: bool = True
) -> PatchComparison:
    """Run both bundles on the same patterns.

    Parameters
    ----------
    a, b : Subject
        Of one N.
    engines : pair of Engine
        Theirs.
    where : Scan or Patterns
        A scan, of which the middle is taken, or groups of patterns that both take.
    free : bool
        Whether a complex factor is removed, which two networks may choose differently.
    """
    if isinstance(where, Patterns):
        first, second = (engine.run(where.diffraction) for engine in engines)
        return PatchComparison(where.source, where.count, _difference(first, second, free=free))
    part = middle(where)
    try:
        first, second = (_patches(subject, part, engine) for subject, engine in zip((a, b), engines, strict=True))
    except NotFiniteError:
        return PatchComparison("scan", len(part), _NOT_FINITE)
    return PatchComparison("scan", len(part), _difference(first, second, free=free))


def _difference(first: Image, second: Image, *, free: bool) -> Difference:
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return _NOT_FINITE
    return difference(first, second, free=free)


def _patches(subject: Subject, scan: Scan, engine: Engine) -> NDArray[np.complex64]:
    return patches(subject.bundle, scan, provider=subject.provider, engine=subject.given(engine))
