"""The common result of all converters of foreign files: a network of another system with the bundle's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

__all__ = ["ForeignNetwork", "Native"]

Native = Callable[[NDArray[np.float32]], NDArray[np.complex64]]


class ForeignNetwork(NamedTuple):
    """The result of a converter: an ONNX model with the bundle's interface, and what is known about it.

    Attributes
    ----------
    model : bytes
        ONNX, operator set 18, IR version 10, one input `diffraction` float32 [batch, C, N, N], one
        output `object` float32 [batch, C, N, N, 2].
    system : str
        The system that trained it: "PtychoNN", "PtychoPINN (TensorFlow)" …
    N : int
        Width and height of patterns and patches, pixels.
    gridsize : int
        C = gridsize squared patterns enter the network together.
    notes : str
        One sentence.
    conventions : mapping of str to JSON
        Declared or known properties of the original's input and output.
    mean_photons : float or None
        Mean of ``sum(diffraction**2)`` per pattern that the graph expects; None: unknown.
    native : callable, optional
        The original network, computed independently of `model`: (B, C, N, N) float32 amplitude ->
        (B, C, N, N) complex64. Without it, `model` can only be compared with itself.
    """

    model: bytes
    system: str
    N: int
    gridsize: int
    notes: str
    conventions: Mapping[str, JsonValue]
    mean_photons: float | None
    native: Native | None = None
