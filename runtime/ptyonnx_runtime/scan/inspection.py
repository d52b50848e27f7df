"""Inspect measured patterns once, as they are stored, before they are used.

The reader of a file, or `Scan` itself, passes every chunk to :meth:`Inspection.inspect` and calls :meth:`Inspection.photons`
at the end. Declarations are trusted. Without a declaration, patterns that contradict the default are refused. Nothing is
converted silently.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_runtime.scan.amplitudes import Conversion
from ptyonnx_runtime.scan.bad_pixel_marks import Marks
from ptyonnx_runtime.scan.intensity_signs import IntensitySigns
from ptyonnx_runtime.scan.pattern_axis import pattern_axis
from ptyonnx_runtime.scan.zero_frequency import PLACES, looks_like_the_corner

__all__ = ["Inspection", "check_declared"]

VALUES = ("amplitude", "intensity")
_REAL_KINDS = "fiu"
_MOST_PHOTONS = 2.0**64  # in a pattern: more than any detector counts, and its square still fits into float32

_logger = logging.getLogger(__name__)


def check_declared(values: str | None, zero_frequency: str | None) -> None:
    """Refuse declarations that do not exist.

    Raises
    ------
    SettingsError
    """
    if values not in (None, *VALUES):
        raise SettingsError("unknown kind of values", key="values", found=values, expected="amplitude or intensity")
    if zero_frequency is not None and zero_frequency not in PLACES:
        raise SettingsError("unknown place", key="zero_frequency", found=zero_frequency, expected="centre or corner")


class Inspection:
    """Properties of the patterns of a scan, collected chunk by chunk.

    Parameters
    ----------
    shape : (int, int, int)
        (pattern, y, x), as they are stored.
    conversion : Conversion
    values, zero_frequency : str or None
        As declared, see :class:`ptyonnx_runtime.scan.Scan`.
    file, key : str
        Named in errors.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        conversion: Conversion,
        *,
        values: str | None,
        zero_frequency: str | None,
        file: str,
        key: str,
    ) -> None:
        self._conversion = conversion
        self._values, self._place = values, zero_frequency
        self._file, self._key = file, key
        self._marks: Marks | None = None
        self._signs: IntensitySigns | None = None
        self._corner: str | None = None  # why the zero frequency seems to be there
        self._photons: list[NDArray[np.float64]] = []
        self._rows: list[NDArray[np.float64]] | None = None
        if len(set(shape)) == 1 and not conversion.transposed:
            self._rows = [np.zeros(shape[1]), np.zeros(shape[2])]

    def inspect(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Inspect and convert the next patterns.

        Parameters
        ----------
        stored : (n, y, x) real
            At least one.

        Returns
        -------
        (n, y, x) float32
            Their amplitudes.

        Raises
        ------
        ScanError
            The numbers are not real; or some are NaN, infinite or negative.
        """
        if stored.dtype.kind not in _REAL_KINDS:
            raise ScanError(
                "wrong array", file=self._file, key=self._key, found=f"{stored.dtype}", expected="real numbers"
            )
        low, high = stored.min(), stored.max()
        if not (low >= 0 and high < np.inf):
            raise self._bad_value(stored)
        self._marks = self._marks or Marks(stored.dtype, stored.shape[1:])
        self._marks.add(stored, high)
        if self._values is None:
            self._signs = self._signs or IntensitySigns(stored)
            self._signs.add(stored)
        with np.errstate(over="ignore"):  # infinite photons are refused at the end
            amplitudes = self._conversion(stored)
        if not self._photons and self._place is None:
            self._corner = looks_like_the_corner(amplitudes)
        flat = amplitudes.reshape(len(stored), 1, -1)
        with np.errstate(over="ignore"):
            self._photons.append(np.asarray((flat @ flat.transpose(0, 2, 1)).reshape(-1), np.float64))
        if self._rows is not None:
            squares = np.square(amplitudes, dtype=np.float64).sum(axis=0)
            self._rows = [self._rows[0] + squares.sum(axis=1), self._rows[1] + squares.sum(axis=0)]
        return amplitudes

    def photons(self, probe: NDArray[np.complex64] | None) -> NDArray[np.float64]:
        """Judge all patterns, at the end, and return their photons.

        Parameters
        ----------
        probe : (mode, y, x) complex64 or None
            sqrt(photons); predicts how many photons are to be expected, and where.

        Returns
        -------
        (pattern,) float64
            Photons of every pattern: sum(A**2).

        Raises
        ------
        ScanError
            Marks of bad pixels; no light, or more than any detector counts; without a declaration, a zero frequency that
            seems to be in the corner, or patterns that look like intensities.
        """
        self._refuse_marks()
        photons = np.concatenate(self._photons)
        if not photons.any():
            raise ScanError(
                "the patterns are zero everywhere", file=self._file, key=self._key,
                remedy="check which array holds the measurement",
            )  # fmt: skip
        self._refuse_corner()
        self._refuse_intensities(probe)
        self._refuse_too_many_photons(photons)
        return photons

    def refuse_another_axis(self) -> None:
        """Refuse a cube whose intensities show that the patterns lie along another axis than the first.

        Raises
        ------
        ScanError
        """
        if self._rows is None:
            return
        axis = pattern_axis([np.concatenate(self._photons), *self._rows])
        if axis:
            raise ScanError(
                f"the patterns seem to lie along axis {axis} of a cube", file=self._file, key=self._key,
                expected="(pattern, y, x)", remedy="move that axis to the front: numpy.moveaxis(…, -1, 0)",
            )  # fmt: skip

    def _place_of(self, y: int, x: int) -> tuple[int, int]:
        """Coordinates of a pixel in the file's own (y, x)."""
        return (x, y) if self._conversion.transposed else (y, x)

    def _bad_value(self, stored: NDArray[Any]) -> ScanError:
        bad = ~(np.isfinite(stored) & (stored >= 0))
        pattern, y, x = (int(index) for index in np.argwhere(bad)[0])
        value = stored[pattern, y, x]
        negative = bool(value < 0) and bool(np.isfinite(value))
        before = sum(len(photons) for photons in self._photons)
        return ScanError(
            "negative values" if negative else "NaN or infinity", file=self._file, key=self._key,
            found=f"{value} in pattern {before + pattern} at (y, x) = {self._place_of(y, x)}",
            remedy="amplitudes and counts are not negative: set bad pixels to 0, and clip at 0 after background subtraction"
            if negative else "set bad pixels to 0",
        )  # fmt: skip

    def _refuse_marks(self) -> None:
        assert self._marks is not None, "there are patterns"
        saturated, mark = self._marks.saturated(), self._marks.bad_pixels()
        if saturated is not None and mark is None:
            y, x = self._place_of(saturated.y, saturated.x)
            _logger.warning(
                "%s: pixels saturate, %s; the photons that they did not count are missing in the object",
                self._file,
                saturated._replace(y=y, x=x),
            )
        if mark is not None:
            y, x = self._place_of(mark.y, mark.x)
            raise ScanError(
                "the largest number of an integer type: a mark of bad or saturated pixels",
                file=self._file, key=self._key, found=mark._replace(y=y, x=x), expected="counts",
                remedy="set these pixels to 0 in every pattern; counts of saturated pixels are lost",
            )  # fmt: skip

    def _refuse_too_many_photons(self, photons: NDArray[np.float64]) -> None:
        if not photons.max() <= _MOST_PHOTONS:
            raise ScanError(
                "too many photons", file=self._file, key=self._key,
                found=f"{photons.max():.3g} photons in pattern {int(np.argmax(photons))}",
                expected=f"at most {_MOST_PHOTONS:.3g}",
                remedy="set marks of bad pixels to 0, and check unit and kind of the numbers: amplitude is sqrt(photons)",
            )  # fmt: skip

    def _refuse_intensities(self, probe: NDArray[np.complex64] | None) -> None:
        reason = self._signs and self._signs.reason(probe, transposed=self._conversion.transposed)
        if reason:
            raise ScanError(
                f"these look like intensities, not amplitudes ({reason})",
                file=self._file, key=self._key, expected="amplitude, sqrt(counts)",
                remedy='declare them: values="intensity" (their square root is then taken), or values="amplitude"',
            )  # fmt: skip

    def _refuse_corner(self) -> None:
        if self._corner:
            raise ScanError(
                f"the zero frequency seems to be in the corner ({self._corner})", file=self._file, key=self._key,
                expected="the middle, [N//2, N//2]",
                remedy='declare it: zero_frequency="corner" (the patterns are then shifted), or zero_frequency="centre"',
            )  # fmt: skip
