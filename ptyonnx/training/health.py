"""Detect collapse: a head of the network that no longer depends on its input.

This is the known failure of such networks. One large early step switches rectifiers off for good. The object then stays at
vacuum, or one head stays constant, while the loss still falls. Leaky rectifiers recover, but a rate that is far too high
can drive a head into saturation. The loss does not show a collapse, but all patterns then yield the same patch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import CollapseError

__all__ = ["HeadSpread", "check_heads", "head_spread"]

# Measured, see docs/training.md: the lowest phase spread of a healthy network in any epoch was 2.3e-3 rad, and
# 3.9e-3 rad on scans with a phase range of only 0.03 rad or with few photons. Networks with amplitude spreads as low as
# 3.5e-6 have recovered.
LEAST_PHASE_SPREAD_RAD = 5e-4
LEAST_AMPLITUDE_SPREAD = 1e-6


class HeadSpread(NamedTuple):
    """How much each head depends on the pattern: rms deviation from each pixel's mean over patterns.

    Attributes
    ----------
    amplitude : float
    phase_rad : float
    """

    amplitude: float
    phase_rad: float


def head_spread(amplitude: NDArray[Any], phase_rad: NDArray[Any], weight: NDArray[Any]) -> HeadSpread:
    """Spread of both heads over patterns, weighted by the illumination.

    Parameters
    ----------
    amplitude, phase_rad : (pattern, channel, y, x)
    weight : (y, x)
        Illumination.

    Returns
    -------
    HeadSpread
        NaN for a single pattern.
    """
    if len(amplitude) < 2:
        return HeadSpread(np.nan, np.nan)
    share = np.asarray(weight, np.float64) / (np.sum(weight, dtype=np.float64) * amplitude.shape[1])
    variances = (np.var(np.asarray(head, np.float64), axis=0) for head in (amplitude, phase_rad))
    return HeadSpread(*(float(np.sqrt(np.sum(variance * share))) for variance in variances))


def check_heads(spread: HeadSpread, epoch: int, rate: float) -> None:
    """Stop a training whose network has collapsed.

    Raises
    ------
    CollapseError
        A head no longer depends on the pattern.
    """
    for head, value, least in (
        ("amplitude", spread.amplitude, LEAST_AMPLITUDE_SPREAD),
        ("phase", spread.phase_rad, LEAST_PHASE_SPREAD_RAD),
    ):
        if value < least:
            raise CollapseError(
                f"collapsed in epoch {epoch}: the {head} no longer depends on the pattern "
                f"(it varies by {value:.1e} between patterns)",
                remedy=f"train with another seed (seed=1), a lower rate (rate={rate / 2:g}) "
                "or a smaller clip (clip=0.1)",
            )
