"""The recipe as a `keras.Model`; its layers and weights have the canonical names.

Twin of `backends/pytorch/network.py`, with the same names in the same order. A `hook` receives every value with its
canonical name, to record it (`engine.py`). Encoder and decoders have their channels last, which TensorFlow's CPU kernels
require; inputs and outputs are (B, C, N, N). Under a mixed-precision policy, everything except the convolutions stays in
float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptyonnx.backends.tensorflow.output_convolution import OutputConvolution
from ptyonnx.backends.weights import checked_weights, starting_weights
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.recipe import AMPLITUDE_MAX, KERNEL, Convolution

__all__ = ["Network"]

Hook = Callable[[str, tf.Tensor], tf.Tensor]
_HWIO_FROM_OIHW, _OIHW_FROM_HWIO = (2, 3, 1, 0), (3, 2, 0, 1)
_LAST_FROM_FIRST, _FIRST_FROM_LAST = (0, 2, 3, 1), (0, 3, 1, 2)


def _no_hook(_: str, value: tf.Tensor) -> tf.Tensor:
    return value


class Network(keras.Model):  # type: ignore[misc]  # keras has no types
    """Encoder and two decoders, from measured amplitudes to the object.

    Parameters
    ----------
    recipe : Recipe
        N, channels, filters and depth. The initial weights are those of the recipe for seed 0.
    policy : str
        Keras dtype policy of the convolutions; everything else is float32.
    """

    def __init__(self, recipe: Recipe, policy: str = "float32") -> None:
        super().__init__(name="network", dtype="float32")
        self.recipe = recipe
        self.whitening = {
            name: self.add_weight(name=name, shape=shape, dtype="float32", initializer="zeros", trainable=False)
            for name, shape in recipe.constant_shapes().items()
        }
        self.convolutions = {layer.name: _convolution(layer, policy) for layer in recipe.convolutions()}
        self.set_weights_by_name(starting_weights(recipe))

    def set_weights_by_name(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Set all weights, bit for bit.

        Parameters
        ----------
        weights : mapping of str to ndarray
            Canonical name -> float32, kernels (out, in, y, x), `whitening.mean` and
            `whitening.scale` included.

        Raises
        ------
        SettingsError
            They are not exactly the weights of the recipe; the network is not changed.
        """
        checked = checked_weights(self.recipe, weights)
        for name, variable in self._variables_by_name().items():
            array = checked[name]
            variable.assign(array.transpose(_HWIO_FROM_OIHW) if array.ndim == 4 else array)

    def weights_by_name(self) -> dict[str, NDArray[np.float32]]:
        """Copy all weights: canonical name -> float32, kernels (out, in, y, x)."""
        arrays = {name: np.asarray(variable) for name, variable in self._variables_by_name().items()}
        return {
            name: (array.transpose(_OIHW_FROM_HWIO) if array.ndim == 4 else array).copy(order="C")
            for name, array in arrays.items()
        }

    def amplitude_and_phase(self, diffraction: tf.Tensor, hook: Hook = _no_hook) -> tuple[tf.Tensor, tf.Tensor]:
        """Both heads, (B, C, N, N) float32 each: amplitude in (0, 1.5), phase in (-π, π) rad."""
        value = hook("whitening.centred", diffraction - self.whitening["whitening.mean"])
        value = hook("whitening.scaled", value * self.whitening["whitening.scale"])
        value = tf.transpose(value, _LAST_FROM_FIRST)
        for index in range(self.recipe.depth):
            name = f"encoder.{index}"
            value = hook(f"{name}.pool", tf.nn.max_pool2d(self._level(name, value, hook), 2, 2, "VALID"))
        amplitude = hook("amplitude.squashed", tf.sigmoid(self._decode("amplitude", value, hook)))
        amplitude = hook("amplitude", AMPLITUDE_MAX * amplitude)
        phase = hook("phase.squashed", tf.tanh(self._decode("phase", value, hook)))
        phase = hook("phase", math.pi * phase)
        return amplitude, phase

    def real_and_imag(self, diffraction: tf.Tensor, hook: Hook = _no_hook) -> tuple[tf.Tensor, tf.Tensor]:
        """Real and imaginary part of the object, (B, C, N, N) float32 each."""
        amplitude, phase = self.amplitude_and_phase(diffraction, hook)
        real = hook("real", amplitude * hook("phase.cos", tf.cos(phase)))
        imag = hook("imaginary", amplitude * hook("phase.sin", tf.sin(phase)))
        return real, imag

    def call(self, diffraction: tf.Tensor, hook: Hook = _no_hook) -> tf.Tensor:
        """Predict the object.

        Parameters
        ----------
        diffraction : (B, C, N, N) float32
            Measured amplitude, sqrt(photons), zero frequency at (N//2, N//2).
        hook : callable
            Called with the canonical name and the value of every node, in order of computation; returns the value.
            Values of the encoder and the decoders have their channels last.

        Returns
        -------
        (B, C, N, N, 2) float32
            Real and imaginary part last.
        """
        return hook("object", tf.stack(self.real_and_imag(diffraction, hook), axis=-1))

    def _decode(self, head: str, value: tf.Tensor, hook: Hook) -> tf.Tensor:
        for index in range(self.recipe.depth):
            name = f"decoder.{head}.{index}"
            value = hook(f"{name}.upsample", _upsample(self._level(name, value, hook)))
        logits = tf.cast(self.convolutions[f"decoder.{head}.output"](value), tf.float32)
        return tf.transpose(hook(f"decoder.{head}.output", logits), _FIRST_FROM_LAST)

    def _level(self, name: str, value: tf.Tensor, hook: Hook) -> tf.Tensor:
        """Convolution, rectifier, convolution, rectifier."""
        for index in range(2):
            value = hook(f"{name}.conv.{index}", self.convolutions[f"{name}.conv.{index}"](value))
            value = hook(f"{name}.relu.{index}", _rectify(value, self.recipe.leak))
        return value

    def trained_by_name(self) -> dict[str, Any]:
        """Trained variables: canonical name -> variable, kernels (y, x, in, out)."""
        return {name: variable for name, variable in self._variables_by_name().items() if variable.trainable}

    def _variables_by_name(self) -> dict[str, Any]:
        variables = dict(self.whitening)
        for name, layer in self.convolutions.items():
            variables |= {f"{name}.weight": layer.kernel, f"{name}.bias": layer.bias}
        return variables


def _rectify(value: tf.Tensor, leak: float) -> tf.Tensor:
    return tf.nn.leaky_relu(value, leak) if leak else tf.nn.relu(value)


def _upsample(value: tf.Tensor) -> tf.Tensor:
    """Repeat every pixel twice along y and x, with the only operator that is exported as a simple Resize."""
    size = (2 * value.shape[1], 2 * value.shape[2])
    return tf.raw_ops.ResizeNearestNeighbor(images=value, size=size, half_pixel_centers=False)


def _convolution(layer: Convolution, policy: str) -> keras.layers.Conv2D:
    """Zeros beside each border: 'same' is symmetric, since the kernel is odd and the stride 1."""
    kind = OutputConvolution if layer.name.endswith(".output") else keras.layers.Conv2D
    convolution = kind(
        layer.channels_out, KERNEL, padding="same", data_format="channels_last",
        kernel_initializer="zeros", name=layer.name, dtype=policy,
    )  # fmt: skip
    convolution.build((None, None, None, layer.channels_in))
    return convolution
