"""The training step as one writes it in TensorFlow, without anything around it. Twin of the PyTorch file.

What `benchmarks/training.py` compares `ptyonnx.train` with: layers in `keras.Sequential`, complex
numbers and `tf.signal`, one `tf.function`, the same objective, weights, batches and rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptyonnx.training.objective import LOG_FLOOR
from ptyonnx.training.task import Task
from ptyonnx_bundles.recipe import AMPLITUDE_MAX, HEADS
from ptyonnx_runtime.physics import WEIGHT_FLOOR

__all__ = ["make_step"]


def make_step(task: Task) -> Callable[[NDArray[np.float32], NDArray[np.float32], float], float]:
    """Network, objective and optimiser; returns what trains on one batch at a rate, and gives the loss."""
    tf.config.threading.set_intra_op_parallelism_threads(task.settings.threads)
    network = _network(task)
    trained = [variable for part in network.values() for variable in part.trainable_variables]
    optimizer = keras.optimizers.Adam(epsilon=1e-10, global_clipnorm=task.settings.clip)
    optimizer.build(trained)
    mean, scale = (tf.constant(task.initial_weights[f"whitening.{name}"]) for name in ("mean", "scale"))
    weight, probe = tf.constant(task.overlap_weight), tf.constant(task.probe)
    index = np.arange(task.training.canvas)[:, None] - np.arange(task.recipe.N)
    lattice = tf.constant(index, tf.float32)

    def predict(diffraction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        code = network["encoder"](tf.transpose((diffraction - mean) * scale, (0, 2, 3, 1)))
        amplitude = AMPLITUDE_MAX * tf.sigmoid(network["amplitude"](code))
        phase = math.pi * tf.tanh(network["phase"](code))
        return tuple(tf.transpose(amplitude * part(phase), (0, 3, 1, 2)) for part in (tf.cos, tf.sin))

    def expect(real: tf.Tensor, imag: tf.Tensor, offset_px: tf.Tensor) -> tf.Tensor:
        shift = tf.nn.relu(1 - tf.abs(lattice - offset_px[..., None, None]))
        y, x = shift[:, :, 0], shift[:, :, 1]

        def place(plane: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(tf.matmul(tf.matmul(y, plane), x, transpose_b=True), axis=1, keepdims=True)

        def take(plane: tf.Tensor) -> tf.Tensor:
            return tf.matmul(tf.matmul(y, plane, transpose_a=True), x)

        total = place(weight) + WEIGHT_FLOOR**2
        agreed = tf.complex(take(place(real * weight) / total), take(place(imag * weight) / total))
        field = tf.signal.fft2d(probe * agreed[:, :, None]) / task.recipe.N
        light = tf.reduce_sum(tf.math.real(field) ** 2 + tf.math.imag(field) ** 2, axis=2)
        return tf.signal.fftshift(light, axes=(-2, -1))

    @tf.function  # type: ignore[untyped-decorator]
    def graph(diffraction: tf.Tensor, offset_px: tf.Tensor) -> tf.Tensor:
        shape = (*offset_px.shape[:2], *diffraction.shape[-2:])
        with tf.GradientTape() as tape:
            real, imag = (tf.reshape(part, shape) for part in predict(diffraction))
            expected = expect(real, imag, offset_px)
            counts = tf.reshape(diffraction, shape) ** 2
            loss = tf.reduce_mean(expected - counts * tf.math.log(expected + LOG_FLOOR)) / task.mean_counts
        optimizer.apply_gradients(zip(tape.gradient(loss, trained), trained, strict=True))
        return loss

    def step(diffraction: NDArray[np.float32], offset_px: NDArray[np.float32], rate: float) -> float:
        optimizer.learning_rate.assign(rate)
        return float(graph(tf.constant(diffraction), tf.constant(offset_px)))

    return step


def _network(task: Task) -> dict[str, keras.Sequential]:
    recipe = task.recipe
    encoder: list[keras.layers.Layer] = [keras.layers.Input((recipe.N, recipe.N, recipe.channels))]
    for filters in recipe.encoder_filters:
        encoder += [*_level(filters, recipe.leak), keras.layers.MaxPooling2D()]
    network = {"encoder": keras.Sequential(encoder)}
    code = network["encoder"].output_shape[1:]
    for head in HEADS:
        network[head] = _decoder(code, recipe.decoder_filters, recipe.channels, recipe.leak)
    convolutions = [layer for part in network.values() for layer in part.layers if layer.weights]
    for layer, convolution in zip(recipe.convolutions(), convolutions, strict=True):
        kernel, bias = (task.initial_weights[f"{layer.name}.{name}"] for name in ("weight", "bias"))
        convolution.set_weights([kernel.transpose(2, 3, 1, 0), bias])
    return network


def _decoder(code: Sequence[int], filters: Sequence[int], channels: int, leak: float) -> keras.Sequential:
    layers: list[keras.layers.Layer] = [keras.layers.Input(code)]
    for out in filters:
        layers += [*_level(out, leak), keras.layers.UpSampling2D()]
    return keras.Sequential([*layers, _convolution(channels)])


def _level(filters: int, leak: float) -> list[keras.layers.Layer]:
    return [layer for _ in range(2) for layer in (_convolution(filters), keras.layers.LeakyReLU(negative_slope=leak))]


def _convolution(filters: int) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(filters, 3, padding="same")
