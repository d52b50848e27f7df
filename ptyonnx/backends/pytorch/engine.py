"""A bundle's network in PyTorch, as an engine. Twin of the TensorFlow file.

It is the network that training uses, in float32, with the bundle's weights. It is neither compiled nor fused, so that every
layer's output can be recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ptyonnx.backends.pytorch.device import full_float32, gpu_name, set_threads, translate_device_errors, use_gpu
from ptyonnx.backends.pytorch.network import Network
from ptyonnx.backends.weights import in_recipe_order
from ptyonnx_bundles import Bundle
from ptyonnx_runtime.inference.engine import GPU_BATCH_PX, SHARED_BATCH_PX

__all__ = ["NativeEngine"]

_REMEDY = 'try a smaller batch size, or provider="cpu"'


class NativeEngine:
    """See :class:`ptyonnx_runtime.inference.engine.Engine`.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        CPU threads, of the whole process; 0: PyTorch's default.
    device : {"auto", "cpu", "gpu"}

    Raises
    ------
    BundleError
        The bundle is foreign.
    ProviderError
        A GPU was requested and there is none, or it fails.
    """

    name = "pytorch"
    concurrency = 1  # one batch uses all threads of the process

    def __init__(self, bundle: Bundle, threads: int = 0, device: str = "auto") -> None:
        self.recipe = bundle.native_recipe("a framework")
        set_threads(threads)
        self.provider = gpu_name() if use_gpu(device) else "cpu"
        self.batch_px = SHARED_BATCH_PX if self.provider == "cpu" else GPU_BATCH_PX
        network = Network(self.recipe)
        network.set_weights_by_name(bundle.native_weights())
        with translate_device_errors(f"{self.provider} cannot be used", 'choose the CPU: provider="cpu"'):
            network.eval().to(self.provider)
            self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Compute patches of the object, (B, C, N, N) complex64, from measured amplitudes of that shape."""
        with self._computing(diffraction):
            return _array(self.network(self._tensor(diffraction))).view(np.complex64)[..., 0]

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Compute the output of every layer, by canonical name, in order of computation."""
        recorded: dict[str, NDArray[np.float32]] = {}

        def hook(name: str, value: torch.Tensor) -> torch.Tensor:
            recorded[name] = _array(value)
            return value

        with self._computing(diffraction):
            self.network(self._tensor(diffraction), hook)
        return in_recipe_order(self.recipe, recorded)

    def close(self) -> None:
        """Do nothing: the framework holds nothing that has to be released."""

    @contextmanager
    def _computing(self, diffraction: NDArray[np.float32]) -> Iterator[None]:
        problem = f"could not compute a batch of {len(diffraction)} on {self.provider}"
        with translate_device_errors(problem, _REMEDY), full_float32(), torch.inference_mode():
            yield

    def _tensor(self, diffraction: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.array(diffraction, np.float32, order="C")).to(self.provider)


def _array(value: torch.Tensor) -> NDArray[np.float32]:
    """Copy to NumPy, C-contiguous."""
    return np.array(value.cpu().numpy(), np.float32, order="C")
