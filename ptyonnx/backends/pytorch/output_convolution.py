"""The last convolution of a head, with an accurate gradient of the kernel.

Twin of `backends/tensorflow/output_convolution.py`. With one output channel, the gradient of the kernel is a sum over all
pixels of all patterns. Libraries add the terms one by one: at N = 256 these are a million, and three digits remain in
float32. Summed along each row and then over the rows, six digits remain. The forward pass is the library's convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.grad import conv2d_input

from ptyonnx_bundles.recipe import KERNEL

__all__ = ["OutputConvolution"]

_BORDER = KERNEL // 2


class OutputConvolution(torch.nn.Conv2d):
    """A 3x3 convolution with zeros beside the border.

    Parameters
    ----------
    channels_in, channels_out : int
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, KERNEL, padding=_BORDER)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """(B, channels in, y, x) -> (B, channels out, y, x)."""
        result: torch.Tensor = _Convolution.apply(value, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(value, kernel)
        return torch.nn.functional.conv2d(value, kernel, bias, padding=_BORDER)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        value, kernel = ctx.saved_tensors
        of_value = conv2d_input(value.shape, kernel.to(slope.dtype), slope, padding=_BORDER)  # type: ignore[no-untyped-call]
        wide = torch.promote_types(slope.dtype, torch.float32)  # sums in 16 bits would be too inaccurate
        slope = slope.to(wide)
        return of_value, _of_kernel(slope, value.to(wide)), slope.sum((0, 2, 3))


def _of_kernel(slope: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Gradient of the kernel: a matrix product for each row, then their sum.

    Slope (B, out, y, x) and value (B, in, y, x) -> (out, in, 3, 3).
    """
    batch, channels, height, width = slope.shape
    around = torch.nn.functional.unfold(slope, KERNEL, padding=_BORDER)  # each pixel's 3x3 neighbours
    rows = around.reshape(batch, channels * KERNEL * KERNEL, height, width).transpose(1, 2)
    products = torch.matmul(rows, value.permute(0, 2, 3, 1)).sum((0, 1))  # (out · 9, in)
    # An element of the kernel shifts the image, so that its gradient comes from the opposite neighbour.
    return products.reshape(channels, KERNEL, KERNEL, -1).flip(1, 2).permute(0, 3, 1, 2)
