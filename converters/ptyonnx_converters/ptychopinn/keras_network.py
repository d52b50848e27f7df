"""Write PtychoPINN's TensorFlow network as a graph, layer by layer from its Keras configuration.

`keras_layers.py` writes the single layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.ptychopinn.keras_archive import KerasArchive, LayerWeights
from ptyonnx_converters.ptychopinn.keras_layers import LAYERS, Image, Layer, Patches, Value
from ptyonnx_converters.ptychopinn.patch_graph import PatchGraph

__all__ = ["KerasNetwork", "build_keras"]

_MOST_LAYERS = 1000
_SIZES = (64, 128, 256)
# PtychoPINN divides the sum of patches by their number plus this offset. With one patch per group, the
# network was trained with a factor of 1 / 1.001 on the object. With several patches the factor depends on
# the positions, lies between that and 1, and is omitted.
_MERGE_OFFSET = 0.001


@dataclass(frozen=True)
class KerasNetwork:
    """The graph and the settings that the configuration states."""

    model: bytes
    N: int
    channels: int
    filters_scale: float
    object_big: bool
    probe_big: bool
    amp_activation: str | None


def build_keras(archive: KerasArchive, file: Path) -> KerasNetwork:
    """Write the graph of a saved Keras model.

    Parameters
    ----------
    archive : KerasArchive
    file : Path
        Named in errors.

    Raises
    ------
    ConversionError
        Another kind of model, an unsupported layer or option, or a weight that is missing, unused, not
        finite or of the wrong shape.
    """
    layers = _layers(archive.config, file)
    weights = _weights_by_layer(archive.weights, layers, file)
    graph = PatchGraph()
    values: dict[str, Value] = {}
    for name in _order(layers, file):
        values[name] = _write(graph, layers[name], values, weights, file)
    (output,) = _outputs(archive.config, file)
    patches = values.get(output)
    inputs = [value for value in values.values() if isinstance(value, Image) and value.name == PatchGraph.INPUT]
    if not isinstance(patches, Patches) or not patches.merged or not inputs:
        raise ConversionError(
            "not a network of PtychoPINN", file=file, key=output, expected="a merged object as output"
        )
    N, channels = inputs[0].size, inputs[0].channels
    _check_sizes(patches, N, channels, file)
    copies = channels if patches.merged == "group" else 1
    amplitude = patches.amplitude.name
    if patches.merged == "positions" and channels == 1:
        factor = graph.constant("amplitude.factor", np.asarray(1 / (1 + _MERGE_OFFSET), np.float32))
        amplitude = graph.add("Mul", (amplitude, factor), "amplitude")
    graph.to_object(amplitude, patches.phase.name, copies)
    kinds = [layer["class_name"] for layer in layers.values()]
    activation = layers.get("amp", {}).get("config", {}).get("activation_name")
    return KerasNetwork(
        graph.finish(N, channels, "PtychoPINN"), N, channels,
        filters_scale=_widest_before_decoders(layers) / 128,
        object_big=patches.merged == "positions", probe_big="CenterMaskLayer" in kinds or "ZeroPadding2D" not in kinds,
        amp_activation=activation if isinstance(activation, str) else None,
    )  # fmt: skip


def _layers(config: Mapping[str, Any], file: Path) -> dict[str, dict[str, Any]]:
    """Return the layers by name, all of supported classes."""
    match config:
        case {"class_name": "Functional", "config": {"layers": list(entries)}} if len(entries) <= _MOST_LAYERS:
            pass
        case _:
            raise ConversionError(
                "not a functional Keras model", file=file, key="config.json", found=config.get("class_name")
            )
    layers: dict[str, dict[str, Any]] = {}
    for entry in entries:
        match entry:
            case {"class_name": str(kind), "name": str(name), "config": dict(), "inbound_nodes": list()}:
                pass
            case _:
                raise ConversionError("a layer without name, class, options or inputs", file=file, key="config.json")
        _check_kind(kind, entry.get("module"), name, file)
        if name in layers:
            raise ConversionError("two layers of one name", file=file, key=name)
        layers[name] = entry
    return layers


def _check_kind(kind: str, module: object, name: str, file: Path) -> None:
    if kind == "Lambda":
        raise ConversionError(
            "a Lambda layer, which holds code; it was not run", file=file, key=name, found=f"{module}.Lambda",
            remedy="save the network again with a PtychoPINN whose layers have classes",
        )  # fmt: skip
    origin = LAYERS[kind][0] if kind in LAYERS else None
    if origin is None or not isinstance(module, str) or module.split(".")[0] != origin:
        raise ConversionError(
            "a layer that PtychoPINN's network does not have", file=file, key=name,
            found=f"{module}.{kind}", expected=f"one of {', '.join(LAYERS)}",
        )  # fmt: skip


def _outputs(config: Mapping[str, Any], file: Path) -> tuple[str]:
    """Return the one output, stored as ``[[name, 0, 0]]`` or without the outer list."""
    match config["config"].get("output_layers"):
        case [[str(name), 0, 0]] | [str(name), 0, 0]:
            return (name,)
        case found:
            raise ConversionError("not exactly one output", file=file, key="output_layers", found=found)


def _tensors(part: object) -> Iterator[str]:
    """Iterate over the names of the layers whose outputs are arguments of a layer, in order."""
    match part:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), 0, 0]}}:
            yield name
        case list():
            for item in part:
                yield from _tensors(item)
        case _:
            pass


def _call(entry: Mapping[str, Any], name: str, file: Path) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Split the call arguments of a layer: names of input layers, and all others."""
    match entry["inbound_nodes"]:
        case []:
            return (), ()
        case [{"args": list(args), "kwargs": dict(kwargs)}] if set(kwargs) <= {"training", "mask"}:
            pass
        case _:
            raise ConversionError("a layer that is called twice or with options", file=file, key=name)
    inputs = tuple(source for argument in args for source in _tensors(argument))
    return inputs, tuple(argument for argument in args if not tuple(_tensors(argument)))


def _order(layers: Mapping[str, Mapping[str, Any]], file: Path) -> list[str]:
    """Sort the layers so that each follows its inputs."""
    sources = {name: _call(entry, name, file)[0] for name, entry in layers.items()}
    unknown = [source for inputs in sources.values() for source in inputs if source not in layers]
    if unknown:
        raise ConversionError("a layer is missing", file=file, key=unknown[0])
    try:
        return list(TopologicalSorter(sources).static_order())
    except CycleError:
        raise ConversionError("a cycle of layers", file=file, key="config.json") from None


def _write(
    graph: PatchGraph,
    entry: Mapping[str, Any],
    values: Mapping[str, Value],
    weights: Mapping[str, NDArray[Any]],
    file: Path,
) -> Value:
    name, kind = entry["name"], entry["class_name"]
    sources, arguments = _call(entry, name, file)
    inputs = tuple(values[source] for source in sources)
    return LAYERS[kind][1](graph, Layer(name, kind, entry["config"], inputs, arguments, weights, file))


def _weights_by_layer(
    stored: tuple[LayerWeights, ...], layers: Mapping[str, Mapping[str, Any]], file: Path
) -> dict[str, NDArray[Any]]:
    """Return `<layer>.weight` and `<layer>.bias` of every convolution; no other layer may have weights.

    Keras stores the n-th layer of a class under the name of the class and n; newer versions also store the
    name of the layer.
    """
    convolutions = [name for name, entry in layers.items() if entry["class_name"] == "Conv2D"]
    numbered = {f"layers/conv2d_{index}" if index else "layers/conv2d": name for index, name in enumerate(convolutions)}
    weights: dict[str, NDArray[Any]] = {}
    for entry in stored:
        name = entry.layer or numbered.get(entry.path)
        if name in convolutions and len(entry.arrays) == 1:
            raise ConversionError("a weight is missing", file=file, key=f"{entry.path}/vars/1", expected="a bias")
        if name not in convolutions or len(entry.arrays) != 2 or f"{name}.weight" in weights:
            raise ConversionError(
                "weights that do not belong to a convolution", file=file, key=entry.path, found=f"{len(entry.arrays)} arrays",
                expected="kernel and bias of one layer of the configuration",
            )  # fmt: skip
        weights[f"{name}.weight"], weights[f"{name}.bias"] = entry.arrays
    return weights


def _check_sizes(patches: Patches, N: int, channels: int, file: Path) -> None:
    """Check that the patches have the size of the patterns, and that there is one for each pattern or for the group."""
    found = (patches.amplitude.size, patches.phase.size)
    if N not in _SIZES or found != (N, N):
        raise ConversionError(
            "the patches do not have the size of the patterns", file=file, found=found, expected=_SIZES
        )
    given = {patches.amplitude.channels, patches.phase.channels}
    fits = given == {1} if patches.merged == "group" else channels in given and given <= {1, channels}
    if not fits or math.isqrt(channels) ** 2 != channels:
        raise ConversionError(
            "the heads do not output one patch per pattern", file=file, found=sorted(given), expected=channels
        )


def _widest_before_decoders(layers: Mapping[str, Mapping[str, Any]]) -> int:
    """Filters of the deepest encoder level: those of the layer before the last pooling."""
    pools = [entry for entry in layers.values() if entry["class_name"] == "MaxPooling2D"]
    sources = list(_tensors(pools[-1]["inbound_nodes"][0]["args"])) if pools else []
    filters = layers[sources[0]]["config"].get("filters") if sources else None
    return filters if isinstance(filters, int) else 0
