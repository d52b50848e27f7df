"""Batches of overlapping patterns, drawn with NumPy, so that both frameworks train on the same ones.

A batch contains one or more *regions*: neighbouring patterns whose patches must agree on the object.
A region consists of groups of C = gridsize^2 patterns, which enter the network as channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx.settings import Settings
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.grouping import nearest

__all__ = ["Batch", "Regions"]

_CANDIDATES_PER_MEMBER = 2  # members of a region are drawn from the 2 x region_size nearest patterns


class Batch(NamedTuple):
    """The data of one optimiser step, float32.

    Attributes
    ----------
    diffraction : (group, channel, N, N)
        Amplitude. Groups of all regions, region by region.
    offset_px : (region, pattern, 2)
        (y, x) of each patch's first pixel on its region's canvas.
    """

    diffraction: NDArray[np.float32]
    offset_px: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Regions:
    """Patterns of a scan, from which regions are drawn.

    Attributes
    ----------
    diffraction : (stored, N, N) float32, amplitude
        Training and validation share this array.
    positions_px : (pattern, 2) float64
    settings : Settings
    name : str
        Of the scan, for errors.
    members : (pattern,) int64, optional
        Indices of these patterns among the stored ones; by default all.
    scale : float
        Factor that multiplies the amplitudes.
    """

    diffraction: NDArray[np.float32]
    positions_px: NDArray[np.float64]
    settings: Settings
    name: str = "scan"
    members: NDArray[np.int64] | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self) < self.settings.channels:
            raise ScanError(
                "too few patterns for one group", file=self.name, key="diffraction", found=len(self),
                expected=f"at least {self.settings.channels} (gridsize squared)",
                remedy="use a smaller gridsize or more patterns",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.positions_px)

    def patterns(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scaled amplitudes.

        Parameters
        ----------
        index : (…,) int64

        Returns
        -------
        (…, N, N) float32
        """
        chosen = self.diffraction[index if self.members is None else self.members[index]]
        return chosen if self.scale == 1 else chosen * np.float32(self.scale)

    @property
    def N(self) -> int:
        """Pattern width and height, pixels."""
        return int(self.diffraction.shape[1])

    @property
    def groups_per_region(self) -> int:
        """Groups in each region: as in the settings, or fewer if the scan is small."""
        most = len(self) // self.settings.channels
        return max(1, min(self.settings.groups_per_region, most))

    @property
    def regions_per_epoch(self) -> int:
        """Regions per epoch, so that every pattern occurs once on average, or `n_groups` groups do."""
        groups = self.settings.n_groups or len(self) / self.settings.channels
        return max(1, round(groups / self.groups_per_region))

    @property
    def batch_size(self) -> int:
        """Regions per step."""
        return min(self.settings.batch_size, self.regions_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch; an incomplete last batch is left out."""
        return self.regions_per_epoch // self.batch_size

    @cached_property
    def _region_candidates(self) -> NDArray[np.int64]:
        """(pattern, candidate): the nearest patterns, the pattern itself first; none farther than N."""
        count = min(
            len(self.positions_px), max(1, _CANDIDATES_PER_MEMBER * self.groups_per_region * self.settings.channels)
        )
        return self._within_reach(count)

    @cached_property
    def _group_candidates(self) -> NDArray[np.int64]:
        """(pattern, candidate): the patterns from which the other channels of a group are drawn."""
        wanted = self.settings.neighbor_count or max(7, 2 * self.settings.channels)
        count = min(len(self.positions_px), max(wanted + 1, self.settings.channels))
        return self._within_reach(count)

    def _within_reach(self, count: int) -> NDArray[np.int64]:
        """Nearest patterns of each pattern; those farther away than a patch are replaced by the pattern itself."""
        every = np.arange(len(self.positions_px), dtype=np.int64)
        members = nearest(self.positions_px, every, count)
        distance = np.abs(self.positions_px[members] - self.positions_px[:, np.newaxis]).max(axis=-1)
        return np.where(distance <= self.N, members, every[:, np.newaxis])

    @cached_property
    def canvas(self) -> int:
        """Pixels along one side of a canvas that any region fits into. It is static, so that graphs are compiled once."""
        members = self._region_candidates
        if self.settings.channels > 1:
            members = self._group_candidates[members].reshape(len(members), -1)
        if self.groups_per_region * self.settings.channels == 1:
            return self.N
        extent = np.ptp(self.positions_px[members], axis=1).max()
        return self.N + math.ceil(float(extent)) + 1

    def monitored_groups(self, most: int) -> NDArray[np.float32]:
        """Up to `most` groups spread evenly over the scan, on which the spread of the network's output is monitored.

        Returns
        -------
        (group, channel, N, N) float32
        """
        seeds = np.unique(np.linspace(0, len(self) - 1, most).round().astype(np.int64))
        return self.patterns(self._group_candidates[seeds, : self.settings.channels])

    def epoch(self, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Draw the batches of one epoch as indices of patterns; they depend only on the seed and the epoch's number.

        Returns
        -------
        list of (region, group, channel) int64
        """
        generator = np.random.default_rng([seed, epoch])
        wanted = self.steps_per_epoch * self.batch_size
        rounds = math.ceil(wanted / len(self))
        seeds = np.concatenate([generator.permutation(len(self)) for _ in range(rounds)])[:wanted]
        first = _draw(generator, self._region_candidates[seeds], self.groups_per_region)
        groups = _draw(generator, self._group_candidates[first.reshape(-1)], self.settings.channels)
        members = groups.reshape(self.steps_per_epoch, self.batch_size, self.groups_per_region, self.settings.channels)
        return list(members)

    def batch(self, members: NDArray[np.int64]) -> Batch:
        """Collect the patterns and offsets of one batch.

        Parameters
        ----------
        members : (region, group, channel) int64
        """
        regions, _, channels = members.shape
        flat = members.reshape(regions, -1)
        positions = self.positions_px[flat]
        offset = positions - positions.min(axis=1, keepdims=True)
        return Batch(self.patterns(members.reshape(-1, channels)), offset.astype(np.float32))


def _draw(generator: np.random.Generator, candidates: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Draw the first candidate of each row and `count - 1` random others, without repetition."""
    others = generator.permuted(candidates[:, 1:], axis=1)[:, : count - 1]
    return np.concatenate([candidates[:, :1], others], axis=1)
