"""Positions of a simulated scan: raster, Fermat spiral or random."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ptyonnx.simulation.ranges import checked_count, checked_number, checked_seed
from ptyonnx_bundles.errors import ObjectError, ScanError, SettingsError

__all__ = ["KINDS", "Kind", "overlap_step", "scan_positions"]

Kind = Literal["raster", "fermat", "random"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_GOLDEN_ANGLE_rad = math.pi * (3 - math.sqrt(5))
_MOST_POSITIONS = 10_000_000
_SHRINK = 0.98  # factor of the step, applied until enough positions fit


def overlap_step(probe: NDArray[np.complexfloating[Any, Any]], overlap: float) -> float:
    """The step between positions at which neighbouring illuminations overlap by a given fraction.

    The probe's diameter is that of a uniform disc with the same participation area
    ``(sum I)**2 / sum I**2``; the overlap is the linear one, ``1 - step / diameter``.

    Parameters
    ----------
    probe : (mode, y, x) complex
    overlap : float
        From 0 to 0.99.

    Returns
    -------
    float
        Pixels.
    """
    checked_number(overlap, "overlap", low=0, high=0.99)
    illumination = np.sum(np.abs(probe) ** 2, axis=0)
    area = float(illumination.sum() ** 2 / np.sum(illumination**2))
    return (1 - overlap) * 2 * math.sqrt(area / math.pi)


def scan_positions(
    kind: Kind,
    object_shape: tuple[int, int],
    N: int,
    *,
    step_px: float | None = None,
    count: int | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Positions of a scan, such that every patch lies within the object.

    Parameters
    ----------
    kind : {"raster", "fermat", "random"}
        Rows, a Fermat spiral about the centre [Huang et al., Opt. Express 22 (2014)], or uniformly distributed.
    object_shape : pair of int
    N : int
        Width and height of a patch, pixels.
    step_px : float, optional
        Distance of neighbours; for fermat and random, the square root of the area per position. By default, `count`
        positions fill the object.
    count : int, optional
        Number of positions; by default, as many as the step allows.
    seed : int
        Of random positions; 0 or more.

    Returns
    -------
    (pattern, 2) float64
        (y, x), pixels.

    Raises
    ------
    ObjectError
        The object is no larger than the probe.
    ScanError
        Fewer positions fit than requested.
    SettingsError
        Neither step nor count is given, or a number is out of range.
    """
    area = (object_shape[0] - N, object_shape[1] - N)
    if min(area) < 1:
        raise ObjectError(
            "the object is too small for a scan", found=object_shape, expected=f"more than {N} pixels along each axis"
        )
    if kind not in KINDS:
        raise SettingsError("no such scan pattern", key="positions", found=kind, expected=", ".join(KINDS))
    if step_px is None and count is None:
        raise SettingsError("missing", key="step_px, count", remedy="give one of them, or both")
    seed = checked_seed(seed)
    if count is not None:
        count = checked_count(count, "count", high=_MOST_POSITIONS)
    if step_px is not None:
        smallest = math.sqrt((area[0] + 1) * (area[1] + 1) / _MOST_POSITIONS)
        step_px = checked_number(step_px, "step_px", low=smallest, high=1e9)
    points = _filled(kind, area, count or 1, seed) if step_px is None else _points(kind, area, step_px, count, seed)
    if count is not None and len(points) < count:
        raise ScanError(
            "not enough positions fit into the object", key="count", found=count, expected=f"at most {len(points)}",
            remedy="use a smaller step or a larger object",
        )  # fmt: skip
    return points[:count] + np.array(object_shape) / 2


def _filled(kind: Kind, area: tuple[int, int], count: int, seed: int) -> NDArray[np.float64]:
    """At least `count` points that fill the area."""
    step = math.sqrt((area[0] + 1) * (area[1] + 1) / count) * 2
    while len(points := _points(kind, area, step, count, seed)) < count:
        step *= _SHRINK
    return points


def _points(kind: Kind, area: tuple[int, int], step: float, count: int | None, seed: int) -> NDArray[np.float64]:
    """Points about the centre of the area."""
    if kind == "raster":
        y, x = ((np.arange(size // step + 1) - size // step / 2) * step for size in area)
        return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    if kind == "random":
        number = count or max(1, round(area[0] * area[1] / step**2))
        return np.random.default_rng(seed).uniform(-0.5, 0.5, (number, 2)) * area
    radius_of_one = step / math.sqrt(math.pi)  # one point for every step**2
    number = math.ceil((math.hypot(*area) / 2 / radius_of_one) ** 2) + 1
    index = np.arange(number)
    radius, angle = radius_of_one * np.sqrt(index), _GOLDEN_ANGLE_rad * index
    points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=-1)
    inside: NDArray[np.float64] = points[(np.abs(points) <= np.array(area) / 2).all(axis=1)]
    return inside
