"""The interface of what computes patches of the object from patterns.

`session.Session` is onnxruntime. Others, such as the native network of a training framework, are written above this
floor and passed to `reconstruct`. Grouping, stitching and residual are the same for all of them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CACHED_BATCH_PX", "GPU_BATCH_PX", "SHARED_BATCH_PX", "Engine"]

# Values for `Engine.batch_px`. A batch that one thread computes should stay in the cache of a core. Measured at N = 64,
# one thread: 4 patterns take 524 us each, 16 patterns 544 us.
CACHED_BATCH_PX = 4 * 64 * 64
# A batch that all cores compute together has to be large enough to be worth distributing.
SHARED_BATCH_PX = 16 * 64 * 64
GPU_BATCH_PX = 256 * 64 * 64


class Engine(Protocol):
    """A network that is ready to compute.

    Attributes
    ----------
    name : str
        ``"onnxruntime"``, ``"pytorch"`` or ``"tensorflow"``.
    provider : str
        Where it runs: ``"cpu"``, ``"cuda"`` …
    concurrency : int
        Number of threads that may call :meth:`run` at the same time. 1 for an engine that uses all cores for one
        batch.
    batch_px : int
        Pixels of a batch (patterns times N squared) at which it is fastest.
    """

    name: str
    provider: str
    concurrency: int
    batch_px: int

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Compute patches of the object from measured amplitudes.

        Parameters
        ----------
        diffraction : (batch, channel, y, x) float32
            Amplitude, zero frequency in the centre.

        Returns
        -------
        (batch, channel, y, x) complex64
        """

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Compute the output of every node, by its canonical name. Called from one thread at a time.

        Parameters
        ----------
        diffraction : (batch, channel, y, x) float32

        Returns
        -------
        dict of str to ndarray
            Names of `Recipe.nodes()`, in order of computation; float32, channels before y and x.
        """

    def close(self) -> None:
        """Release what the engine holds, and end runs in progress if it can. May be called more than once."""
