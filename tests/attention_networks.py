"""Networks with PyTorch's own attention, as anybody would write them, and their export for a fixed number of patterns."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NETWORKS", "N", "exported"]

N = 32
_PATCH, _WIDTH, _HEADS = 8, 16, 2
_SIDE = N // _PATCH


class _Transformer(nn.Module):
    """Patches are embedded, attend to each other, and become amplitude and phase."""

    def __init__(self, layer: nn.Module, *, batch_first: bool = True, token: bool = False) -> None:
        super().__init__()
        self.batch_first, self.layer = batch_first, layer
        self.embed, self.head = nn.Conv2d(1, _WIDTH, _PATCH, _PATCH), nn.Linear(_WIDTH, 2 * _PATCH**2)
        self.token = nn.Parameter(torch.randn(1, 1, _WIDTH)) if token else None
        shape = (1, _SIDE**2 + token, _WIDTH)
        self.positions = nn.Parameter(torch.randn(shape if batch_first else (shape[1], 1, _WIDTH)) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        B = x.shape[0]
        x = self.embed(x).flatten(2).permute((0, 2, 1) if self.batch_first else (2, 0, 1))
        if self.token is not None:
            token = self.token.expand((B, -1, -1) if self.batch_first else (-1, B, -1))
            x = torch.cat([token, x], dim=1 if self.batch_first else 0)
        x = x + self.positions
        x = self.layer(x, x, x)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.head(x[:, -(_SIDE**2) :]).view(B, _SIDE, _SIDE, 2, _PATCH, _PATCH)
        return torch.tanh(x.permute(0, 3, 1, 4, 2, 5).reshape(B, 2, N, N))


class _Windows(nn.Module):
    """Attention in shifted windows, as in Swin: the batch is joined to the windows and divided from them again."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(1, _WIDTH, 4, 4), nn.ConvTranspose2d(_WIDTH, 2, 4, 4)
        self.attention = nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(self.embed(x).permute(0, 2, 3, 1), (-2, -2), (1, 2))
        B, H, W, C = x.shape
        x = x.view(B, H // 4, 4, W // 4, 4, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, C)
        x = self.attention(x, x, x, need_weights=False)[0]
        x = x.view(B, H // 4, W // 4, 4, 4, C).permute(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)
        return torch.tanh(self.head(torch.roll(x, (2, 2), (1, 2)).permute(0, 3, 1, 2)))


class _Convolutions(nn.Module):
    """What newer operator sets have operators of their own for, a size that is given, and a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.norm, self.out = nn.Conv2d(1, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 3, 1, 1)
        shift = torch.tensor([[[1.0, 0.0, 0.1], [0.0, 1.0, 0.0]]])
        self.register_buffer("grid", functional.affine_grid(shift, [1, 1, N, N], align_corners=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.down(x))
        x = functional.gelu(x) + functional.gelu(x, approximate="tanh") + functional.mish(x) + functional.hardswish(x)
        x = functional.interpolate(x, size=(N, N), mode="bilinear")
        x = functional.grid_sample(x, self.grid.expand(len(x), -1, -1, -1), align_corners=False)
        return torch.tanh(self.out(x))


def _layer(activation: str = "relu", *, batch_first: bool = True) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(_WIDTH, _HEADS, 32, activation=activation, batch_first=batch_first)


NETWORKS = {
    "attention": lambda: _Transformer(nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True), token=True),
    "attention, sequence first": lambda: _Transformer(nn.MultiheadAttention(_WIDTH, _HEADS), batch_first=False),
    "layer": lambda: _Transformer(_layer("gelu"), token=True),
    "layer, sequence first": lambda: _Transformer(_layer(batch_first=False), batch_first=False, token=True),
    "encoder": lambda: _Transformer(nn.TransformerEncoder(_layer(), 2, enable_nested_tensor=False)),
    "windows": _Windows,
    "convolutions": _Convolutions,
}


def exported(name: str, path: Path, batch: int, *, dynamo: bool, opset: int | None = None) -> nn.Module:
    """Export a network for a fixed number of patterns by one of PyTorch's exporters; return it, in evaluation."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    options = {"external_data": False} if dynamo else {}
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.onnx.export(
            network, (torch.rand(batch, 1, N, N),), path, dynamo=dynamo, opset_version=opset, input_names=["input"],
            output_names=["output"], verbose=False, **options,
        )  # fmt: skip
        logging.disable(level)
    return network
