"""The recipe's operators in float64 NumPy, forward and backward.

The implementation is simple and independent rather than fast: a convolution is nine matrix products, one for each pixel
of its kernel, without a framework or a fast algorithm. Arrays are (B, C, y, x), kernels (out, in, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.recipe import KERNEL

__all__ = [
    "convolution",
    "convolution_backwards",
    "pool",
    "pool_backwards",
    "pooled_pixel",
    "upsample",
    "upsample_backwards",
]

Array = NDArray[np.float64]


def convolution(value: Array, kernel: Array, bias: Array) -> Array:
    """Cross-correlate with zero padding: ``out[o] = b[o] + sum_i k[o, i] * v[i]``.

    Parameters
    ----------
    value : (B, I, y, x)
    kernel : (O, I, 3, 3)
    bias : (O,)

    Returns
    -------
    (B, O, y, x)
    """
    batch, channels, rows, columns = value.shape
    result = np.repeat(bias[np.newaxis, :, np.newaxis], batch, axis=0)
    result = np.repeat(result, rows * columns, axis=2)
    for y, x, shifted in _shifted(value):
        result += kernel[:, :, y, x] @ shifted.reshape(batch, channels, -1)
    return result.reshape(batch, len(kernel), rows, columns)


def convolution_backwards(slope: Array, value: Array, kernel: Array) -> tuple[Array, Array, Array]:
    """Gradients of a convolution's input, kernel and bias.

    Parameters
    ----------
    slope : (B, O, y, x)
        Gradient by the output.
    value : (B, I, y, x)
        Input.
    kernel : (O, I, 3, 3)

    Returns
    -------
    tuple of (B, I, y, x), (O, I, 3, 3) and (O,)
    """
    batch, channels = value.shape[:2]
    flat = slope.reshape(batch, len(kernel), -1)
    of_kernel = np.empty_like(kernel)
    for y, x, shifted in _shifted(value):
        of_kernel[:, :, y, x] = np.sum(flat @ shifted.reshape(batch, channels, -1).swapaxes(1, 2), axis=0)
    turned = kernel[:, :, ::-1, ::-1].swapaxes(0, 1)
    return convolution(slope, turned, np.zeros(channels)), of_kernel, flat.sum(axis=(0, 2))


def pool(value: Array) -> Array:
    """Maximum of each 2 x 2 block."""
    largest: Array = _blocks(value).max(axis=-1)
    return largest


def pooled_pixel(value: NDArray[Any]) -> NDArray[np.uint8]:
    """Index of the maximum in each 2 x 2 block, row by row; the first of equal pixels."""
    pixel: NDArray[np.uint8] = _blocks(value).argmax(axis=-1).astype(np.uint8)
    return pixel


def pool_backwards(slope: Array, chosen: NDArray[Any]) -> Array:
    """Route the gradient to the maximum of each block, see :func:`pooled_pixel`."""
    blocks = np.zeros((*slope.shape, 4))
    np.put_along_axis(blocks, chosen[..., np.newaxis].astype(np.intp), slope[..., np.newaxis], axis=-1)
    batch, channels, rows, columns = slope.shape
    return blocks.reshape(batch, channels, rows, columns, 2, 2).swapaxes(3, 4).reshape(batch, channels, 2 * rows, -1)


def upsample(value: Array) -> Array:
    """Repeat every pixel twice along y and x."""
    return value.repeat(2, axis=2).repeat(2, axis=3)


def upsample_backwards(slope: Array) -> Array:
    """Sum of each 2 x 2 block."""
    summed: Array = _blocks(slope).sum(axis=-1)
    return summed


def _shifted(value: Array) -> Iterator[tuple[int, int, Array]]:
    """Every pixel (y, x) of a kernel, and the padded value shifted by it."""
    rows, columns = value.shape[2:]
    margin = KERNEL // 2
    padded = np.pad(value, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    for y in range(KERNEL):
        for x in range(KERNEL):
            yield y, x, np.ascontiguousarray(padded[:, :, y : y + rows, x : x + columns])


def _blocks(value: NDArray[Any]) -> NDArray[Any]:
    """(B, C, y, x) -> (B, C, y/2, x/2, 4): the pixels of each block, row by row."""
    batch, channels, rows, columns = value.shape
    blocks = value.reshape(batch, channels, rows // 2, 2, columns // 2, 2).swapaxes(3, 4)
    return blocks.reshape(batch, channels, rows // 2, columns // 2, 4)
