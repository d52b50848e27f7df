"""The Keras layers that PtychoPINN uses, each as ONNX nodes.

Each function takes a layer's configuration and inputs, and returns its output. A layer or option that is
not listed here is refused: nothing is guessed, and no code of the configuration is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.ptychopinn.patch_graph import PatchGraph, checked_weight

__all__ = ["LAYERS", "Image", "Layer", "Patches", "Positions", "Value"]

_ACTIVATIONS = {
    "sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "softplus": "softplus", "swish": "silu", "silu": "silu",
}  # fmt: skip


class Image(NamedTuple):
    """A value of the graph: (batch, channel, y, x)."""

    name: str
    channels: int
    size: int


class Positions(NamedTuple):
    """The second input; no patch depends on it."""


class Patches(NamedTuple):
    """The complex object of each pattern.

    Attributes
    ----------
    amplitude, phase : Image
    merged : str
        Empty before merging; "positions" if a layer has merged patches at the patterns' positions, "group"
        if one patch in the middle of the group stands for the whole group.
    """

    amplitude: Image
    phase: Image
    merged: str = ""


Value = Image | Positions | Patches


@dataclass(frozen=True)
class Layer:
    """A layer of the configuration, to be written as nodes.

    Attributes
    ----------
    name, kind : str
        Its name and the name of its class.
    options : mapping of str to object
        Its configuration.
    inputs : tuple of Value
    arguments : tuple of object
        Its call arguments that are not values.
    weights : mapping of str to ndarray
        `<name>.weight` and `<name>.bias` of convolutions.
    file : Path
        Named in errors.
    """

    name: str
    kind: str
    options: Mapping[str, Any]
    inputs: tuple[Value, ...]
    arguments: tuple[Any, ...]
    weights: Mapping[str, NDArray[Any]]
    file: Path

    @property
    def node(self) -> str:
        """Name of its node; the prefix separates it from names that do not come from the file."""
        return f"network.{self.name}"

    def expect(self, option: str, *allowed: Any) -> Any:
        """Return an option, which must have one of the allowed values."""
        found = self.options.get(option)
        if not any(type(found) is type(value) and found == value for value in allowed):
            shown = found if option in self.options else "nothing"
            raise self.refused(f"{self.kind} with an unsupported {option}", shown, " or ".join(map(repr, allowed)))
        return found

    def refused(self, problem: str, found: object = None, expected: object = None) -> ConversionError:
        """Make an error that names this layer."""
        return ConversionError(problem, file=self.file, key=self.name, found=found, expected=expected)

    def images(self, count: int) -> tuple[Image, ...]:
        """Return the inputs, which must be `count` images."""
        images = tuple(value for value in self.inputs if isinstance(value, Image))
        if len(images) != count or len(self.inputs) != count:
            raise self.refused(f"{self.kind} with unsupported inputs", len(self.inputs), f"{count} images")
        return images

    def patches(self) -> Patches:
        """Return the first input, which must be the complex object."""
        if not self.inputs or not isinstance(self.inputs[0], Patches):
            raise self.refused(f"{self.kind} of an input that is not the object")
        return self.inputs[0]


def _input(graph: PatchGraph, layer: Layer) -> Value:
    match layer.options.get("batch_shape"):
        case [None, int(height), int(width), int(channels)] if height == width:
            return Image(graph.INPUT, channels, width)
        case [None, 1, 2, int()]:
            return Positions()
        case shape:
            raise layer.refused("an input that is neither diffraction nor positions", shape)


def _scale(_: PatchGraph, layer: Layer) -> Value:
    """Pass the input on: this layer and the earlier multiplication by the same factor cancel."""
    return layer.images(1)[0]


def _conv(graph: PatchGraph, layer: Layer) -> Value:
    (image,) = layer.images(1)
    for option, value in (
        ("strides", [1, 1]), ("dilation_rate", [1, 1]), ("padding", "same"), ("data_format", "channels_last"),
        ("groups", 1), ("use_bias", True),
    ):  # fmt: skip
        layer.expect(option, value)
    filters, kernel_size = layer.options.get("filters"), layer.expect("kernel_size", [1, 1], [3, 3], [5, 5], [7, 7])
    activation = layer.expect("activation", "relu", "linear", *_ACTIVATIONS)
    if type(filters) is not int:
        raise layer.refused("Conv2D without a number of filters", filters)
    shape = (*kernel_size, image.channels, filters)
    kernel = checked_weight(layer.weights, f"{layer.name}.weight", shape, layer.file)
    bias = checked_weight(layer.weights, f"{layer.name}.bias", (filters,), layer.file)
    result = graph.conv(image.name, np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias, layer.node)
    if activation != "linear":
        result = graph.activate(result, _ACTIVATIONS[activation], f"{layer.node}.{activation}")
    return Image(result, filters, image.size)


def _pool(graph: PatchGraph, layer: Layer) -> Value:
    (image,) = layer.images(1)
    layer.expect("pool_size", [2, 2])
    layer.expect("strides", [2, 2])
    layer.expect("padding", "same", "valid")
    layer.expect("data_format", "channels_last")
    if image.size % 2:
        raise layer.refused("pooling of an odd size", image.size)
    return Image(graph.pool(image.name, layer.node), image.channels, image.size // 2)


def _upsample(graph: PatchGraph, layer: Layer) -> Value:
    (image,) = layer.images(1)
    layer.expect("size", [2, 2])
    layer.expect("interpolation", "nearest")
    layer.expect("data_format", "channels_last")
    return Image(graph.upsample(image.name, layer.node), image.channels, 2 * image.size)


def _item(graph: PatchGraph, layer: Layer) -> Value:
    """Select channels, ``[..., start:stop]``."""
    (image,) = layer.images(1)
    match layer.arguments:
        case ([{"class_name": "__ellipsis__"}, {"class_name": "__slice__", "config": dict(bounds)}],):
            start, stop, step = (bounds.get(key) for key in ("start", "stop", "step"))
        case _:
            raise layer.refused(
                "an unsupported selection; only channels can be selected", layer.arguments, "[..., start:stop]"
            )
    if not all(bound is None or type(bound) is int for bound in (start, stop, step)) or step not in {None, 1}:
        raise layer.refused("channel indices that are not integers", f"{start}:{stop}:{step}", "start:stop")
    first, last, _ = slice(start, stop).indices(image.channels)
    if first >= last:
        raise layer.refused("an empty selection of channels", f"{first} to {last} of {image.channels}")
    return Image(graph.channels(image.name, first, last, layer.node), last - first, image.size)


def _silu(graph: PatchGraph, layer: Layer) -> Value:
    (image,) = layer.images(1)
    return image._replace(name=graph.activate(image.name, "silu", layer.node))


def _activation(graph: PatchGraph, layer: Layer) -> Value:
    (image,) = layer.images(1)
    activation = _ACTIVATIONS[layer.expect("activation_name", *_ACTIVATIONS)]
    scale = layer.options.get("scale", 1.0)
    if not isinstance(scale, int | float) or not np.isfinite(scale) or (scale != 1 and activation != "tanh"):
        raise layer.refused("an activation with an unsupported scale", scale, 1)
    return image._replace(name=graph.activate(image.name, activation, layer.node, float(scale)))


def _mask(graph: PatchGraph, layer: Layer) -> Value:
    (image,) = layer.images(1)
    kind = layer.expect("kind", "border", "center")
    N = layer.expect("N", image.size)
    channels = layer.expect("c", 1, image.channels)
    quarter = N // 4
    mask = np.zeros((1, channels, N, N), np.float32)
    mask[..., quarter : quarter + N // 2, quarter : quarter + N // 2] = 1
    return Image(graph.constant(layer.node, 1 - mask if kind == "border" else mask), channels, N)


def _pad(graph: PatchGraph, layer: Layer) -> Value:
    (image,) = layer.images(1)
    layer.expect("data_format", "channels_last")
    match layer.options.get("padding"):
        case [[int(top), int(bottom)], [int(left), int(right)]] if (
            top + bottom == left + right
            and 0 <= min(top, bottom, left, right) <= max(top, bottom, left, right) <= image.size
        ):
            name = graph.pad(image.name, (top, left), (bottom, right), layer.node)
            return Image(name, image.channels, image.size + top + bottom)
        case padding:
            raise layer.refused("ZeroPadding2D with an unsupported padding", padding)


def _binary(graph: PatchGraph, layer: Layer) -> Value:
    first, second = layer.images(2)
    if first.size != second.size or (first.channels != second.channels and 1 not in {first.channels, second.channels}):
        raise layer.refused("two images of incompatible shapes", (first[1:], second[1:]))
    name = graph.add({"Add": "Add", "Multiply": "Mul"}[layer.kind], (first.name, second.name), layer.node)
    return Image(name, max(first.channels, second.channels), first.size)


def _combine(_: PatchGraph, layer: Layer) -> Value:
    layer.expect(
        "use_polar", True
    )  # False or absent in versions that treated amplitude and phase as real and imaginary part
    amplitude, phase = layer.images(2)
    return Patches(amplitude, phase)


def _reassemble(_: PatchGraph, layer: Layer) -> Value:
    """Mark the patches as merged at their positions; a bundle outputs the patches, and the runtime stitches them."""
    return _merged(layer, "positions")


def _pad_reconstruction(_: PatchGraph, layer: Layer) -> Value:
    return _merged(layer, "group")


def _merged(layer: Layer, merged: str) -> Value:
    patches = layer.patches()
    if patches.merged:
        raise layer.refused("the object is merged twice")
    return patches._replace(merged=merged)


def _trim(_: PatchGraph, layer: Layer) -> Value:
    patches = layer.patches()
    layer.expect("output_size", patches.amplitude.size)
    return patches


# Class of a layer -> top package of its module, and the function that writes it.
LAYERS: Mapping[str, tuple[str, Callable[[PatchGraph, Layer], Value]]] = {
    "InputLayer": ("keras", _input),
    "Conv2D": ("keras", _conv),
    "MaxPooling2D": ("keras", _pool),
    "UpSampling2D": ("keras", _upsample),
    "ZeroPadding2D": ("keras", _pad),
    "GetItem": ("keras", _item),
    "Silu": ("keras", _silu),
    "Add": ("keras", _binary),
    "Multiply": ("keras", _binary),
    "IntensityScaler": ("ptycho", _scale),
    "ActivationLayer": ("ptycho", _activation),
    "CenterMaskLayer": ("ptycho", _mask),
    "CombineComplexLayer": ("ptycho", _combine),
    "ReassemblePatchesLayer": ("ptycho", _reassemble),
    "PadReconstructionLayer": ("ptycho", _pad_reconstruction),
    "TrimReconstructionLayer": ("ptycho", _trim),
}
