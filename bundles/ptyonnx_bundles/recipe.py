"""The network recipe: layers, canonical names, shapes and initial weights, without a framework.

Both native networks, both exporters and the bundle format use this file; it does not depend on
TensorFlow, PyTorch or ONNX Runtime. The architecture is PtychoPINN's convolutional
autoencoder without its border branch: a shared encoder, two decoders (amplitude and phase).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["AMPLITUDE_MAX", "FAMILIES", "HEADS", "KERNEL", "Convolution", "Family", "Node", "Recipe"]

HEADS: tuple[Literal["amplitude"], Literal["phase"]] = ("amplitude", "phase")
KERNEL = 3  # pixels, every convolution
# Slope of the activation below zero, by family. A ReLU whose input a large step has made negative for
# every pattern has no gradient any more, and enough of these disable a whole head; a leaky ReLU recovers.
# One eighth is exact in float32, so that the frameworks and the graph have the same bits.
FAMILIES: dict[str, float] = {"two-headed-cnn-1": 0.0, "two-headed-cnn-2": 0.125}
AMPLITUDE_MAX = 1.5  # a transmission is at most 1; the margin allows for an error of the probe's scale
OUTPUT_GAIN = 0.01  # the last convolutions start small, so that training starts at vacuum
VACUUM_LOGIT = math.log(2.0)  # sigmoid(log 2) = 2/3, times AMPLITUDE_MAX = 1
DEEPEST_FILTERS = 128  # before `filters_scale`
FIRST_DECODER_FILTERS = 64
LEAST_DECODER_FILTERS = 16
SMALLEST_N = 32
LARGEST_N = 1024


Family = Literal["two-headed-cnn-1", "two-headed-cnn-2"]


class Convolution(NamedTuple):
    """One 3x3 convolution: canonical name, channels in and out."""

    name: str
    channels_in: int
    channels_out: int

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the kernel: (out, in, y, x)."""
        return (self.channels_out, self.channels_in, KERNEL, KERNEL)


class Node(NamedTuple):
    """One operator of the canonical graph.

    The node writes one value, named like the node itself. `inputs` are node names,
    the graph input or names of initializers.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    attributes: tuple[tuple[str, float | int | str | tuple[int, ...]], ...] = ()


_CONVOLUTION_ATTRIBUTES = (
    ("dilations", (1, 1)),
    ("group", 1),
    ("kernel_shape", (KERNEL, KERNEL)),
    ("pads", (1, 1, 1, 1)),
    ("strides", (1, 1)),
)
_POOL_ATTRIBUTES = (
    ("ceil_mode", 0),
    ("dilations", (1, 1)),
    ("kernel_shape", (2, 2)),
    ("pads", (0, 0, 0, 0)),
    ("storage_order", 0),
    ("strides", (2, 2)),
)
_UPSAMPLE_ATTRIBUTES = (
    ("coordinate_transformation_mode", "asymmetric"),
    ("mode", "nearest"),
    ("nearest_mode", "floor"),
)


class Recipe(BaseModel):
    """The architecture of a network; equal recipes have equal weight names and shapes in every framework.

    Attributes
    ----------
    name : str
        Name of the family; its number increases when the meaning of the other fields changes. The second
        family has leaky ReLUs instead of ReLUs.
    N : int
        Width and height of a diffraction pattern and of an object patch, in pixels.
    gridsize : int
        ``gridsize**2`` neighbouring patterns enter the network together as channels.
    filters_scale : float
        Factor on the number of filters of every layer.
    depth : int
        Number of poolings; by default it follows from N.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Family = "two-headed-cnn-2"
    N: int = Field(ge=SMALLEST_N, le=LARGEST_N)
    gridsize: int = Field(default=1, ge=1, le=4)
    filters_scale: float = Field(default=0.5, gt=0, le=8)
    depth: int = Field(default=0, ge=0, le=6, description="0: chosen from N")

    @model_validator(mode="before")
    @classmethod
    def _choose_depth(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        N, depth = values.get("N"), values.get("depth", 0)
        if type(N) is int and type(depth) is int and depth == 0:  # False equals 0 in Python but not in a manifest
            return {**values, "depth": default_depth(N)}
        return values

    @model_validator(mode="after")
    def _check_size(self) -> Recipe:
        if self.N % 16:
            raise ValueError(f"N = {self.N} is not a multiple of 16")
        if self.N % 2**self.depth or self.N // 2**self.depth < 2:
            raise ValueError(f"N = {self.N} cannot be halved {self.depth} times (depth)")
        return self

    @property
    def channels(self) -> int:
        """Patterns per group, C = gridsize squared."""
        return self.gridsize**2

    @property
    def leak(self) -> float:
        """Slope of the activation below zero; 0 for a ReLU."""
        return FAMILIES[self.name]

    @property
    def encoder_filters(self) -> tuple[int, ...]:
        """Filters of each encoder level."""
        return tuple(self._filters(DEEPEST_FILTERS / 2 ** (self.depth - 1 - level)) for level in range(self.depth))

    @property
    def decoder_filters(self) -> tuple[int, ...]:
        """Filters of each decoder level."""
        return tuple(
            self._filters(max(LEAST_DECODER_FILTERS, FIRST_DECODER_FILTERS / 2**level)) for level in range(self.depth)
        )

    def _filters(self, number: float) -> int:
        return max(1, round(number * self.filters_scale))

    def convolutions(self) -> tuple[Convolution, ...]:
        """List all convolutions in order of computation."""
        layers = []
        channels = self.channels
        for level, filters in enumerate(self.encoder_filters):
            layers.append(Convolution(f"encoder.{level}.conv.0", channels, filters))
            layers.append(Convolution(f"encoder.{level}.conv.1", filters, filters))
            channels = filters
        for head in HEADS:
            into = channels
            for level, filters in enumerate(self.decoder_filters):
                layers.append(Convolution(f"decoder.{head}.{level}.conv.0", into, filters))
                layers.append(Convolution(f"decoder.{head}.{level}.conv.1", filters, filters))
                into = filters
            layers.append(Convolution(f"decoder.{head}.output", into, self.channels))
        return tuple(layers)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every trained array, kernels as (out, in, y, x)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.convolutions():
            shapes[f"{layer.name}.weight"] = layer.weight_shape
            shapes[f"{layer.name}.bias"] = (layer.channels_out,)
        return shapes

    def constant_shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of the constants that are computed from the training data."""
        return {"whitening.mean": (self.N, self.N), "whitening.scale": ()}

    def initial_weights(self, seed: int) -> dict[str, NDArray[np.float32]]:
        """Draw initial weights, with the same bits for every framework.

        He initialisation for kernels [He et al., ICCV 2015, eq. 15], zero biases; the output
        convolutions start small and with an amplitude of 1, so that training starts at vacuum.

        Parameters
        ----------
        seed : int
            Seed of the NumPy generator.

        Returns
        -------
        dict of str to ndarray
            float32, kernels (out, in, y, x).
        """
        generator = np.random.default_rng(seed)
        weights: dict[str, NDArray[np.float32]] = {}
        for layer in self.convolutions():
            deviation = math.sqrt(2.0 / ((1 + self.leak**2) * layer.channels_in * KERNEL * KERNEL))
            bias = 0.0
            if layer.name.endswith(".output"):
                deviation *= OUTPUT_GAIN
                bias = VACUUM_LOGIT if "amplitude" in layer.name else 0.0
            kernel = generator.standard_normal(layer.weight_shape) * deviation
            weights[f"{layer.name}.weight"] = kernel.astype(np.float32)
            weights[f"{layer.name}.bias"] = np.full(layer.channels_out, bias, np.float32)
        return weights

    def nodes(self) -> tuple[Node, ...]:
        """List the canonical graph from `diffraction` to `object`, in order of computation."""
        nodes = [
            Node("whitening.centred", "Sub", ("diffraction", "whitening.mean")),
            Node("whitening.scaled", "Mul", ("whitening.centred", "whitening.scale")),
        ]
        value = "whitening.scaled"
        for level in range(self.depth):
            value = _add_block(nodes, f"encoder.{level}", value, self.leak)
            nodes.append(Node(f"encoder.{level}.pool", "MaxPool", (value,), _POOL_ATTRIBUTES))
            value = nodes[-1].name
        for head in HEADS:
            _add_decoder(nodes, head, value, self)
        nodes += [
            Node("phase.cos", "Cos", ("phase",)),
            Node("real", "Mul", ("amplitude", "phase.cos")),
            Node("phase.sin", "Sin", ("phase",)),
            Node("imaginary", "Mul", ("amplitude", "phase.sin")),
            Node("real.last", "Unsqueeze", ("real", "complex.axis")),
            Node("imaginary.last", "Unsqueeze", ("imaginary", "complex.axis")),
            Node("object", "Concat", ("real.last", "imaginary.last"), (("axis", -1),)),
        ]
        return tuple(nodes)

    def graph_constants(self) -> dict[str, NDArray[np.generic]]:
        """Return the initializers of the canonical graph that the recipe alone determines."""
        return {
            "upsample.scales": np.array([1, 1, 2, 2], np.float32),
            "amplitude.maximum": np.array(AMPLITUDE_MAX, np.float32),
            "phase.maximum": np.array(np.pi, np.float32),
            "complex.axis": np.array([-1], np.int64),
        }


def _add_block(nodes: list[Node], name: str, value: str, leak: float) -> str:
    for index in range(2):
        conv = f"{name}.conv.{index}"
        nodes.append(Node(conv, "Conv", (value, f"{conv}.weight", f"{conv}.bias"), _CONVOLUTION_ATTRIBUTES))
        value = f"{name}.relu.{index}"
        nodes.append(Node(value, "LeakyRelu", (conv,), (("alpha", leak),)) if leak else Node(value, "Relu", (conv,)))
    return value


def _add_decoder(nodes: list[Node], head: str, value: str, recipe: Recipe) -> None:
    for level in range(recipe.depth):
        name = f"decoder.{head}.{level}"
        value = _add_block(nodes, name, value, recipe.leak)
        nodes.append(Node(f"{name}.upsample", "Resize", (value, "", "upsample.scales"), _UPSAMPLE_ATTRIBUTES))
        value = f"{name}.upsample"
    conv = f"decoder.{head}.output"
    squash = "Sigmoid" if head == "amplitude" else "Tanh"
    nodes += [
        Node(conv, "Conv", (value, f"{conv}.weight", f"{conv}.bias"), _CONVOLUTION_ATTRIBUTES),
        Node(f"{head}.squashed", squash, (conv,)),
        Node(head, "Mul", (f"{head}.squashed", f"{head}.maximum")),
    ]


def default_depth(N: int) -> int:
    """Choose the number of poolings for patterns of N x N pixels: 3 at 64, 4 at 128, 5 at 256.

    If N is not divisible that often, the largest possible number.
    """
    wanted = 3 if N < 128 else 4 if N < 256 else 5
    while wanted > 1 and N % 2**wanted:
        wanted -= 1
    return wanted
