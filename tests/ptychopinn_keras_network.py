"""PtychoPINN's TensorFlow network, written anew for tests: layers with its names, nothing else of it."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ptychopinn_variant import DECODER, ENCODER, Variant

__all__ = ["make_network"]

OUTER = 4


class IntensityScaler(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs[0] / 988.0


class ActivationLayer(keras.layers.Layer):
    def __init__(self, activation_name: str, scale: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.activation_name, self.scale = activation_name, scale

    def call(self, inputs: Any) -> Any:
        if self.activation_name == "tanh":
            return self.scale * tf.tanh(inputs)
        return keras.activations.get(self.activation_name)(inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation_name": self.activation_name, "scale": self.scale}


class CenterMaskLayer(keras.layers.Layer):
    def __init__(self, N: int, c: int, kind: str, **options: Any) -> None:
        super().__init__(**options)
        self.N, self.c, self.kind = N, c, kind
        self.zero_pad = keras.layers.ZeroPadding2D((N // 4, N // 4))

    def call(self, inputs: Any) -> Any:
        return 1 - self.zero_pad(tf.ones((tf.shape(inputs)[0], self.N // 2, self.N // 2, self.c)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "N": self.N, "c": self.c, "kind": self.kind}


class CombineComplexLayer(keras.layers.Layer):
    def __init__(self, use_polar: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.use_polar = use_polar

    def call(self, inputs: Any) -> Any:
        amplitude, phase = inputs
        return tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "use_polar": self.use_polar}


class ReassemblePatchesLayer(keras.layers.Layer):
    """At equal positions: the sum of all patches over the number of their centres, plus 0.001."""

    def __init__(self, padded_size: int, N: int, gridsize: int, **options: Any) -> None:
        super().__init__(**options)
        self.padded_size, self.N, self.gridsize = padded_size, N, gridsize

    def call(self, inputs: Any) -> Any:
        patches, quarter, margin = inputs[0], self.N // 4, (self.padded_size - self.N) // 2
        centre = np.zeros((self.N, self.N, 1), np.float32)
        centre[quarter:-quarter, quarter:-quarter] = 1
        merged = tf.reduce_sum(patches, -1, keepdims=True) / (self.gridsize**2 * centre + 0.001)
        return tf.pad(merged, [[0, 0], [margin, margin], [margin, margin], [0, 0]])

    def get_config(self) -> dict[str, Any]:
        sizes = {"padded_size": self.padded_size, "N": self.N, "gridsize": self.gridsize}
        return {**super().get_config(), **sizes}


class PadReconstructionLayer(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return tf.pad(inputs, [[0, 0], [5, 5], [5, 5], [0, 0]])


class TrimReconstructionLayer(keras.layers.Layer):
    def __init__(self, output_size: int, **options: Any) -> None:
        super().__init__(**options)
        self.output_size = output_size

    def call(self, inputs: Any) -> Any:
        margin = (inputs.shape[1] - self.output_size) // 2
        return inputs[:, margin:-margin, margin:-margin]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "output_size": self.output_size}


for _layer in (
    IntensityScaler, ActivationLayer, CenterMaskLayer, CombineComplexLayer, ReassemblePatchesLayer,
    PadReconstructionLayer, TrimReconstructionLayer,
):  # fmt: skip
    _layer.__module__ = "ptycho.custom_layers"


def make_network(variant: Variant) -> tuple[keras.Model, keras.Model]:
    """The model that is saved, and one that gives amplitude and phase of its patches."""
    keras.utils.set_random_seed(7)
    keras.utils.clear_session()
    N = variant.N
    diffraction = keras.Input((N, N, variant.channels), name="input")
    positions = keras.Input((1, 2, variant.channels), name="input_positions")
    x = IntensityScaler(name="intensity_scaler")([diffraction])
    for width in variant.filters(ENCODER[N]):
        x = keras.layers.MaxPooling2D(2, padding="same")(_convolve_twice(x, width))
    amplitude = _decode(variant, x, ActivationLayer(variant.amp_activation, name="amp"), "amp")
    phase = _decode(variant, x, ActivationLayer("tanh", scale=math.pi, name="phi"), "phase")
    patches = CombineComplexLayer(name="obj", dtype="float32")([amplitude, phase])
    if variant.object_big:
        merge = ReassemblePatchesLayer(N + 10, N, variant.gridsize, name="padded_obj_2", dtype="complex64")
        merged = merge([patches, positions])
    else:
        merged = PadReconstructionLayer(name="padded_obj_2", dtype="complex64")(patches)
    trimmed = TrimReconstructionLayer(N, name="trimmed_obj", dtype="complex64")(merged)
    model = keras.Model([diffraction, positions], [trimmed])
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, 0.1 * random.standard_normal(bias.shape)])
    return model, keras.Model([diffraction, positions], [amplitude, phase])


def _convolve_twice(x: Any, width: int) -> Any:
    for _ in range(2):
        x = keras.layers.Conv2D(width, 3, activation="relu", padding="same")(x)
    return x


def _enlarge(x: Any, width: int) -> Any:
    return keras.layers.UpSampling2D(2)(_convolve_twice(x, width))


def _decode(variant: Variant, x: Any, activation: keras.layers.Layer, name: str) -> Any:
    heads, N = variant.channels if variant.object_big else 1, variant.N
    wide = keras.initializers.VarianceScaling(8)
    final, around = (keras.layers.Conv2D(heads, 3, padding="same", kernel_initializer=wide) for _ in range(2))
    for width in variant.filters(DECODER[N]):
        x = _enlarge(x, width)
    (width,) = variant.filters((2048 // N,))
    if not variant.pad_object:
        return activation(around(_enlarge(x, width)))
    inside = activation(final(x[..., :-OUTER]))
    inside = keras.layers.ZeroPadding2D((N // 4, N // 4), name=f"{name}_padded")(inside)
    if not variant.probe_big:
        return inside
    outside = keras.activations.silu(around(_enlarge(x[..., -OUTER:], width)))
    return inside + outside * CenterMaskLayer(N, 1, "border")(outside)
