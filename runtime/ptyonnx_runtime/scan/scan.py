"""A ptychographic scan, in this project's conventions, checked once where it enters.

Arrays enter through `Scan`, files through their reader, which converts to these conventions and uses the same checks;
nothing behind them guesses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan.amplitudes import Amplitudes, Conversion
from ptyonnx_runtime.scan.checks import (
    FACTS,
    check_pattern_size,
    checked_fact,
    checked_object,
    checked_positions,
    checked_probe,
    plain_array,
    refuse_far_positions,
)
from ptyonnx_runtime.scan.inspection import Inspection, check_declared
from ptyonnx_runtime.scan.zero_frequency import PLACES

__all__ = ["CHUNK", "InspectedPatterns", "Patterns", "Scan", "chunks"]

CHUNK = 256  # patterns that are in memory at a time, unless told otherwise
_INSPECTED_BYTES = 2**20  # of patterns looked at together: stays in a core's cache
_REAL_KINDS = "fiu"

# Of the median of all patterns with photons. A frame that the shutter cut short, or that holds nothing but a few counts of
# background, has no amplitude that a network knows: a tenth of the usual one, at most. No sample in transmission
# takes away so much of the beam over a whole probe and leaves an image behind.
DARK = 0.01


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
class InspectedPatterns(Patterns, Protocol):
    """Patterns that whoever read them has inspected, and whose photons were counted then."""

    @property
    def photons(self) -> NDArray[np.float64]:
        """(pattern,): sum(A**2)."""


@dataclass(frozen=True, eq=False, repr=False)
class Scan:
    """Measured patterns, where they were taken, and what is known beside them.

    Arrays of any real or complex type are converted to those below, and checked as files are. What is declared about the
    patterns is believed; what is not declared is refused where the numbers say otherwise.

    Parameters
    ----------
    diffraction : (pattern, y, x) real
        Measured amplitude, sqrt(photons), or what `values` says; the zero frequency at ``(N//2, N//2)``, or where
        `zero_frequency` says. An array, or anything that is indexed like one and stays where it is, such as a data
        set in an open HDF5 file.
    positions_px : (pattern, 2) real
        (y, x) in object pixels; the object pixel at a position lies at patch index ``(N//2, N//2)``.
    probe : (mode, y, x) or (y, x) complex, optional
        sqrt(photons).
    object : (y, x) complex, optional
        A reference reconstruction or the truth; object pixel (i, j) has the coordinate (i, j).
    object_pixel_size_m, photon_energy_eV, detector_distance_m : float, optional
    name : str
        For messages and manifests: usually the file's name.
    values : {"amplitude", "intensity"}, optional
        Declares what the patterns are. By default amplitudes, and an error if they look like intensities; declared
        intensities are square-rooted.
    zero_frequency : {"centre", "corner"}, optional
        Where it lies. By default in the centre, and an error if the patterns look otherwise; from the corner,
        [0, 0], patterns are shifted.

    Attributes
    ----------
    diffraction : (pattern, y, x) float32
        Amplitudes with the zero frequency in the middle: `values` and `zero_frequency` are ``"amplitude"`` and
        ``"centre"`` from then on.
    positions_px : (pattern, 2) float64
    probe : (mode, y, x) complex64 or None
    object : (y, x) complex64 or None

    Raises
    ------
    ScanError
        The arrays cannot be a scan, or are something else than was declared; the message names the array.
    SettingsError
        A declaration that does not exist.
    """

    diffraction: Patterns
    positions_px: NDArray[np.float64]
    probe: NDArray[np.complex64] | None = None
    object: NDArray[np.complex64] | None = None
    object_pixel_size_m: float | None = None
    photon_energy_eV: float | None = None
    detector_distance_m: float | None = None
    name: str = "scan"
    values: str | None = field(default=None, kw_only=True)
    zero_frequency: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_declared(self.values, self.zero_frequency)
        source = _pattern_source(self.diffraction, self.name)
        count, N = source.shape[:2]
        arrays: dict[str, Any] = {"positions_px": checked_positions(self.positions_px, count, self.name)}
        if self.probe is not None:
            arrays["probe"] = checked_probe(self.probe, N, self.name)
        if self.object is not None:
            arrays["object"] = checked_object(self.object, self.name)
            refuse_far_positions(arrays["positions_px"], arrays["object"].shape, N, self.name)
        for fact in FACTS:
            if getattr(self, fact) is not None:
                arrays[fact] = checked_fact(getattr(self, fact), self.name, fact)
        if not isinstance(source, InspectedPatterns):
            arrays["diffraction"], arrays["photons"] = self._inspected(source, arrays.get("probe"))
        self._settle(arrays)

    @classmethod
    def trusted(
        cls,
        diffraction: Patterns,
        positions_px: NDArray[np.float64],
        probe: NDArray[np.complex64] | None = None,
        object: NDArray[np.complex64] | None = None,  # noqa: A002 - the attribute's name
        *,
        photons: NDArray[np.float64] | None = None,
        **known: Any,
    ) -> Self:
        """Put together what the caller has checked or made: nothing is looked at.

        Parameters
        ----------
        diffraction : (pattern, y, x) float32
        positions_px : (pattern, 2) float64
        probe : (mode, y, x) complex64, optional
        object : (y, x) complex64, optional
        photons : (pattern,) float64, optional
            Where they were counted already.
        **known
            Further attributes by name.
        """
        scan = cls.__new__(cls)
        arrays = {"diffraction": diffraction, "positions_px": positions_px, "probe": probe, "object": object}
        if photons is not None:
            arrays["photons"] = photons
        scan._settle({**arrays, **known})  # noqa: SLF001 - its own
        return scan

    @property
    def N(self) -> int:
        """Pattern width and height, pixels."""
        return self.diffraction.shape[1]

    def __len__(self) -> int:
        return len(self.diffraction)

    @cached_property
    def photons(self) -> NDArray[np.float64]:
        """(pattern,) float64: sum(A**2), counted chunk by chunk where nobody has."""
        if isinstance(self.diffraction, InspectedPatterns):
            return self.diffraction.photons
        counted = []
        for part in chunks(len(self), CHUNK):
            flat = np.asarray(self.diffraction[part]).reshape(part.stop - part.start, 1, -1)
            counted.append(np.asarray((flat @ flat.transpose(0, 2, 1)).reshape(-1), np.float64))
        return np.concatenate(counted) if counted else np.zeros(0)

    @cached_property
    def lit(self) -> NDArray[np.bool_]:
        """(pattern,) bool: False for dark patterns, which hold less than 1 % of the median photons or none at all.

        They are trained on, reconstructed and counted by nobody.
        """
        some = self.photons[self.photons > 0]
        return self.photons > (DARK * np.median(some) if some.size else 0.0)

    @property
    def mean_photons(self) -> float:
        """Mean photons of the patterns that are not dark; 0 where all are."""
        lit = self.photons[self.lit]
        return float(lit.mean()) if lit.size else 0.0

    @property
    def darkness(self) -> str | None:
        """How many patterns are dark, in words; None where none is."""
        dark = int(np.count_nonzero(~self.lit))
        return f"{dark} of {len(self)} patterns are dark and left out" if dark else None

    def part(self, members: NDArray[np.int64]) -> Self:
        """Some of the patterns, in memory.

        Parameters
        ----------
        members : (n,) int64
            Indices of patterns.
        """
        known = {name: getattr(self, name) for name in _PLAIN}
        return self.trusted(
            self.diffraction[members], self.positions_px[members], self.probe, self.object,
            photons=self.photons[members], **known,
        )  # fmt: skip

    def __repr__(self) -> str:
        extent = np.ptp(self.positions_px, axis=0)
        modes = "no probe" if self.probe is None else f"{len(self.probe)} probe mode(s)"
        dark = "" if self.darkness is None else f"{int(np.count_nonzero(~self.lit))} of them dark, "
        return (
            f"<Scan {self.name}: {len(self)} patterns of {self.N} x {self.N}, {dark}"
            f"field of view {extent[0]:.0f} x {extent[1]:.0f} px, {self.mean_photons:.3g} photons per pattern, {modes}>"
        )

    def _settle(self, arrays: dict[str, Any]) -> None:
        """Set what is known, once."""
        for name, value in {**arrays, "values": "amplitude", "zero_frequency": "centre"}.items():
            object.__setattr__(self, name, value)

    def _inspected(self, source: Any, probe: NDArray[np.complex64] | None) -> tuple[Patterns, NDArray[np.float64]]:
        """Convert patterns, looking at each once; with their photons."""
        place = None if self.zero_frequency is None else PLACES[self.zero_frequency]
        conversion = Conversion(intensity=self.values == "intensity", corner=place == "corner")
        inspection = Inspection(
            source.shape, conversion, values=self.values, zero_frequency=self.zero_frequency,
            file=self.name, key="diffraction",
        )  # fmt: skip
        stays = None if isinstance(source, np.ndarray) else Amplitudes(source, conversion)
        as_it_is = stays is None and source.dtype == np.dtype("=f4") and not any(conversion)
        converted = np.empty(() if stays or as_it_is else source.shape, np.float32)
        itemsize = getattr(getattr(source, "dtype", None), "itemsize", converted.itemsize)
        for part in chunks(source.shape[0], max(1, _INSPECTED_BYTES // (itemsize * source.shape[1] ** 2))):
            amplitudes = inspection.look(stays.stored(part) if stays else source[part])
            if converted.ndim:
                converted[part] = amplitudes
        photons = inspection.photons(probe)
        inspection.refuse_another_axis()
        return stays or (source if as_it_is else converted), photons


_PLAIN = (*FACTS, "name")


def _pattern_source(diffraction: Any, name: str) -> Any:
    """Patterns as they came, an array or what can be read like one, if they have the shape of patterns."""
    if isinstance(diffraction, np.ma.MaskedArray):
        raise ScanError(
            "a masked array", file=name, key="diffraction", expected="an array of numbers",
            remedy="bad pixels are 0: give diffraction.filled(0)",
        )  # fmt: skip
    readable = hasattr(diffraction, "shape") and hasattr(diffraction, "__getitem__")
    source = diffraction if readable else plain_array(diffraction, name, "diffraction")
    shape = tuple(source.shape)
    kind = getattr(getattr(source, "dtype", None), "kind", _REAL_KINDS)
    if kind not in _REAL_KINDS:
        raise ScanError(
            "wrong array", file=name, key="diffraction", found=f"{source.dtype} {shape}",
            expected="real numbers, (pattern, y, x)",
        )  # fmt: skip
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ScanError("wrong shape", file=name, key="diffraction", found=shape, expected="(pattern, N, N)")
    check_pattern_size(shape[1], name)
    if not shape[0]:
        raise ScanError("no patterns", file=name, key="diffraction", found=shape)
    return source


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover range(count)."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
