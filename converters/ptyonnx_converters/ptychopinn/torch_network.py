"""Write PtychoPINN's PyTorch network as a graph; names and shapes of its weights determine the layers.

The encoder has blocks of two convolutions, optionally batch normalisation and CBAM attention, and a
pooling; the two decoders have blocks of two convolutions and an upsampling, and each has a head. Settings
that the weights do not show come from those that PtychoPINN stores beside them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.ptychopinn.patch_graph import PatchGraph, checked_weight

__all__ = ["TorchNetwork", "build_torch"]

_PREFIX = "model.autoencoder."
# Scales and factors of the forward model, which the patches do not pass through.
_PHYSICS = "model.forward_model."
_SIZES = {3: 64, 4: 128, 5: 256}  # levels of the encoder -> N
_BATCH_NORM_EPSILON = 1e-5  # default of torch.nn.BatchNorm2d
_HEADS = {"amplitude": "amp", "phase": "phase"}
_ACTIVATIONS = {"sigmoid": "sigmoid", "silu": "silu", "swish": "silu", "SiLU": "silu"}


@dataclass(frozen=True)
class TorchNetwork:
    """The graph and the settings that the weights show."""

    model: bytes
    N: int
    channels: int
    filters_scale: float
    attention: bool


def build_torch(
    state: Mapping[str, NDArray[Any]], *, probe_big: bool, amp_activation: str, legacy_heads: bool, file: Path
) -> TorchNetwork:
    """Write the graph of a state dict.

    Parameters
    ----------
    state : mapping of str to ndarray
        The whole state dict.
    probe_big : bool
        Whether the object is predicted outside the central half as well.
    amp_activation : str
        Activation of the amplitude.
    legacy_heads : bool
        Whether the number of a head's outer channels may differ from that of its output channels.
    file : Path
        Named in errors.

    Raises
    ------
    ConversionError
        A weight is missing, unknown, not finite or of the wrong shape, or the activation is not one of
        PtychoPINN's PyTorch network.
    """
    if amp_activation not in _ACTIVATIONS:
        raise ConversionError(
            "an unsupported activation", file=file, key="amp_activation",
            found=amp_activation, expected=", ".join(_ACTIVATIONS),
        )  # fmt: skip
    levels = _count(state, "encoder.blocks")
    if levels not in _SIZES:
        raise ConversionError(
            "not a network of PtychoPINN", file=file, key=f"{_PREFIX}encoder.blocks",
            found=f"{levels} levels", expected="3, 4 or 5 (N = 64, 128, 256)",
        )  # fmt: skip
    N = _SIZES[levels]
    builder = _Builder(state, file, N, probe_big, legacy_heads)
    channels = builder.encoder(levels)
    heads = {}
    for name, short in _HEADS.items():
        activation, scale = (_ACTIVATIONS[amp_activation], 1.0) if name == "amplitude" else ("tanh", math.pi)
        value = builder.decoder(f"decoder_{short}", levels - 1)
        heads[name] = builder.head(f"decoder_{short}.{short}", value, name, activation, scale)
    builder.check_all_used()
    _check_heads(builder.head_channels, channels, file)
    builder.graph.to_object(heads["amplitude"], heads["phase"])
    first = builder.weights[f"{_PREFIX}encoder.blocks.{levels - 1}.conv1.bias"]
    model = builder.graph.finish(N, channels, "PtychoPINN")
    return TorchNetwork(model, N, channels, len(first) / 128, builder.attention)


def _check_heads(heads: set[int], channels: int, file: Path) -> None:
    """Check that there is one patch per pattern; amplitude or phase may be common to a group."""
    if heads == {1} and channels > 1 and math.isqrt(channels) ** 2 == channels:
        # In training, such a patch would be compared with every pattern of its group without a shift;
        # PtychoPINN itself does not allow that.
        raise ConversionError(
            "one patch for a group of patterns, at an unknown position in the group", file=file,
            found=f"heads of 1 channel for {channels} patterns", expected=f"{channels} channels, or 1 pattern",
            remedy="train with object_big on, or with one pattern per group",
        )  # fmt: skip
    if math.isqrt(channels) ** 2 != channels or channels not in heads or heads - {1, channels}:
        raise ConversionError(
            "the heads do not output one patch per pattern", file=file, found=sorted(heads),
            expected=f"{channels} channels, as the input, and a square number",
        )  # fmt: skip


def _count(state: Mapping[str, NDArray[Any]], prefix: str) -> int:
    """Count the blocks of a list of modules, numbered from 0; any weight of a block shows that it exists."""
    numbers = (re.match(rf"{re.escape(_PREFIX + prefix)}\.([0-9]{{1,3}})\.", name) for name in state)
    return max((int(number[1]) + 1 for number in numbers if number), default=0)


class _Builder:
    """Append the nodes of the network, with their weights by name."""

    def __init__(
        self, state: Mapping[str, NDArray[Any]], file: Path, N: int, probe_big: bool, legacy_heads: bool
    ) -> None:
        self.graph = PatchGraph()
        self.weights = state
        self.attention = False
        self.head_channels: set[int] = set()
        self._file, self._N, self._probe_big, self._legacy_heads = file, N, probe_big, legacy_heads
        self._used: set[str] = set()
        self._width = 0  # channels of the last value
        self._bottom = ""
        self._bottom_width = 0

    def encoder(self, levels: int) -> int:
        """Append all levels; return the number of input channels."""
        first = self._take("encoder.blocks.0.conv1.weight", (None, None, None, None))
        channels: int = first.shape[1]
        self._width = channels
        value = PatchGraph.INPUT
        for level in range(levels):
            block = f"encoder.blocks.{level}"
            value = self._block(block, value)
            if self._has(f"{block}.attention.ChannelGate", f"{block}.attention.SpatialGate"):
                value = self._cbam(f"{block}.attention", value)
            value = self.graph.pool(value, f"{block}.pool")
        if self._has("bottleneck_cbam.ChannelGate", "bottleneck_cbam.SpatialGate"):
            value = self._cbam("bottleneck_cbam", value)
        self._bottom, self._bottom_width = value, self._width
        return channels

    def decoder(self, prefix: str, levels: int) -> str:
        """Append the levels of a decoder, up to half the size."""
        if (found := _count(self.weights, f"{prefix}.blocks")) != levels:
            raise ConversionError(
                "the depths of decoder and encoder differ", file=self._file, key=f"{_PREFIX}{prefix}.blocks",
                found=f"{found} levels", expected=levels,
            )  # fmt: skip
        value, self._width = self._bottom, self._bottom_width
        for level in range(levels):
            block = f"{prefix}.blocks.{level}"
            value = self.graph.upsample(self._block(block, value), f"{block}.up")
        return value

    def head(self, prefix: str, value: str, name: str, activation: str, scale: float) -> str:
        """Append a head: most channels give the central half, the last few the border at full size."""
        width, graph, N = self._width, self.graph, self._N
        outer = self._take(f"{prefix}.conv_up_block.conv1.weight", (None, None, 3, 3)).shape[1]
        if not 0 < outer < width:
            raise ConversionError(
                "the channels of a head do not fit its decoder", file=self._file, key=f"{_PREFIX}{prefix}.conv_up_block.conv1.weight",
                found=f"{outer} of {width} channels",
            )  # fmt: skip
        inside = graph.channels(value, 0, width - outer, f"{prefix}.inside")
        self._width = width - outer
        inside = self._conv(f"{prefix}.conv1", inside, norm=f"{prefix}.bn1")
        channels = self._width
        self.head_channels.add(channels)
        if outer != channels and not self._legacy_heads:
            # Versions before the border was masked split the channels differently.
            raise ConversionError(
                "heads of an unsupported version of PtychoPINN", file=self._file, key=f"{_PREFIX}{prefix}.conv_up_block.conv1.weight",
                found=f"{outer} outer channels", expected=channels, remedy="save the network again with PtychoPINN of 2026",
            )  # fmt: skip
        inside = graph.activate(inside, activation, f"{prefix}.activation", scale)
        quarter = (N // 4, N // 4)
        outside = graph.channels(value, width - outer, width, f"{prefix}.outside") if self._probe_big else None
        padded = graph.pad(inside, quarter, quarter, f"{prefix}.padded" if self._probe_big else name)
        self._width = outer
        if outside is None:
            self._skip(f"{prefix}.conv_up_block.conv1", f"{prefix}.conv_up_block.conv2", f"{prefix}.conv2")
            return padded
        outside = graph.upsample(self._block(f"{prefix}.conv_up_block", outside), f"{prefix}.conv_up_block.up")
        outside = self._conv(f"{prefix}.conv2", outside, norm=f"{prefix}.bn2")
        if self._width != channels:
            raise ConversionError(
                "the two parts of a head have different channels", file=self._file, key=f"{_PREFIX}{prefix}.conv2.weight",
                found=self._width, expected=channels,
            )  # fmt: skip
        outside = graph.activate(outside, "silu", f"{prefix}.outside.activation")
        border = np.ones((N, N), np.float32)
        border[N // 4 : -(N // 4), N // 4 : -(N // 4)] = 0
        outside = graph.add("Mul", (outside, graph.constant("border", border)), f"{prefix}.outside.masked")
        return graph.add("Add", (padded, outside), name)

    def check_all_used(self) -> None:
        """Refuse unused weights, which belong to an unsupported layer."""
        rest = [name for name in self.weights if name not in self._used and not name.startswith(_PHYSICS)]
        if rest:
            raise ConversionError(
                "a weight that PtychoPINN's network does not have", file=self._file, key=rest[0],
                found=f"{len(rest)} such weights",
                expected="convolutions, batch normalisation, and CBAM in the encoder or the bottleneck",
            )  # fmt: skip

    def _block(self, prefix: str, value: str) -> str:
        for index in (1, 2):
            value = self._conv(f"{prefix}.conv{index}", value, norm=f"{prefix}.bn{index}")
            value = self.graph.activate(value, "relu", f"{prefix}.relu{index}")
        return value

    def _conv(self, name: str, value: str, norm: str) -> str:
        kernel = self._take(f"{name}.weight", (None, self._width, 3, 3))
        self._width = len(kernel)
        value = self.graph.conv(value, kernel, self._take(f"{name}.bias", (self._width,)), name)
        return self._batch_norm(norm, value) if self._has(norm) else value

    def _batch_norm(self, name: str, value: str) -> str:
        """Append batch normalisation with the stored statistics of the training."""
        self._used.add(f"{_PREFIX}{name}.num_batches_tracked")
        parts = ("weight", "bias", "running_mean", "running_var")
        arrays = {part: self._take(f"{name}.{part}", (self._width,)) for part in parts}
        inputs = [self.graph.constant(f"{name}.{part}", array) for part, array in arrays.items()]
        return self.graph.add("BatchNormalization", (value, *inputs), name, epsilon=_BATCH_NORM_EPSILON)

    def _cbam(self, prefix: str, value: str) -> str:
        """Append CBAM (Woo et al., ECCV 2018): a factor for every channel, then one for every pixel."""
        self.attention = True
        graph, gate = self.graph, f"{prefix}.ChannelGate"
        total = self._channel_weights(gate, value)
        value = graph.add("Mul", (value, graph.activate(total, "sigmoid", f"{gate}.factor")), gate)
        gate = f"{prefix}.SpatialGate"
        axis = graph.constant("index.1", np.array([1], np.int64))
        largest = graph.add("ReduceMax", (value, axis), f"{gate}.max", keepdims=1)
        mean = graph.add("ReduceMean", (value, axis), f"{gate}.mean", keepdims=1)
        both = graph.add("Concat", (largest, mean), f"{gate}.both", axis=1)
        kernel = self._take(f"{gate}.compress.weight", (1, 2, None, None))
        if kernel.shape[2] != kernel.shape[3] or kernel.shape[2] % 2 == 0:
            raise ConversionError(
                "a kernel without a central pixel",
                file=self._file,
                key=f"{_PREFIX}{gate}.compress.weight",
                found=kernel.shape,
            )
        factor = graph.activate(graph.conv(both, kernel, None, f"{gate}.compress"), "sigmoid", f"{gate}.factor")
        return graph.add("Mul", (value, factor), gate)

    def _channel_weights(self, gate: str, value: str) -> str:
        """Append two dense layers on the mean and on the maximum of every channel, and the sum of both.

        Dense layers on (batch, channel, 1, 1) are convolutions of one pixel. The hidden layer has a
        sixteenth of the channels; below 16 channels it is empty, and only the last bias remains.
        """
        graph, names = self.graph, [f"{gate}.mlp.{number}" for number in (1, 3)]
        first = self._take(f"{names[0]}.weight", (None, self._width), empty=True)
        second = self._take(f"{names[1]}.weight", (self._width, len(first)), empty=True)
        biases = [self._take(f"{names[0]}.bias", (len(first),), empty=True)]
        biases.append(self._take(f"{names[1]}.bias", (self._width,)))
        if len(first) == 0:
            return graph.constant(f"{gate}.sum", 2 * biases[1][np.newaxis, :, np.newaxis, np.newaxis])
        inputs = [
            (
                graph.constant(f"{name}.weight", array[:, :, np.newaxis, np.newaxis]),
                graph.constant(f"{name}.bias", bias),
            )
            for name, array, bias in zip(names, (first, second), biases, strict=True)
        ]
        sums = []
        for operator, kind in (("GlobalAveragePool", "avg"), ("GlobalMaxPool", "max")):
            pooled = graph.add(operator, (value,), f"{gate}.{kind}")
            hidden = graph.add("Conv", (pooled, *inputs[0]), f"{names[0]}.{kind}", kernel_shape=[1, 1])
            hidden = graph.activate(hidden, "relu", f"{gate}.mlp.2.{kind}")
            sums.append(graph.add("Conv", (hidden, *inputs[1]), f"{names[1]}.{kind}", kernel_shape=[1, 1]))
        return graph.add("Add", (sums[0], sums[1]), f"{gate}.sum")

    def _has(self, *layers: str) -> bool:
        """Whether any weight of these layers exists; a missing one is then reported by its name."""
        prefixes = tuple(f"{_PREFIX}{layer}." for layer in layers)
        return any(name.startswith(prefixes) for name in self.weights)

    def _take(self, name: str, shape: tuple[int | None, ...], *, empty: bool = False) -> NDArray[np.float32]:
        self._used.add(f"{_PREFIX}{name}")
        return checked_weight(self.weights, f"{_PREFIX}{name}", shape, self._file, empty=empty)

    def _skip(self, *layers: str) -> None:
        """Accept the weights of layers that are stored although this network does not use them."""
        for layer in layers:
            norm = layer.replace("conv1", "bn1").replace("conv2", "bn2")
            self._used.update(
                name for name in self.weights if name.startswith((f"{_PREFIX}{layer}.", f"{_PREFIX}{norm}."))
            )
