"""A ptychographic scan, in this project's conventions, checked once where it enters.

Readers (one per file format) convert to these conventions; nothing behind them guesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError

__all__ = ["CHUNK", "CountedPatterns", "Patterns", "Scan", "check_pattern_size", "chunks"]

CHUNK = 256  # patterns that are in memory at a time, unless told otherwise
SMALLEST_N = 32


class Patterns(Protocol):
    """Diffraction patterns that can be read a few at a time: an array, or a file.

    Indexing with a slice or an array of indices returns float32 ``(pattern, y, x)``.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(pattern, y, x)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.float32]: ...


@runtime_checkable
class CountedPatterns(Patterns, Protocol):
    """Patterns whose photons were counted when they were read."""

    @property
    def mean_photons(self) -> float:
        """Mean of sum(A**2)."""


@dataclass(frozen=True, eq=False, repr=False)
class Scan:
    """Measured patterns, where they were taken, and what is known beside them.

    Attributes
    ----------
    diffraction : (pattern, y, x) float32
        Measured amplitude, sqrt(photons); zero frequency at ``(N//2, N//2)``.
    positions_px : (pattern, 2) float64
        (y, x) in object pixels; the object pixel at a position lies at patch index ``(N//2, N//2)``.
    probe : (mode, y, x) complex64 or None
        sqrt(photons).
    object : (y, x) complex64 or None
        A reference reconstruction or the truth; object pixel (i, j) has the coordinate (i, j).
    object_pixel_size_m, photon_energy_eV, detector_distance_m : float or None
    name : str
        For messages and manifests: usually the file's name.
    """

    diffraction: Patterns
    positions_px: NDArray[np.float64]
    probe: NDArray[np.complex64] | None = None
    object: NDArray[np.complex64] | None = None
    object_pixel_size_m: float | None = None
    photon_energy_eV: float | None = None
    detector_distance_m: float | None = None
    name: str = "scan"

    def __post_init__(self) -> None:
        shape = self.diffraction.shape
        if len(shape) != 3 or shape[1] != shape[2]:
            raise ScanError("wrong shape", file=self.name, key="diffraction", found=shape, expected="(pattern, N, N)")
        check_pattern_size(shape[1], self.name)
        if self.positions_px.shape != (shape[0], 2):
            raise ScanError(
                "positions and patterns differ in number", file=self.name, key="positions",
                found=f"positions {self.positions_px.shape} for {shape[0]} patterns",
                expected=f"({shape[0]}, 2)",
            )  # fmt: skip
        if not np.isfinite(self.positions_px).all():
            raise ScanError("NaN or infinity", file=self.name, key="positions")
        if shape[0] > 1 and not np.ptp(self.positions_px, axis=0).any():
            raise ScanError(
                "all positions are equal", file=self.name, key="positions",
                remedy="ptychography needs a scan; check which arrays hold the positions",
            )  # fmt: skip
        if self.probe is not None:
            self._check_probe(self.probe, shape[1])

    def _check_probe(self, probe: NDArray[np.complex64], N: int) -> None:
        if probe.ndim != 3 or probe.shape[1:] != (N, N):
            raise ScanError("wrong shape", file=self.name, key="probe", found=probe.shape, expected=f"(mode, {N}, {N})")
        if not np.isfinite(probe).all():
            raise ScanError("NaN or infinity", file=self.name, key="probe")
        if not np.any(probe):
            raise ScanError("the probe is zero everywhere", file=self.name, key="probe")

    @property
    def N(self) -> int:
        """Pattern width and height, pixels."""
        return self.diffraction.shape[1]

    def __len__(self) -> int:
        return len(self.diffraction)

    @cached_property
    def mean_photons(self) -> float:
        """Mean photons per pattern: mean of sum(A**2), computed chunk by chunk where nobody has."""
        if isinstance(self.diffraction, CountedPatterns):
            return self.diffraction.mean_photons
        total = 0.0
        for part in chunks(len(self), CHUNK):
            block = self.diffraction[part]
            total += float(np.vdot(block, block))
        return total / len(self)

    def __repr__(self) -> str:
        extent = np.ptp(self.positions_px, axis=0)
        modes = "no probe" if self.probe is None else f"{len(self.probe)} probe mode(s)"
        return (
            f"<Scan {self.name}: {len(self)} patterns of {self.N} x {self.N}, "
            f"field of view {extent[0]:.0f} x {extent[1]:.0f} px, {self.mean_photons:.3g} photons per pattern, {modes}>"
        )


def check_pattern_size(N: int, file: str, key: str = "diffraction") -> None:
    """Refuse patterns that no network takes.

    Raises
    ------
    ScanError
        N is odd, or too small.
    """
    if N % 2 or N < SMALLEST_N:
        raise ScanError(
            "unusable pattern size", file=file, key=key, found=f"N = {N}",
            expected=f"an even number of at least {SMALLEST_N} pixels",
            remedy="crop or pad the patterns around the zero frequency",
        )  # fmt: skip


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover range(count)."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
