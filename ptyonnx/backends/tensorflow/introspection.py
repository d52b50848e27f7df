"""Activations, expected patterns and gradients of a training in TensorFlow, for `parity`. Twin of the PyTorch file.

They are computed by the network and the objective that training uses.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptyonnx.backends.tensorflow.device import set_threads
from ptyonnx.backends.tensorflow.training import OPERATORS, Reconstructor
from ptyonnx.training.objective import expected_intensity
from ptyonnx.training.regions import Batch
from ptyonnx.training.task import Task
from ptyonnx_runtime.physics import Pair, pair_from_complex

__all__ = ["Introspection"]

_FIRST_FROM_LAST, _OIHW_FROM_HWIO = (0, 3, 1, 2), (3, 2, 0, 1)


class Introspection:
    """A task's network at its initial weights, on the CPU.

    Parameters
    ----------
    task : Task
    """

    def __init__(self, task: Task) -> None:
        set_threads(task.settings.threads)
        self.model = Reconstructor(task)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Read all weights back: canonical name -> float32, kernels (out, in, y, x)."""
        weights: dict[str, NDArray[np.float32]] = self.model.network.weights_by_name()
        return weights

    def values(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Compute the output of every layer: canonical name -> (B, C, y, x)."""
        recorded: dict[str, NDArray[np.float32]] = {}

        def hook(name: str, value: tf.Tensor) -> tf.Tensor:
            array = value.numpy()
            inside = name.startswith(("encoder.", "decoder."))  # where channels come last
            recorded[name] = np.array(array.transpose(_FIRST_FROM_LAST) if inside else array, order="C")
            return value

        self.model.network(tf.constant(diffraction), hook=hook)
        return recorded

    def object(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Compute the network's object, (B, C, N, N)."""
        output = self.model.network(tf.constant(diffraction))
        return np.array(output.numpy(), order="C").view(np.complex64)[..., 0]

    def intensity(self, patch: NDArray[np.complex64], offset_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the photons expected for patches of the object, (region, pattern, N, N)."""
        constants, probe = self.model.objective_constants(self.model.task.training.canvas), self.model.probe()
        pair = Pair(*map(tf.constant, pair_from_complex(patch)))
        expected = expected_intensity(pair, tf.constant(offset_px), probe, constants, **OPERATORS)
        return np.array(expected.numpy(), order="C")

    def gradients(self, batch: Batch) -> dict[str, NDArray[np.float32]]:
        """Gradient of a batch's loss by every trained parameter: kernels (out, in, y, x), and both parts of the probe."""
        variables = self.model.network.trained_by_name()
        if self.model.task.settings.train_probe:
            variables |= {"probe.real": self.model.probe_shift[0], "probe.imag": self.model.probe_shift[1]}

        @tf.function  # type: ignore[untyped-decorator]  # one compiled graph, as in training
        def differentiate(diffraction: tf.Tensor, offset_px: tf.Tensor) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                loss, _ = self.model.loss_and_r(Batch(diffraction, offset_px), self.model.task.training.canvas)
            gradients: list[tf.Tensor] = tape.gradient(loss, list(variables.values()))
            return gradients

        arrays = [gradient.numpy() for gradient in differentiate(*map(tf.constant, batch))]
        return {
            name: np.array(array.transpose(_OIHW_FROM_HWIO) if array.ndim == 4 else array, order="C")
            for name, array in zip(variables, arrays, strict=True)
        }
