"""What computes patches of the object from patterns: one interface, several implementations.

`session.Session` is onnxruntime. Others, such as the native network of a training framework,
are made above this floor and handed to `reconstruct`: grouping, stitching and residual are the
same whoever computes the patches.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Engine"]


class Engine(Protocol):
    """A network that is ready to compute.

    Attributes
    ----------
    name : str
        ``"onnxruntime"``, ``"pytorch"`` or ``"tensorflow"``.
    provider : str
        Where it runs: ``"cpu"``, ``"cuda"`` …
    """

    name: str
    provider: str

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Patches of the object from measured amplitudes.

        Parameters
        ----------
        diffraction : (batch, channel, y, x) float32
            Amplitude, zero frequency in the centre.

        Returns
        -------
        (batch, channel, y, x) complex64
        """

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Every value on the way to the object, by the canonical name of the node that computes it.

        Parameters
        ----------
        diffraction : (batch, channel, y, x) float32

        Returns
        -------
        dict of str to ndarray
            Names of `Recipe.nodes()`, in order of computation; float32, channels before y and x.
        """
