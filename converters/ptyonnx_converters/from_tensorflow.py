"""From a Keras network to canonical ONNX, by tf2onnx.

Twin of `from_pytorch.py`. Only the export is here; that it is the recipe's graph with
the network's weights is proved in `canonical.py`.
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
        An ONNX model without metadata: the same bytes for the same weights, whatever
        framework they come from.

    Raises
    ------
    ConversionError
        The exporter's graph is not that of the recipe, or holds other weights.
    MissingDependencyError
        The exporter is not installed.
    """
    require("tensorflow", "onnx", "tf2onnx")
    from ptyonnx_converters.canonical import canonical_model

    return canonical_model(export(network, recipe), recipe, network.weights_by_name())


def export(network: NativeNetwork, recipe: Recipe) -> ModelProto:
    """Let the exporter write the graph as it likes.

    From a function, since `keras.Model.export` names inputs and outputs in its own way.
    """
    import tensorflow as tf  # whoever made the network has loaded it, and decided how

    assert isinstance(network, tf.keras.Model)
    signature = [tf.TensorSpec((None, recipe.channels, recipe.N, recipe.N), tf.float32, name="diffraction")]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def predict(diffraction: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"object": network(diffraction)}

    with quiet(*_LOGGERS):
        import tf2onnx

        model: ModelProto = tf2onnx.convert.from_function(predict, input_signature=signature, opset=OPSET)[0]
    return model
