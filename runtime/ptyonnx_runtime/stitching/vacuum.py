"""Fill unknown pixels of an object with vacuum at the object's mean phase."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["vacuum_of", "with_vacuum"]


def vacuum_of(object_: NDArray[np.complex64]) -> np.complex64:
    """Value of vacuum beside an object: amplitude 1, at the mean phase of the known pixels.

    The global phase of an object is arbitrary. Vacuum at another phase would look like an edge. The value is 1 if no pixel
    is known.

    Parameters
    ----------
    object_ : (y, x) complex64
        NaN where it is unknown.
    """
    total = np.nansum(object_, dtype=np.complex128)
    return np.complex64(total / abs(total)) if total else np.complex64(1)


def with_vacuum(object_: NDArray[np.complex64], width: int = 0) -> NDArray[np.complex64]:
    """Replace NaN by vacuum, and append `width` rows and columns of vacuum."""
    vacuum = vacuum_of(object_)
    filled = np.where(np.isnan(object_), vacuum, object_)
    return np.pad(filled, ((0, width), (0, width)), constant_values=vacuum)
