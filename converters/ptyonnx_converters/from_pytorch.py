"""Convert a PyTorch network to canonical ONNX, by `torch.onnx` (dynamo).

The counterpart of `from_tensorflow.py`. This file only exports; `canonical.py` proves that the result is
the recipe's graph with the network's weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptyonnx_bundles import OPSET, Recipe
from ptyonnx_converters.exporters import NativeNetwork, quiet, require

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["convert", "export"]

_LOGGERS = ("torch.onnx", "torch.export", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")


def convert(network: NativeNetwork, recipe: Recipe) -> bytes:
    """Export a network.

    Parameters
    ----------
    network : torch.nn.Module
        Of the recipe's architecture, float32, with `weights_by_name()`.
    recipe : Recipe

    Returns
    -------
    bytes
        An ONNX model without metadata: the same bytes for the same weights from either framework.

    Raises
    ------
    ConversionError
        The exported graph is not that of the recipe, or has other weights.
    MissingDependencyError
        The exporter is not installed.
    """
    require("torch", "onnx", "onnxscript")
    from ptyonnx_converters.canonical import canonical_model

    return canonical_model(export(network, recipe), recipe, network.weights_by_name())


def export(network: NativeNetwork, recipe: Recipe) -> ModelProto:
    """Export the network; the result is not canonical yet.

    The example has two patterns, since `torch.export` treats a batch of one as a constant. `optimize`
    would merge equal layers and fold constants, and a bundle never has external data: both are off.
    """
    import torch  # already loaded by the caller

    assert isinstance(network, torch.nn.Module)
    device = next(network.parameters()).device
    example = torch.zeros(2, recipe.channels, recipe.N, recipe.N, device=device)
    with quiet(*_LOGGERS):
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["diffraction"],
            output_names=["object"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto
