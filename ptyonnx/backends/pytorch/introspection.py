"""Activations, expected patterns and gradients of a training in PyTorch, for `parity`. Twin of the TensorFlow file.

They are computed by the network and the objective that training uses.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ptyonnx.backends.pytorch.device import set_threads
from ptyonnx.backends.pytorch.training import OPERATORS, Reconstructor
from ptyonnx.training.objective import expected_intensity
from ptyonnx.training.regions import Batch
from ptyonnx.training.task import Task
from ptyonnx_runtime.physics import Pair, pair_from_complex

__all__ = ["Introspection"]


class Introspection:
    """A task's network at its initial weights, on the CPU.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        set_threads(task.settings.threads)
        self.model = Reconstructor(task).to(memory_format=torch.channels_last)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Read all weights back: canonical name -> float32, kernels (out, in, y, x)."""
        return self.model.network.weights_by_name()

    def values(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Compute the output of every layer: canonical name -> (B, C, y, x)."""
        recorded: dict[str, NDArray[np.float32]] = {}

        def hook(name: str, value: torch.Tensor) -> torch.Tensor:
            recorded[name] = np.array(value.numpy(), order="C")
            return value

        with torch.no_grad():
            self.model.network(torch.from_numpy(diffraction), hook)
        return recorded

    def object(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Compute the network's object, (B, C, N, N)."""
        with torch.no_grad():
            output = self.model.network(torch.from_numpy(diffraction))
        return np.array(output.numpy(), order="C").view(np.complex64)[..., 0]

    def intensity(self, patch: NDArray[np.complex64], offset_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the photons expected for patches of the object, (region, pattern, N, N)."""
        constants, probe = self.model.objective_constants(self.model.task.training.canvas), self.model.probe()
        with torch.no_grad():
            pair = Pair(*map(torch.from_numpy, pair_from_complex(patch)))
            expected: torch.Tensor = expected_intensity(
                pair, torch.from_numpy(offset_px), probe, constants, **OPERATORS
            )
        return np.array(expected.numpy(), order="C")

    def gradients(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Gradient of a batch's loss by every trained parameter: kernels (out, in, y, x), and both parts of the probe."""
        diffraction, offset_px = map(torch.from_numpy, batch)
        loss, _ = self.model.loss_and_r((diffraction, offset_px), self.model.task.training.canvas)
        named = dict(self.model.network.named_parameters())
        if self.model.task.settings.train_probe:
            named |= {"probe.real": self.model.probe_shift[0], "probe.imag": self.model.probe_shift[1]}
        gradients = torch.autograd.grad(loss, list(named.values()))
        return {name: np.array(gradient.numpy(), order="C") for name, gradient in zip(named, gradients, strict=True)}
