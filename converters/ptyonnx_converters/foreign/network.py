"""A network of another system, already in the bundle's interface: what every converter of foreign files hands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

__all__ = ["ForeignNetwork", "Native"]

Native = Callable[[NDArray[np.float32]], NDArray[np.complex64]]


class ForeignNetwork(NamedTuple):
    """What a converter made of a file.

    Attributes
    ----------
    model : bytes
        ONNX, operator set 18, IR version 10, one input `diffraction` float32 [batch, C, N, N], one
        output `object` float32 [batch, C, N, N, 2].
    system : str
        Who trained it: "PtychoNN", "PtychoPINN (TensorFlow)" …
    N : int
        Width and height of patterns and patches, pixels.
    gridsize : int
        C = gridsize squared patterns enter together.
    notes : str
        One sentence.
    conventions : mapping of str to JSON
        What was declared, or is known, about input and output of the original.
    mean_photons : float or None
        Mean of ``sum(diffraction**2)`` per pattern at which the graph wants its input; None: unknown.
    native : callable, optional
        What the original computes, found without the graph above: (B, C, N, N) float32 amplitude ->
        (B, C, N, N) complex64. Without it, the graph can only be compared with itself.
    """

    model: bytes
    system: str
    N: int
    gridsize: int
    notes: str
    conventions: Mapping[str, JsonValue]
    mean_photons: float | None
    native: Native | None = None
