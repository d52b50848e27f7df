"""Select the patterns for a comparison: a few from the centre of a scan, or those of the self-tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_runtime.flux import match_flux
from ptyonnx_runtime.grouping import groups_covering, nearest
from ptyonnx_runtime.scan import Scan

__all__ = ["MOST_PATTERNS", "PatternGroups", "middle_of_scan", "patterns_of_scan", "patterns_of_selftests"]

MOST_PATTERNS = 128  # two sets of patches fit into memory at any N and take a second or two
_LAYERED_PX = 32 * 64 * 64  # total pixels of the patterns whose activations are compared
_FEWEST = 4


@dataclass(frozen=True, eq=False)
class PatternGroups:
    """Groups of patterns in the input shape of a network.

    Attributes
    ----------
    source : {"scan", "self-tests"}
    diffraction : (group, channel, N, N) float32
        Amplitude, at the photon scale of the bundles.
    """

    source: str
    diffraction: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Number of patterns."""
        return int(self.diffraction.shape[0] * self.diffraction.shape[1])


def patterns_of_selftests(*bundles: Bundle) -> PatternGroups:
    """The patterns of all self-tests; the bundles must have the same N and gridsize."""
    return PatternGroups("self-tests", np.concatenate([bundle.selftest.diffraction for bundle in bundles]))


def patterns_of_scan(bundle: Bundle, scan: Scan) -> PatternGroups:
    """Groups from the centre of a scan: a few dozen patterns at N = 64, fewer at larger N.

    The patterns are scaled to the photons of `bundle`, as in reconstruction.
    """
    channels = bundle.manifest.recipe.channels
    wanted = max(_FEWEST, _LAYERED_PX // scan.N**2)
    part = middle_of_scan(scan, max(wanted, channels))
    groups = groups_covering(part.positions_px, channels, scan.name)[: max(1, wanted // channels)]
    diffraction = part.diffraction[groups.ravel()].reshape(*groups.shape, scan.N, scan.N)
    return PatternGroups("scan", diffraction * np.float32(match_flux(bundle, scan).scale))


def middle_of_scan(scan: Scan, most: int = MOST_PATTERNS) -> Scan:
    """At most `most` neighbouring patterns from the centre of a scan, without dark ones."""
    lit = np.flatnonzero(scan.lit)
    if len(lit) <= most:
        return scan if len(lit) == len(scan) else scan.part(lit)
    positions_px = scan.positions_px[lit]
    distance = np.abs(positions_px - np.median(positions_px, axis=0)).max(axis=1)
    centre: NDArray[np.int64] = np.array([np.argmin(distance)], np.int64)
    return scan.part(lit[np.sort(nearest(positions_px, centre, most)[0])])
