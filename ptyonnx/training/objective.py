"""The objective of training: expected intensity and loss, in Python operators, the same for both frameworks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx.settings import Loss
from ptyonnx_runtime.physics import (
    WEIGHT_FLOOR,
    Pair,
    dft_matrix,
    hat,
    intensity,
    overlap_average,
    sum_patterns,
    swap_last,
)

__all__ = [
    "LOG_FLOOR",
    "ObjectiveConstants",
    "expected_intensity",
    "loss_terms",
    "objective_constants",
    "overlap_weight",
]

LOG_FLOOR = 1e-3  # photons: keeps the logarithm finite for an expected intensity of 0


class ObjectiveConstants(NamedTuple):
    """Constants of the objective, as float32 arrays of NumPy or of a framework.

    Attributes
    ----------
    weight : (N, N)
        Weight of each patch pixel where patches overlap.
    lattice : (canvas, N)
        Canvas index minus patch index.
    dft : Pair of (N, N)
    """

    weight: Any
    lattice: Any
    dft: Pair


def overlap_weight(probe: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Weight of each patch pixel where patches overlap: probe intensity relative to its maximum, plus a floor.

    Parameters
    ----------
    probe : (mode, N, N) complex64

    Returns
    -------
    (N, N) float32
    """
    illumination = np.sum(np.abs(probe.astype(np.complex128)) ** 2, axis=0)
    return np.asarray(illumination / illumination.max() + WEIGHT_FLOOR, np.float32)


def objective_constants(probe: NDArray[np.complex64], canvas: int) -> ObjectiveConstants:
    """Compute the constants of the objective, as NumPy arrays, for canvases of `canvas` x `canvas` pixels."""
    N = probe.shape[-1]
    lattice = (np.arange(canvas)[:, np.newaxis] - np.arange(N)).astype(np.float32)
    return ObjectiveConstants(overlap_weight(probe), lattice, dft_matrix(N))


def expected_intensity(
    patch: Pair,
    offset_px: Any,
    probe: Pair,
    constants: ObjectiveConstants,
    *,
    add: Callable[[Any], Any] = sum_patterns,
    transpose: Callable[[Any], Any] = swap_last,
) -> Any:
    """Photons expected on the detector, after overlapping patches have been averaged.

    Parameters
    ----------
    patch : Pair of (region, pattern, N, N)
        The network's patch for each pattern.
    offset_px : (region, pattern, 2)
        (y, x) of each patch on its region's canvas.
    probe : Pair of (mode, N, N), sqrt(photons)
    constants : ObjectiveConstants
    add, transpose : callable
        The framework's sum over axis 1, and its exchange of the last two axes.

    Returns
    -------
    (region, pattern, N, N)
    """
    y, x = offset_px[..., 0, None, None], offset_px[..., 1, None, None]
    rows, columns = hat(constants.lattice - y), hat(constants.lattice - x)
    agreed = overlap_average(
        patch,
        constants.weight,
        rows=rows,
        rows_transposed=transpose(rows),
        columns=columns,
        columns_transposed=transpose(columns),
        add=add,
    )
    return intensity(agreed, probe, constants.dft)


def loss_terms(
    kind: Loss,
    expected: Any,
    amplitude: Any,
    mean_counts: float,
    log: Callable[[Any], Any],
) -> Any:
    """Loss of every detector pixel. Training minimises the mean over all pixels.

    The loss is divided by the mean counts (or their square root), so that it does not scale with dose.

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
