"""What two bundles make of the same patterns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.comparison.images import Difference, difference
from ptyonnx_bundles import Bundle
from ptyonnx_runtime.grouping import nearest
from ptyonnx_runtime.reconstruct import patches
from ptyonnx_runtime.scan import Scan
from ptyonnx_runtime.session import Session

__all__ = ["MOST_PATTERNS", "PatchComparison", "compare_patches"]

MOST_PATTERNS = 512  # so that two sets of patches fit into memory at any N


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


def compare_patches(a: Bundle, b: Bundle, scan: Scan | None, provider: str = "auto") -> PatchComparison | None:
    """Run both bundles on the same patterns.

    Parameters
    ----------
    a, b : Bundle
        Of one N.
    scan : Scan or None
        Without it, the patterns of both self-tests are used.
    provider : str
        See :class:`ptyonnx_runtime.session.Session`.

    Returns
    -------
    PatchComparison or None
        None without a scan where the bundles differ in gridsize: no group of patterns fits both.
    """
    if scan is not None:
        part = _middle(scan)
        first, second = (patches(bundle, part, provider=provider) for bundle in (a, b))
        return PatchComparison("scan", len(part), difference(first, second))
    if a.manifest.physics.gridsize != b.manifest.physics.gridsize:
        return None
    diffraction = np.concatenate([bundle.selftest.diffraction for bundle in (a, b)])
    first, second = (Session(bundle, provider).run(diffraction) for bundle in (a, b))
    return PatchComparison("self-tests", diffraction.shape[0] * diffraction.shape[1], difference(first, second))


def _middle(scan: Scan) -> Scan:
    """At most :data:`MOST_PATTERNS` patterns around the middle of a scan, so that groups stay groups."""
    if len(scan) <= MOST_PATTERNS:
        return scan
    distance = np.abs(scan.positions_px - np.median(scan.positions_px, axis=0)).max(axis=1)
    centre: NDArray[np.int64] = np.array([np.argmin(distance)], np.int64)
    members = np.sort(nearest(scan.positions_px, centre, MOST_PATTERNS)[0])
    return replace(scan, diffraction=scan.diffraction[members], positions_px=scan.positions_px[members])
