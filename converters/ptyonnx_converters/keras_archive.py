"""Read what `keras.Model.save` wrote, without TensorFlow: the configuration as JSON, the weights with h5py.

Nothing that the configuration names is built or run; what the layers mean is left to others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.zip_members import ZipMembers

__all__ = ["KerasArchive", "LayerWeights", "read_keras_archive"]

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_LARGEST_TEXT = 2**24  # bytes of a configuration; PtychoPINN's at N = 64 has 42 kB
_LARGEST_WEIGHTS = 2**31
_MOST_GROUPS = 4096
_DEEPEST = 16


class LayerWeights(NamedTuple):
    """What one layer holds, in its order: kernel, bias."""

    path: str
    layer: str | None
    arrays: tuple[NDArray[Any], ...]


class KerasArchive(NamedTuple):
    """A saved model."""

    config: dict[str, Any]
    weights: tuple[LayerWeights, ...]


def read_keras_archive(members: ZipMembers) -> KerasArchive:
    """Read a `.keras` archive of Keras 3.

    Parameters
    ----------
    members : ZipMembers
        The archive.

    Raises
    ------
    ConversionError
        Not such an archive, of another version of Keras, damaged, or with weights that lie in
        other files or are not plain arrays.
    """
    file = members.file
    version = _json(members, _METADATA).get("keras_version")
    if not isinstance(version, str) or not version.startswith("3."):
        raise ConversionError("another version of Keras", file=file, key=_METADATA, found=version, expected="3.…")
    config = _json(members, _CONFIG)
    content = members.read(_WEIGHTS, _LARGEST_WEIGHTS)
    try:
        with h5py.File(BytesIO(content), "r") as weights:
            layers = _child(weights, "layers", "", file)
            return KerasArchive(config, tuple(_layers(layers, "layers", [_MOST_GROUPS, len(content)], file)))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError):
        raise ConversionError(
            "weights that are damaged or not of Keras", file=file, key=_WEIGHTS, remedy="fetch the file again"
        ) from None


def _json(members: ZipMembers, name: str) -> dict[str, Any]:
    try:
        value = json.loads(members.read(name, _LARGEST_TEXT))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConversionError("not a JSON object", file=members.file, key=name, remedy="fetch the file again")
    return value


def _layers(group: h5py.Group, path: str, left: list[int], file: Path) -> Iterator[LayerWeights]:
    """Everything below a group that holds arrays; `left` counts groups and bytes down."""
    for name in group:
        left[0] -= 1
        child = _child(group, name, path, file)
        if left[0] < 0 or not isinstance(child, h5py.Group) or path.count("/") > _DEEPEST:
            raise ValueError
        if name != "vars":
            yield from _layers(child, f"{path}/{name}", left, file)
        elif len(child):
            names = sorted(child, key=int)
            missing = [str(index) for index in range(len(names)) if str(index) not in names]
            if missing:
                raise ConversionError("a weight is missing", file=file, key=f"{path}/vars/{missing[0]}")
            arrays = tuple(_array(_child(child, index, f"{path}/vars", file), left) for index in names)
            layer = child.attrs.get("name")
            yield LayerWeights(path, layer if isinstance(layer, str) else None, arrays)


def _child(group: h5py.Group, name: str, path: str, file: Path) -> h5py.Group | h5py.Dataset:
    """Follow hard links only: the other kinds may lead into another file of this machine."""
    link, key = group.get(name, getlink=True), f"{path}/{name}".removeprefix("/")
    if link is None:
        raise ConversionError("a group of the weights is missing", file=file, key=key)
    if not isinstance(link, h5py.HardLink):
        raise ConversionError("a link inside the weights", file=file, key=key, expected="plain arrays")
    return group[name]


def _array(dataset: h5py.Group | h5py.Dataset, left: list[int]) -> NDArray[Any]:
    """A plain array: not virtual, not external, and stored as it is, so that no filter can blow it up."""
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external or dataset.chunks:
        raise ValueError
    if dataset.dtype.kind not in "fiu" or dataset.shape is None:
        raise ValueError
    left[0] -= 1
    left[1] -= dataset.nbytes
    if min(left) < 0:
        raise ValueError
    return np.asarray(dataset[()])
