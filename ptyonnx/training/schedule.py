"""The one-cycle learning rate, the same for both frameworks [Smith & Topin 2018, arXiv:1708.07120]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["one_cycle"]

START_FRACTION = 1 / 25  # of the peak, before warming up
END_FRACTION = 1 / 2500  # of the peak, after annealing


def one_cycle(peak: float, steps: int, warmup: float) -> NDArray[np.float32]:
    """Learning rate of every step: it rises and falls by half a cosine each.

    Parameters
    ----------
    peak : float
        Largest rate.
    steps : int
        Optimiser steps of the whole training.
    warmup : float
        Fraction of the steps in which the rate rises.

    Returns
    -------
    (steps,) float32
    """
    rising = max(1, round(steps * warmup))
    up = _cosine(peak * START_FRACTION, peak, np.arange(rising) / rising)
    down = _cosine(peak, peak * END_FRACTION, np.arange(steps - rising) / max(1, steps - rising - 1))
    return np.concatenate([up, down])[:steps].astype(np.float32)


def _cosine(start: float, end: float, progress: NDArray[np.float64]) -> NDArray[np.float64]:
    return end + (start - end) * (1 + np.cos(np.pi * progress)) / 2
