"""Positions of a network's patches, and their known pixels, by the conventions in its recipe.

A network of this project predicts one patch for each pattern, with all pixels known. A foreign network may predict one
patch for a whole group of patterns, or only the central part of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle

__all__ = ["CENTRAL_HALF", "GROUP", "conventions", "patch_positions", "patch_weight"]

GROUP = "group"  # a value of `patch_position`: the patch lies at the mean position of its group of patterns
CENTRAL_HALF = "central half"  # a value of `known`: only the central N/2 x N/2 pixels of a patch are known


def conventions(bundle: Bundle) -> Mapping[str, Any]:
    """Conventions of a foreign network; empty for a native one."""
    known: Mapping[str, Any] = getattr(bundle.manifest.recipe, "conventions", {})
    return known


def patch_positions(known: Mapping[str, Any], positions_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions of the patches of groups of patterns.

    Parameters
    ----------
    known : mapping
        From :func:`conventions`.
    positions_px : (group, channel, 2) float64
        (y, x) of the patterns.

    Returns
    -------
    (group, channel, 2) float64
    """
    if known.get("patch_position") != GROUP:
        return positions_px
    return np.broadcast_to(positions_px.mean(axis=1, keepdims=True), positions_px.shape)


def patch_weight(known: Mapping[str, Any], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weight of each patch pixel: that of the probe, and 0 for unknown pixels.

    Parameters
    ----------
    known : mapping
        From :func:`conventions`.
    weight : (N, N) float32
        From :func:`ptyonnx_runtime.stitching.stitching.probe_weight`.

    Returns
    -------
    (N, N) float32
    """
    if known.get("known") != CENTRAL_HALF:
        return weight
    quarter = len(weight) // 4
    middle = slice(quarter, len(weight) - quarter)
    masked = np.zeros_like(weight)
    masked[middle, middle] = weight[middle, middle]
    return masked
