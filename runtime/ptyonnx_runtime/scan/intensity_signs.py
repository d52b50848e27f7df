"""Recognise intensities where amplitudes are expected.

Nothing is converted here. The caller refuses the patterns and names the option that declares their kind. Amplitudes must
never be mistaken for intensities, so each criterion is strict.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_runtime.physics import dft_matrix, intensity, pair_from_complex

__all__ = ["IntensitySigns"]

# Its square is 2**32, more than any detector counts: a larger "amplitude" is an intensity.
_LARGEST_AMPLITUDE = 2.0**16
_MOST_UNITS = 2**16  # larger counts are left out, as rounding makes any large number look whole
_ROUNDING = 1e-6  # relative: the square of a square root in float32 is wrong by 4e-7 at most
# Number of values of at least two units. Whole amplitudes would be square roots of counts of 4, 9, 16 …, without any 2 or 3.
_ENOUGH = 16
_SINGLE = 4  # bytes of a float32
_STRIDE = 8  # of patterns whose mean is compared with the probe
_PROBE_FITS, _PROBE_FAILS = 1.5, 4.0  # factors between the photons of patterns and probe
# By how much the similarity with the probe's far field must be larger for intensities than for amplitudes. Measured on
# simulated scans with phases of up to 12 rad: at most 0.013 for amplitudes, usually 0.02 to 0.06 for intensities.
_MARGIN = 0.015
# Intensities of an object of up to 1 rad have a similarity of at least 0.98; amplitudes whose scale is not that of the probe
# reach 0.93 by coincidence.
_LEAST_SIMILARITY = 0.95


class IntensitySigns:
    """Collects properties of undeclared patterns, and decides at the end whether they are intensities.

    Parameters
    ----------
    first : (n, y, x) real
        The first patterns, which have to be passed to :meth:`add` as well.
    """

    def __init__(self, first: NDArray[Any]) -> None:
        light = first[first > 0]
        self._units = {1.0: 0, float(light.min()) if light.size else 1.0: 0}  # unit of a count -> values above it
        self._largest = 0.0
        self._patterns = 0
        self._sum = np.zeros(first.shape[1:])
        self._sum_of_squares = np.zeros(first.shape[1:])

    def add(self, values: NDArray[Any]) -> None:
        """Add some patterns, which must be finite and not negative.

        Parameters
        ----------
        values : (n, y, x) real
            As they are stored.
        """
        if values.dtype.kind == "f" and values.dtype.itemsize < _SINGLE:
            values = values.astype(np.float32)  # large numbers in half precision are always whole
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

    def reason(self, probe: NDArray[np.complex64] | None, *, transposed: bool = False) -> str | None:
        """Say why the patterns are taken for intensities; None for amplitudes.

        Parameters
        ----------
        probe : (mode, y, x) complex64 or None
            sqrt(photons), if its scale is known.
        transposed : bool
            Patterns were added as (x, y).
        """
        if self._largest > _LARGEST_AMPLITUDE:
            return f"no detector counts the square of their largest, {self._largest:.6g}"
        for unit, count in self._units.items():
            if count >= _ENOUGH:
                return f"all are whole {'numbers' if unit == 1 else f'multiples of {unit:.6g}'} to {self._largest:.6g}"
        return None if probe is None else self._compare_with_probe(probe, transposed)

    def _compare_with_probe(self, probe: NDArray[np.complex64], transposed: bool) -> str | None:
        """Compare number and distribution of photons with the probe's; both must contradict amplitudes.

        The number alone could agree by coincidence, if probe and patterns have different scales. The distribution alone is
        not enough, as both an object and a square root widen the probe's far field.
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
        if _similarity(as_intensity, far_field) < max(
            _LEAST_SIMILARITY, _similarity(as_amplitude, far_field) + _MARGIN
        ):
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
    return values <= np.float64(_MOST_UNITS * unit)  # float64, as the limit may exceed the range of float16


def _factor(a: float, b: float) -> float:
    """Ratio of the larger to the smaller."""
    return max(a, b) / min(a, b) if min(a, b) > 0 else math.inf


def _similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Overlap of two distributions (Bhattacharyya coefficient): 1 if they are equal."""
    return float(np.sum(np.sqrt(a / a.sum() * (b / b.sum()))))
