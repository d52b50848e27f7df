"""Signs by which intensities betray themselves where amplitudes are expected.

Nothing is converted here: whoever finds a sign refuses the file and names the option that
declares what it holds. No sign may fire on amplitudes, so each asks for more than coincidence.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_runtime.physics import dft_matrix, intensity, pair_from_complex

__all__ = ["IntensitySigns"]

# More than any detector counts (2**32): such an "amplitude" is an intensity.
_LARGEST_AMPLITUDE = 2.0**16
_MOST_UNITS = 2**16  # beyond so many counts rounding lets a number seem whole: such pixels say nothing
_ROUNDING = 1e-6  # relative: a square of a square root in float32 is 4e-7 off at most
# Values of two units and more: as amplitudes they would be counts of 4, 9, 16 … without one of
# 2 or 3 among them.
_ENOUGH = 16
_SINGLE = 4  # bytes of a float32
_STRIDE = 8  # of patterns whose mean is compared with the probe
_PROBE_FITS, _PROBE_FAILS = 1.5, 4.0  # factors between the photons of patterns and probe
# How much likelier than amplitudes intensities must be beside the probe. Measured on simulated
# scans with phases of up to 12 rad: amplitudes at most 0.013, intensities usually 0.02 to 0.06.
_MARGIN = 0.015
# Intensities of an object of up to 1 rad are at least 0.98 like the probe's far field; amplitudes
# that were scaled apart from the probe reach 0.93 by coincidence.
_ALIKE = 0.95


class IntensitySigns:
    """Watches patterns go by, undeclared, and says at the end whether they are intensities.

    Parameters
    ----------
    first : (n, y, x) real
        The first patterns; :meth:`add` wants them too.
    """

    def __init__(self, first: NDArray[Any]) -> None:
        light = first[first > 0]
        self._units = {1.0: 0, float(light.min()) if light.size else 1.0: 0}  # unit of a count -> values above it
        self._largest = 0.0
        self._patterns = 0
        self._sum = np.zeros(first.shape[1:])
        self._sum_of_squares = np.zeros(first.shape[1:])

    def add(self, values: NDArray[Any]) -> None:
        """Look at some patterns, which are known to be finite and not negative.

        Parameters
        ----------
        values : (n, y, x) real
            As they are stored.
        """
        if values.dtype.kind == "f" and values.dtype.itemsize < _SINGLE:
            values = values.astype(np.float32)  # half precision cannot tell whole numbers from others
        self._largest = max(self._largest, float(values.max()))
        for unit in tuple(self._units):
            if _multiples(values[:1], unit) and _multiples(values, unit):
                self._units[unit] += int(np.count_nonzero((values > 1.5 * unit) & _in_range(values, unit)))
            else:
                del self._units[unit]
        sample = values[::_STRIDE].astype(np.float64)
        self._patterns += len(sample)
        self._sum += sample.sum(axis=0)
        self._sum_of_squares += np.square(sample).sum(axis=0)

    def found(self, probe: NDArray[np.complex64] | None, *, transposed: bool = False) -> str | None:
        """How intensities were recognised, in words; None for amplitudes.

        Parameters
        ----------
        probe : (mode, y, x) complex64 or None
            sqrt(photons), if it can be believed.
        transposed : bool
            The patterns went by as (x, y).
        """
        if self._largest > _LARGEST_AMPLITUDE:
            return f"no detector counts the square of their largest, {self._largest:.6g}"
        for unit, count in self._units.items():
            if count >= _ENOUGH:
                return f"all are whole {'numbers' if unit == 1 else f'multiples of {unit:.6g}'} to {self._largest:.6g}"
        return None if probe is None else self._beside_probe(probe, transposed)

    def _beside_probe(self, probe: NDArray[np.complex64], transposed: bool) -> str | None:
        """The probe says how many photons there are and where; both must speak against amplitudes.

        The number alone could be a coincidence where probe and patterns were scaled apart. An
        object widens the probe's far field; so do square roots.
        """
        photons = float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
        as_intensity, as_amplitude = self._sum / self._patterns, self._sum_of_squares / self._patterns
        counted, squared = float(as_intensity.sum()), float(as_amplitude.sum())
        if _factor(counted, photons) > _PROBE_FITS or _factor(squared, photons) < _PROBE_FAILS:
            return None
        modes = pair_from_complex(probe, np.float64)
        ones = pair_from_complex(np.ones((1, *probe.shape[1:])), np.float64)
        far_field = intensity(ones, modes, dft_matrix(probe.shape[-1], np.float64))[0]
        if transposed:
            far_field = far_field.T
        if _likeness(as_intensity, far_field) < max(_ALIKE, _likeness(as_amplitude, far_field) + _MARGIN):
            return None
        return (
            f"a pattern sums to {counted:.3g}, its squares to {squared:.3g}, and the probe holds {photons:.3g} photons"
        )


def _multiples(values: NDArray[Any], unit: float) -> bool:
    """Whether all values are whole multiples of a unit, as counts are and their square roots are not."""
    if values.dtype.kind in "iu" and unit == 1:
        return True
    units = values[_in_range(values, unit)] / unit
    return bool((np.abs(units - np.rint(units)) <= _ROUNDING * units).all())


def _in_range(values: NDArray[Any], unit: float) -> NDArray[np.bool_]:
    return values <= np.float64(_MOST_UNITS * unit)  # a limit beyond float16 stays a number


def _factor(a: float, b: float) -> float:
    """How many times the larger is the smaller."""
    return max(a, b) / min(a, b) if min(a, b) > 0 else math.inf


def _likeness(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Overlap of two distributions (Bhattacharyya): 1 where they are the same."""
    return float(np.sum(np.sqrt(a / a.sum() * (b / b.sum()))))
