"""A ptychographic scan in this project's conventions, checked once.

Arrays enter through `Scan`. The reader of a file converts to the same conventions and uses the same checks. Code that is
given a `Scan` trusts it.
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
    METADATA_RANGES,
    as_unmasked_array,
    check_pattern_size,
    checked_metadata,
    checked_object,
    checked_positions,
    checked_probe,
    refuse_far_positions,
)
from ptyonnx_runtime.scan.inspection import Inspection, check_declared
from ptyonnx_runtime.scan.zero_frequency import PLACES

__all__ = ["CHUNK", "InspectedPatterns", "Patterns", "Scan", "chunks"]

CHUNK = 256  # patterns in memory at a time, by default
_INSPECTED_BYTES = 2**20  # of patterns that are inspected together: they stay in a core's cache
_REAL_KINDS = "fiu"

# Relative to the median of all patterns with photons. The amplitudes of a frame with a closed shutter, or with only a few
# background counts, are at most a tenth of the usual ones, which no network was trained on. No transmitting sample
# absorbs that much over a whole probe and still yields an image.
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
    """Patterns that their reader has inspected, with the photons that it counted."""

    @property
    def photons(self) -> NDArray[np.float64]:
        """(pattern,): sum(A**2)."""


@dataclass(frozen=True, eq=False, repr=False)
class Scan:
    """Measured patterns, their positions, and metadata.

    Arrays of any real or complex type are converted to the types below, and checked as files are. Declarations about the
    patterns are trusted. Without a declaration, patterns that contradict the default are refused.

    Parameters
    ----------
    diffraction : (pattern, y, x) real
        Measured amplitude, sqrt(photons), unless `values` declares intensities; the zero frequency is at
        ``(N//2, N//2)``, unless `zero_frequency` declares the corner. An array, or anything that can be indexed like
        one, such as a data set in an open HDF5 file, which is read when it is needed.
    positions_px : (pattern, 2) real
        (y, x) in object pixels; the object pixel at a position lies at patch index ``(N//2, N//2)``.
    probe : (mode, y, x) or (y, x) complex, optional
        sqrt(photons).
    object : (y, x) complex, optional
        A reference reconstruction, or the true object; object pixel (i, j) has the coordinate (i, j).
    object_pixel_size_m, photon_energy_eV, detector_distance_m : float, optional
    name : str
        Used in messages and manifests; usually the file's name.
    values : {"amplitude", "intensity"}, optional
        Declares the kind of the patterns. By default they are amplitudes, and refused if they look like intensities.
        The square root of declared intensities is taken.
    zero_frequency : {"centre", "corner"}, optional
        Declares the place of the zero frequency. By default it is in the centre, and patterns that contradict this are
        refused. With the corner, [0, 0], patterns are shifted.

    Attributes
    ----------
    diffraction : (pattern, y, x) float32
        Amplitudes with the zero frequency in the middle: after the conversion, `values` and `zero_frequency` are
        ``"amplitude"`` and ``"centre"``.
    positions_px : (pattern, 2) float64
    probe : (mode, y, x) complex64 or None
    object : (y, x) complex64 or None

    Raises
    ------
    ScanError
        The arrays cannot be a scan, or contradict the declarations; the message names the array.
    SettingsError
        A declaration is not one of the above.
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
        for key in METADATA_RANGES:
            if getattr(self, key) is not None:
                arrays[key] = checked_metadata(getattr(self, key), self.name, key)
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
        """Make a scan from arrays that the caller has checked or computed; they are not inspected.

        Parameters
        ----------
        diffraction : (pattern, y, x) float32
        positions_px : (pattern, 2) float64
        probe : (mode, y, x) complex64, optional
        object : (y, x) complex64, optional
        photons : (pattern,) float64, optional
            If they have been counted already.
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
        """(pattern,) float64: sum(A**2), computed chunk by chunk when it is first needed."""
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

        Dark patterns are used neither in training nor in reconstruction, and not counted in means.
        """
        some = self.photons[self.photons > 0]
        return self.photons > (DARK * np.median(some) if some.size else 0.0)

    @property
    def mean_photons(self) -> float:
        """Mean photons of the patterns that are not dark; 0 if all are dark."""
        lit = self.photons[self.lit]
        return float(lit.mean()) if lit.size else 0.0

    @property
    def darkness(self) -> str | None:
        """A sentence on the number of dark patterns; None if there are none."""
        dark = int(np.count_nonzero(~self.lit))
        return f"{dark} of {len(self)} patterns are dark and left out" if dark else None

    def part(self, members: NDArray[np.int64]) -> Self:
        """Return a scan of some of the patterns, in memory.

        Parameters
        ----------
        members : (n,) int64
            Indices of patterns.
        """
        known = {name: getattr(self, name) for name in _COPIED}
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
        """Set the attributes of the frozen scan, once."""
        for name, value in {**arrays, "values": "amplitude", "zero_frequency": "centre"}.items():
            object.__setattr__(self, name, value)

    def _inspected(self, source: Any, probe: NDArray[np.complex64] | None) -> tuple[Patterns, NDArray[np.float64]]:
        """Convert and inspect all patterns, and count their photons."""
        place = None if self.zero_frequency is None else PLACES[self.zero_frequency]
        conversion = Conversion(intensity=self.values == "intensity", corner=place == "corner")
        inspection = Inspection(
            source.shape, conversion, values=self.values, zero_frequency=self.zero_frequency,
            file=self.name, key="diffraction",
        )  # fmt: skip
        lazy = None if isinstance(source, np.ndarray) else Amplitudes(source, conversion)
        unchanged = lazy is None and source.dtype == np.dtype("=f4") and not any(conversion)
        converted = np.empty(() if lazy or unchanged else source.shape, np.float32)
        itemsize = getattr(getattr(source, "dtype", None), "itemsize", converted.itemsize)
        for part in chunks(source.shape[0], max(1, _INSPECTED_BYTES // (itemsize * source.shape[1] ** 2))):
            amplitudes = inspection.inspect(lazy.stored(part) if lazy else source[part])
            if converted.ndim:
                converted[part] = amplitudes
        photons = inspection.photons(probe)
        inspection.refuse_another_axis()
        return lazy or (source if unchanged else converted), photons


_COPIED = (*METADATA_RANGES, "name")


def _pattern_source(diffraction: Any, name: str) -> Any:
    """Return the patterns unconverted, an array or a lazy source, once their shape and type have been checked."""
    if isinstance(diffraction, np.ma.MaskedArray):
        raise ScanError(
            "a masked array", file=name, key="diffraction", expected="an array of numbers",
            remedy="bad pixels are 0: give diffraction.filled(0)",
        )  # fmt: skip
    readable = hasattr(diffraction, "shape") and hasattr(diffraction, "__getitem__")
    source = diffraction if readable else as_unmasked_array(diffraction, name, "diffraction")
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
