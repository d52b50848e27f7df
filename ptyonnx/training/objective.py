"""What training minimises, in Python operators: the same lines for every framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ptyonnx_runtime.physics import Pair, intensity, overlap_average

__all__ = ["LOG_FLOOR", "Shifts", "expected_intensity", "loss_terms"]

LOG_FLOOR = 1e-3  # photons: keeps the logarithm finite where nothing is expected


class Shifts(NamedTuple):
    """Shift matrices of a batch and their transposes, arrays of one framework.

    Attributes
    ----------
    rows, columns : (region, pattern, canvas, N)
    rows_transposed, columns_transposed : (region, pattern, N, canvas)
    """

    rows: Any
    rows_transposed: Any
    columns: Any
    columns_transposed: Any


def expected_intensity(patch: Pair, probe: Pair, weight: Any, shifts: Shifts, dft: Pair) -> Any:
    """Photons expected on the detector once overlapping patches agree.

    Parameters
    ----------
    patch : Pair of (region, pattern, N, N)
        What the network made of each pattern.
    probe : Pair of (mode, N, N), sqrt(photons)
    weight : (N, N)
        Of each patch pixel in the average.
    shifts : Shifts
    dft : Pair of (N, N)

    Returns
    -------
    (region, pattern, N, N)
    """
    agreed = overlap_average(patch, weight, *shifts)
    return intensity(agreed, probe, dft)


def loss_terms(
    kind: Literal["poisson", "amplitude_mse", "amplitude_mae"],
    expected: Any,
    amplitude: Any,
    mean_counts: float,
    log: Callable[[Any], Any],
) -> Any:
    """Loss of every detector pixel; the mean over them is what is minimised.

    Divided by the mean counts (or their root), so that the value does not scale with dose.

    Parameters
    ----------
    kind : str
        ``poisson``: negative log-likelihood ``I - y log(I + eps)`` with y = amplitude squared;
        ``amplitude_mse``, ``amplitude_mae``: squared and absolute difference of amplitudes.
    expected : array
        Photons, from :func:`expected_intensity`.
    amplitude : array
        Measured, sqrt(photons).
    mean_counts : float
        Mean photons per pixel of the training patterns.
    log : callable
        The framework's natural logarithm.
    """
    if kind == "poisson":
        return (expected - amplitude * amplitude * log(expected + LOG_FLOOR)) / mean_counts
    difference = (expected + LOG_FLOOR) ** 0.5 - amplitude
    if kind == "amplitude_mse":
        return difference * difference / mean_counts
    return abs(difference) / mean_counts**0.5
