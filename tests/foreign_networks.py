"""Networks as other systems deploy them: small, untrained, and with the habits that make them hard to read.

`ptychonn` writes what PtychoNN's edge pipeline runs, `ptychovit` what ptychoml and holoptycho load.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["ptychonn", "ptychovit"]


def _conv(generator: np.random.Generator, filters: int, channels: int, gain: float = 1.4) -> NDArray[np.float32]:
    weight = generator.standard_normal((filters, channels, 3, 3)) * gain / np.sqrt(9 * channels)
    return np.asarray(weight, np.float32)


def ptychonn(
    N: int = 64, batch: int | str = 8, heads: tuple[str, ...] = ("94",), opset: int = 12, dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Counts in, one image per head out; encoder and decoder with pooling and upsampling, static batch, no metadata."""
    generator = np.random.default_rng(1)
    arrays: dict[str, NDArray[Any]] = {
        "e.w": _conv(generator, 8, 1, gain=0.05),
        "e.b": generator.standard_normal(8).astype(np.float32) * 0.1,
        "f.w": _conv(generator, 8, 8),
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    pads = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", ["input.1", "e.w", "e.b"], ["1"], **pads),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("MaxPool", ["2"], ["3"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["3", "f.w"], ["4"], **pads),
        helper.make_node("Relu", ["4"], ["5"]),
        helper.make_node("Resize", ["5", "roi", "scales"], ["6"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
    ]  # fmt: skip
    for index, head in enumerate(heads):
        arrays[f"g{index}"] = _conv(generator, 1, 8, gain=0.5)
        pi = numpy_helper.from_array(np.array(np.pi if index == 0 else 0.5, np.float32))
        nodes += [
            helper.make_node("Conv", ["6", f"g{index}"], [f"7.{index}"], **pads),
            helper.make_node("Tanh", [f"7.{index}"], [f"8.{index}"]),
            helper.make_node("Constant", [], [f"9.{index}"], value=pi),
            helper.make_node("Mul", [f"8.{index}", f"9.{index}"], [head]),
        ]
    shape = [batch, 1, N, N]
    graph = helper.make_graph(
        nodes,
        "torch-jit-export",
        [helper.make_tensor_value_info("input.1", dtype, shape)],
        [helper.make_tensor_value_info(head, TensorProto.FLOAT, shape) for head in heads],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", opset)])
    model.producer_name, model.producer_version = "pytorch", "1.9"
    return model


def ptychovit(path: Any, N: int = 32, batch: int = 4, *, dynamic: bool = False, optimize: bool = True) -> Any:
    """Export a small vision transformer from torch, attention block, class token and all; return the native module."""
    import logging
    import warnings

    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

        def forward(self, x: Tensor) -> Tensor:
            B, T, W = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(B, T, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4)
            x = x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, W))
            return x + self.mlp(self.after(x))

    class VisionTransformer(nn.Module):
        def __init__(self, width: int = 32, patch: int = 8) -> None:
            super().__init__()
            self.patch, self.side = patch, N // patch
            self.embed = nn.Conv2d(1, width, patch, patch)
            self.token = nn.Parameter(torch.randn(1, 1, width))
            self.positions = nn.Parameter(torch.randn(1, self.side**2 + 1, width))
            self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
            self.head = nn.Linear(width, 2 * patch**2)

        def forward(self, x: Tensor) -> Tensor:
            B = x.shape[0]
            x = self.embed(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(B, -1, -1), x], dim=1) + self.positions
            x = self.head(self.blocks(x)[:, 1:])
            x = x.reshape(B, self.side, self.side, 2, self.patch, self.patch).permute(0, 3, 1, 4, 2, 5)
            x = x.reshape(B, 2, N, N)
            return torch.cat([torch.sigmoid(x[:, :1]) * 1.2, torch.tanh(x[:, 1:]) * torch.pi], dim=1)

    torch.manual_seed(0)
    network = VisionTransformer().eval()
    shapes = {"dynamic_shapes": ({0: torch.export.Dim("B")},)} if dynamic else {}
    level = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.onnx.export(
            network, (torch.rand(batch, 1, N, N),), path, dynamo=True, opset_version=18, external_data=False,
            input_names=["input"], output_names=["output"], optimize=optimize, verbose=False, **shapes,
        )  # fmt: skip
        logging.disable(level)
    return network
