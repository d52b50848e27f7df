"""A bundle's network in TensorFlow, as an engine. Twin of the PyTorch file.

The network is the one that trains, float32, on the bundle's weights; nothing is compiled or
fused behind its back, so that what it computes can be looked at layer by layer.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptyonnx.backends.tensorflow.device import set_threads, use_gpu
from ptyonnx.backends.tensorflow.network import Network
from ptyonnx.backends.weights import in_recipe_order, recipe_of, weights_of
from ptyonnx_bundles import Bundle

__all__ = ["NativeEngine"]

_DEVICES = {"cpu": "/CPU:0", "cuda": "/GPU:0"}


class NativeEngine:
    """See :class:`ptyonnx_runtime.engine.Engine`.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        CPU threads, of the whole process, if nothing has run yet; 0: as TensorFlow has them.
    device : {"auto", "cpu", "gpu"}

    Raises
    ------
    BundleError
        The bundle's network has no recipe that could be built natively.
    ProviderError
        A GPU was asked for and there is none.
    """

    name = "tensorflow"

    def __init__(self, bundle: Bundle, threads: int = 0, device: str = "auto") -> None:
        self.recipe = recipe_of(bundle)
        set_threads(threads)
        self.provider = "cuda" if use_gpu(device) else "cpu"
        with tf.device(_DEVICES[self.provider]):
            self.network = Network(self.recipe)
            self.network.set_weights_by_name(weights_of(bundle))

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Patches of the object, (B, C, N, N) complex64, from measured amplitudes of that shape."""
        with tf.device(_DEVICES[self.provider]):
            output = self.network.call(self._tensor(diffraction))
        return _array(output).view(np.complex64)[..., 0]

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Every value on the way to the object, by canonical name, in order of computation."""
        seen: dict[str, NDArray[np.float32]] = {}

        def see(name: str, value: tf.Tensor) -> tf.Tensor:
            seen[name] = _array(tf.transpose(value, (0, 3, 1, 2)) if _channels_last(name) else value)
            return value

        with tf.device(_DEVICES[self.provider]):
            self.network.call(self._tensor(diffraction), see)
        return in_recipe_order(self.recipe, seen)

    def _tensor(self, diffraction: NDArray[np.float32]) -> tf.Tensor:
        return tf.constant(np.asarray(diffraction, np.float32))


def _channels_last(name: str) -> bool:
    """Inside encoder and decoders channels come last."""
    return name.startswith(("encoder.", "decoder."))


def _array(value: tf.Tensor) -> NDArray[np.float32]:
    """Copy to NumPy, C-contiguous."""
    return np.array(value.numpy(), np.float32, order="C")
