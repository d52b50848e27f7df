"""The last convolution of a head, with an accurate gradient of the kernel.

Twin of `backends/pytorch/output_convolution.py`. With one output channel, the gradient of the kernel is a sum over all
pixels of all patterns. Libraries add the terms one by one: at N = 256 these are a million, and three digits remain in
float32. Summed along each row and then over the rows, six digits remain. The forward pass is the library's convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ptyonnx_bundles.recipe import KERNEL

__all__ = ["OutputConvolution"]

_BORDER = KERNEL // 2


class OutputConvolution(keras.layers.Conv2D):  # type: ignore[misc]  # keras has no types
    """A 3x3 convolution with zeros beside the border; channels last."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, y, x, channels in) -> (B, y, x, channels out)."""
        return _convolution(inputs, tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _convolution(value: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    def backward(slope: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        of_value = tf.nn.conv2d_transpose(slope, kernel, tf.shape(value), strides=1, padding="SAME")
        slope = tf.cast(slope, tf.float32)
        of_kernel = _of_kernel(slope, tf.cast(value, tf.float32))
        of_bias = tf.reduce_sum(tf.reduce_sum(slope, 2), (0, 1))
        return of_value, tf.cast(of_kernel, kernel.dtype), tf.cast(of_bias, bias.dtype)

    return tf.nn.conv2d(value, kernel, strides=1, padding="SAME") + bias, backward


def _of_kernel(slope: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Gradient of the kernel: a matrix product for each row, then their sum.

    Slope (B, y, x, out) and value (B, y, x, in) -> (3, 3, in, out).
    """
    _, height, width, channels = slope.shape
    padded = tf.pad(slope, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)))
    # Each pixel's 3x3 neighbours: slices, which cost a third of `tf.image.extract_patches`.
    offsets = [(y, x) for y in range(KERNEL) for x in range(KERNEL)]
    rows = tf.concat([padded[:, y : y + height, x : x + width] for y, x in offsets], axis=-1)
    products = tf.reduce_sum(tf.matmul(rows, value, transpose_a=True), (0, 1))  # (9 · out, in)
    products = tf.reshape(products, (KERNEL, KERNEL, channels, value.shape[-1]))
    # An element of the kernel shifts the image, so that its gradient comes from the opposite neighbour.
    return tf.transpose(tf.reverse(products, (0, 1)), (0, 1, 3, 2))
