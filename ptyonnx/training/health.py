"""Collapse: a head of the network that stopped depending on its input.

The known failure of networks of this kind: one large step early on switches rectifiers off for
good, the object stays at vacuum (or one head stays constant while the other explains what it can)
and training goes on with a falling loss. Leaky rectifiers recover; a rate far too high can still
drive a head into saturation. What gives it away is not the loss but that every pattern yields the
same patch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import CollapseError

__all__ = ["HeadSpread", "check_heads", "head_spread"]

# Measured, see docs/training.md: the lowest phase spread of a healthy network in any epoch was 2.3e-3 rad, and
# 3.9e-3 rad on scans whose phases range over 0.03 rad only or that have few photons. Amplitudes as low as
# 3.5e-6 have recovered.
LEAST_PHASE_SPREAD_RAD = 5e-4
LEAST_AMPLITUDE_SPREAD = 1e-6


class HeadSpread(NamedTuple):
    """How much the output depends on the input: rms over patterns about each pixel's mean.

    Attributes
    ----------
    amplitude : float
        Of the amplitude.
    phase_rad : float
        Of the phase.
    """

    amplitude: float
    phase_rad: float


def head_spread(amplitude: NDArray[Any], phase_rad: NDArray[Any], weight: NDArray[Any]) -> HeadSpread:
    """Spread of both heads over patterns, where the probe shines.

    Parameters
    ----------
    amplitude, phase_rad : (pattern, channel, y, x)
        NaN is returned for a single pattern: one alone cannot tell.
    weight : (y, x)
        Illumination.
    """
    if len(amplitude) < 2:
        return HeadSpread(np.nan, np.nan)
    share = np.asarray(weight, np.float64) / (np.sum(weight, dtype=np.float64) * amplitude.shape[1])
    variances = (np.var(np.asarray(head, np.float64), axis=0) for head in (amplitude, phase_rad))
    return HeadSpread(*(float(np.sqrt(np.sum(variance * share))) for variance in variances))


def check_heads(spread: HeadSpread, epoch: int, rate: float) -> None:
    """Refuse to go on once a head is dead.

    Raises
    ------
    CollapseError
        The head no longer depends on the pattern.
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
