"""Which patterns enter the network together: groups for inference and training, regions for training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError

__all__ = ["groups_covering", "nearest"]


def nearest(positions_px: NDArray[np.float64], seeds: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The `count` patterns nearest to each seed pattern, the seed itself first.

    Parameters
    ----------
    positions_px : (pattern, 2) float64
    seeds : (seed,) int64
        Indices of patterns.
    count : int
        At most the number of patterns.

    Returns
    -------
    (seed, count) int64
    """
    from scipy.spatial import KDTree  # a quarter of a second that gridsize 1 does not need

    _, index = KDTree(positions_px).query(positions_px[seeds], k=[*range(1, count + 1)])
    members = np.asarray(index, np.int64)
    # Of two patterns at the same position, the tree may return the other one first.
    for row, seed in zip(members, seeds, strict=True):
        where = np.flatnonzero(row == seed)
        row[where[0] if where.size else -1] = row[0]
        row[0] = seed
    return members


def groups_covering(positions_px: NDArray[np.float64], channels: int, name: str = "scan") -> NDArray[np.int64]:
    """Groups of neighbouring patterns; every pattern belongs to at least one.

    Groups depend on the positions alone: the same scan always gives the same groups.

    Parameters
    ----------
    positions_px : (pattern, 2) float64
    channels : int
        Patterns per group, C = gridsize squared.
    name : str
        Named in errors.

    Returns
    -------
    (group, channel) int64
        Indices of patterns. For one channel: every pattern once, in order.

    Raises
    ------
    ScanError
        Fewer patterns than a group needs.
    """
    count = len(positions_px)
    if count < channels:
        raise ScanError(
            "too few patterns for one group", file=name, key="diffraction", found=count,
            expected=f"at least {channels} (gridsize squared)",
            remedy="use a bundle or setting with a smaller gridsize",
        )  # fmt: skip
    if channels == 1:
        return np.arange(count, dtype=np.int64)[:, np.newaxis]
    members = nearest(positions_px, np.arange(count, dtype=np.int64), channels)
    covered = np.zeros(count, bool)
    chosen = []
    for seed in range(count):
        if not covered[seed]:
            chosen.append(seed)
            covered[members[seed]] = True
    return members[chosen]
