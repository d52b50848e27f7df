"""The recipe's operators in float64 NumPy, forwards and backwards: what the frameworks are judged by.

Written for being right and independent, not for speed: a convolution is nine products of
matrices, one for each pixel of its kernel, and knows no framework, no layout and no fast
algorithm. Arrays are (B, C, y, x), kernels (out, in, y, x).
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
    """Cross-correlate with zeros beside each border: ``out[o] = b[o] + sum_i k[o, i] * v[i]``.

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
        Gradient of what came out.
    value : (B, I, y, x)
        What went in.
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
    """Largest of every 2 x 2 pixels."""
    largest: Array = _blocks(value).max(axis=-1)
    return largest


def pooled_pixel(value: NDArray[Any]) -> NDArray[np.uint8]:
    """Which of every 2 x 2 pixels is the largest, counted row by row; the first of equals."""
    pixel: NDArray[np.uint8] = _blocks(value).argmax(axis=-1).astype(np.uint8)
    return pixel


def pool_backwards(slope: Array, chosen: NDArray[Any]) -> Array:
    """Give the gradient back to the pixel that was the largest, see :func:`pooled_pixel`."""
    blocks = np.zeros((*slope.shape, 4))
    np.put_along_axis(blocks, chosen[..., np.newaxis].astype(np.intp), slope[..., np.newaxis], axis=-1)
    batch, channels, rows, columns = slope.shape
    return blocks.reshape(batch, channels, rows, columns, 2, 2).swapaxes(3, 4).reshape(batch, channels, 2 * rows, -1)


def upsample(value: Array) -> Array:
    """Repeat every pixel twice along y and x."""
    return value.repeat(2, axis=2).repeat(2, axis=3)


def upsample_backwards(slope: Array) -> Array:
    """Sum over every 2 x 2 pixels."""
    summed: Array = _blocks(slope).sum(axis=-1)
    return summed


def _shifted(value: Array) -> Iterator[tuple[int, int, Array]]:
    """Every pixel (y, x) of a kernel, and the value as that pixel meets it."""
    rows, columns = value.shape[2:]
    margin = KERNEL // 2
    padded = np.pad(value, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    for y in range(KERNEL):
        for x in range(KERNEL):
            yield y, x, np.ascontiguousarray(padded[:, :, y : y + rows, x : x + columns])


def _blocks(value: NDArray[Any]) -> NDArray[Any]:
    """(B, C, y, x) -> (B, C, y/2, x/2, 4): the four pixels of every block, row by row."""
    batch, channels, rows, columns = value.shape
    blocks = value.reshape(batch, channels, rows // 2, 2, columns // 2, 2).swapaxes(3, 4)
    return blocks.reshape(batch, channels, rows // 2, columns // 2, 4)
