"""Attention that torch exported for a fixed batch: the batch is freed, and new operators are expanded."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from adopting import PLAIN, adopted
from float32_bounds import of_bundle

from ptyonnx.exchange.adopting import example_patterns
from ptyonnx_converters.foreign.declaration import Declaration, Source
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical

N, PATCH, WIDTH = 32, 8, 16
DECLARED = Declaration(
    **{
        **{name: getattr(PLAIN, name) for name in ("system", "zero_frequency", "scale", "limit", "transform", "mean_photons")},
        "values": "amplitude", "phase": Source("output", 1), "amplitude": Source("output", 0),
    }
)  # fmt: skip
KINDS = ["batch first", "sequence first", "gelu"]


def network(kind: str) -> Any:
    """A small transformer with a class token: torch's own layer, batch or sequence first, or with GELU in it."""
    import torch
    from torch import Tensor, nn

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.side = N // PATCH
            self.embed = nn.Conv2d(1, WIDTH, PATCH, PATCH)
            self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
            self.positions = nn.Parameter(torch.randn(1, self.side**2 + 1, WIDTH) * 0.1)
            self.layer = nn.TransformerEncoderLayer(
                WIDTH,
                2,
                2 * WIDTH,
                batch_first=kind != "sequence first",
                activation="gelu" if kind == "gelu" else "relu",
            )
            self.head = nn.Linear(WIDTH, 2 * PATCH**2)

        def forward(self, x: Tensor) -> Tensor:
            B = x.shape[0]
            x = self.embed(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(B, -1, -1), x], 1) + self.positions
            if kind == "sequence first":
                x = self.layer(x.transpose(0, 1)).transpose(0, 1)[:, 1:]
            else:
                x = self.layer(x)[:, 1:]
            x = self.head(x).reshape(B, self.side, self.side, 2, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
            return torch.tanh(x.reshape(B, 2, N, N))

    torch.manual_seed(0)
    return Transformer().eval()


def exported(module: Any, path: Path, batch: int, **options: Any) -> None:
    """Export it for a fixed batch, without output."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            torch.onnx.export(
                module, (torch.zeros(batch, 1, N, N),), path, input_names=["input"], output_names=["output"], **options
            )
        finally:
            logging.disable(logging.NOTSET)


def assert_computes(bundle: Any, module: Any) -> None:
    """Compare with torch, for numbers of patterns other than the exported batch."""
    import torch

    diffraction = np.concatenate([example_patterns(N, 1, 1e4)] * 3)[:7]
    with torch.no_grad():
        amplitude, phase = module(torch.from_numpy(diffraction)).numpy().swapaxes(0, 1)
    atol = of_bundle(bundle.model, diffraction)
    for count in (7, 1, 4):
        found = Session(bundle, threads=1).run(diffraction[:count])[:, 0]
        np.testing.assert_allclose(found, (amplitude * np.exp(1j * phase))[:count], rtol=0, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("batch", [1, 2, 5, 17, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_batch_of_attention_is_freed(kind: str, batch: int, dynamo: bool, tmp_path: Path) -> None:
    """17 is the number of tokens and must not be confused with it."""
    module = network(kind)
    options = {"dynamo": True, "external_data": False} if dynamo else {"dynamo": False, "opset_version": 17}
    exported(module, tmp_path / "net.onnx", batch, **options)
    bundle = adopted(onnx.load(tmp_path / "net.onnx"), tmp_path, DECLARED)
    assert_computes(bundle, module)


@pytest.mark.slow
@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("opset", [18, 20, 23])
def test_operators_newer_than_a_bundles_are_written_out(opset: int, approximate: str, tmp_path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.GELU(approximate), nn.Conv2d(8, 2, 3, padding=1), nn.Tanh()
    ).eval()  # fmt: skip
    exported(module, tmp_path / "net.onnx", 4, dynamo=True, external_data=False, opset_version=opset)
    bundle = adopted(onnx.load(tmp_path / "net.onnx"), tmp_path, DECLARED)
    assert_computes(bundle, module)
