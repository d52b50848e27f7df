"""Collapse: a head of the network that stopped depending on its input.

The known failure of this network: one large step early on switches its ReLUs off for good,
the object stays at vacuum (or one head stays constant while the other explains what it can)
and training goes on with a falling loss. What gives it away is not the loss but that every
pattern yields the same patch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import CollapseError

__all__ = ["HeadSpread", "check_heads", "head_spread"]

LEAST_SPREAD = 1e-5  # of either head; see docs/training.md for healthy and collapsed runs


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


def head_spread(amplitude: NDArray[Any], phase_rad: NDArray[Any]) -> HeadSpread:
    """Spread of both heads over patterns.

    Parameters
    ----------
    amplitude, phase_rad : (pattern, channel, y, x)
        NaN is returned for a single pattern: one alone cannot tell.
    """
    if len(amplitude) < 2:
        return HeadSpread(np.nan, np.nan)
    return HeadSpread(*(float(np.std(np.asarray(head, np.float64), axis=0).mean()) for head in (amplitude, phase_rad)))


def check_heads(spread: HeadSpread, epoch: int, rate: float) -> None:
    """Refuse to go on once a head is dead.

    Raises
    ------
    CollapseError
        The head no longer depends on the pattern.
    """
    for head, value in (("amplitude", spread.amplitude), ("phase", spread.phase_rad)):
        if value < LEAST_SPREAD:
            raise CollapseError(
                f"collapsed in epoch {epoch}: the {head} no longer depends on the pattern "
                f"(it varies by {value:.1e} between patterns)",
                remedy=f"train with another seed (--set seed=1), a lower rate (--set rate={rate / 2:g}) "
                "or a smaller clip (--set clip=0.1)",
            )
