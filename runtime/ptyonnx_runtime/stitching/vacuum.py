"""Pixels that no pattern knows, for whoever needs a number there: vacuum, at the object's own phase."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["vacuum_of", "with_vacuum"]


def vacuum_of(object_: NDArray[np.complex64]) -> np.complex64:
    """Give vacuum beside an object: amplitude 1, at the mean phase of what is known.

    Ptychography leaves a global phase free, and an object may have any. Vacuum at another one would be an
    edge that the object does not have. 1 where nothing is known.

    Parameters
    ----------
    object_ : (y, x) complex64
        NaN where nothing is known.
    """
    total = np.nansum(object_, dtype=np.complex128)
    return np.complex64(total / abs(total)) if total else np.complex64(1)


def with_vacuum(object_: NDArray[np.complex64], width: int = 0) -> NDArray[np.complex64]:
    """Replace NaN by vacuum, and add `width` rows and columns of it behind the last ones."""
    vacuum = vacuum_of(object_)
    filled = np.where(np.isnan(object_), vacuum, object_)
    return np.pad(filled, ((0, width), (0, width)), constant_values=vacuum)
