"""What two bundles make of the same patterns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.images import Difference, difference
from ptyonnx.comparison.patterns import Patterns, middle
from ptyonnx.comparison.subject import Subject
from ptyonnx_runtime.engine import Engine
from ptyonnx_runtime.runner import patches
from ptyonnx_runtime.scan import Scan

__all__ = ["PatchComparison", "compare_patches"]


@dataclass(frozen=True)
class PatchComparison:
    """Patches of two bundles from the same patterns.

    Attributes
    ----------
    source : {"scan", "self-tests"}
        Where the patterns come from.
    patterns : int
        Number of them.
    difference : Difference
        After one complex factor for all patches.
    """

    source: str
    patterns: int
    difference: Difference

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return asdict(self)


def compare_patches(a: Subject, b: Subject, engines: tuple[Engine, Engine], where: Scan | Patterns) -> PatchComparison:
    """Run both bundles on the same patterns.

    Parameters
    ----------
    a, b : Subject
        Of one N.
    engines : pair of Engine
        Theirs.
    where : Scan or Patterns
        A scan, of which the middle is taken, or groups of patterns that both take.
    """
    if isinstance(where, Patterns):
        first, second = (engine.run(where.diffraction) for engine in engines)
        return PatchComparison(where.source, where.count, difference(first, second))
    part = middle(where)
    first, second = (_patches(subject, part, engine) for subject, engine in zip((a, b), engines, strict=True))
    return PatchComparison("scan", len(part), difference(first, second))


def _patches(subject: Subject, scan: Scan, engine: Engine) -> NDArray[np.complex64]:
    return patches(subject.bundle, scan, provider=subject.provider, engine=subject.given(engine))
