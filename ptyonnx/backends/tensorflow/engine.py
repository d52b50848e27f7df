"""A bundle's network in TensorFlow, as an engine. Twin of the PyTorch file.

It is the network that training uses, in float32, with the bundle's weights. It is neither compiled nor fused, so that every
layer's output can be recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptyonnx.backends.tensorflow.device import full_float32, set_threads, translate_device_errors, use_gpu
from ptyonnx.backends.tensorflow.network import Network
from ptyonnx.backends.weights import in_recipe_order
from ptyonnx_bundles import Bundle
from ptyonnx_runtime.inference.engine import GPU_BATCH_PX, SHARED_BATCH_PX

__all__ = ["NativeEngine"]

_REMEDY = 'try a smaller batch size, or provider="cpu"'
_DEVICES = {"cpu": "/CPU:0", "cuda": "/GPU:0"}


class NativeEngine:
    """See :class:`ptyonnx_runtime.inference.engine.Engine`.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        CPU threads, of the whole process, if TensorFlow has not run yet; 0: TensorFlow's default.
    device : {"auto", "cpu", "gpu"}

    Raises
    ------
    BundleError
        The bundle is foreign.
    ProviderError
        A GPU was requested and there is none, or it fails.
    """

    name = "tensorflow"
    concurrency = 1  # one batch uses all threads of the process

    def __init__(self, bundle: Bundle, threads: int = 0, device: str = "auto") -> None:
        self.recipe = bundle.native_recipe("a framework")
        set_threads(threads)
        self.provider = "cuda" if use_gpu(device) else "cpu"
        self.batch_px = SHARED_BATCH_PX if self.provider == "cpu" else GPU_BATCH_PX
        failing = translate_device_errors(f"{self.provider} cannot be used", 'choose the CPU: provider="cpu"')
        with failing, tf.device(_DEVICES[self.provider]):
            self.network = Network(self.recipe)
            self.network.set_weights_by_name(bundle.native_weights())

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Compute patches of the object, (B, C, N, N) complex64, from measured amplitudes of that shape."""
        with self._computing(diffraction):
            return _array(self.network.call(self._tensor(diffraction))).view(np.complex64)[..., 0]

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Compute the output of every layer, by canonical name, in order of computation."""
        recorded: dict[str, NDArray[np.float32]] = {}

        def hook(name: str, value: tf.Tensor) -> tf.Tensor:
            recorded[name] = _array(tf.transpose(value, (0, 3, 1, 2)) if _channels_last(name) else value)
            return value

        with self._computing(diffraction):
            self.network.call(self._tensor(diffraction), hook)
        return in_recipe_order(self.recipe, recorded)

    def close(self) -> None:
        """Do nothing: the framework holds nothing that has to be released."""

    @contextmanager
    def _computing(self, diffraction: NDArray[np.float32]) -> Iterator[None]:
        problem = f"could not compute a batch of {len(diffraction)} on {self.provider}"
        with translate_device_errors(problem, _REMEDY), full_float32(), tf.device(_DEVICES[self.provider]):
            yield

    def _tensor(self, diffraction: NDArray[np.float32]) -> tf.Tensor:
        return tf.constant(np.asarray(diffraction, np.float32))


def _channels_last(name: str) -> bool:
    """Whether a value has its channels last: those of the encoder and the decoders do."""
    return name.startswith(("encoder.", "decoder."))


def _array(value: tf.Tensor) -> NDArray[np.float32]:
    """Copy to NumPy, C-contiguous."""
    return np.array(value.numpy(), np.float32, order="C")
