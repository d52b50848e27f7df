"""Convert a Keras network to canonical ONNX, by tf2onnx.

The counterpart of `from_pytorch.py`. This file only exports; `canonical.py` proves that the result is the
recipe's graph with the network's weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptyonnx_bundles import OPSET, Recipe
from ptyonnx_converters.exporters import NativeNetwork, quiet, require

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["convert", "export"]

_LOGGERS = ("tf2onnx", "tensorflow", "absl")


def convert(network: NativeNetwork, recipe: Recipe) -> bytes:
    """Export a network.

    Parameters
    ----------
    network : keras.Model
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
    require("tensorflow", "onnx", "tf2onnx")
    from ptyonnx_converters.canonical import canonical_model

    return canonical_model(export(network, recipe), recipe, network.weights_by_name())


def export(network: NativeNetwork, recipe: Recipe) -> ModelProto:
    """Export the network; the result is not canonical yet.

    A function is exported, since `keras.Model.export` would choose the names of inputs and outputs.
    """
    import tensorflow as tf  # already loaded by the caller

    assert isinstance(network, tf.keras.Model)
    signature = [tf.TensorSpec((None, recipe.channels, recipe.N, recipe.N), tf.float32, name="diffraction")]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def predict(diffraction: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"object": network(diffraction)}

    with quiet(*_LOGGERS):
        import tf2onnx

        model: ModelProto = tf2onnx.convert.from_function(predict, input_signature=signature, opset=OPSET)[0]
    return model
