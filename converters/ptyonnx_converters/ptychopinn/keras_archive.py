"""Read an archive of `keras.Model.save` without TensorFlow: the configuration as JSON, the weights as HDF5.

No class that the configuration names is built or run; `keras_network.py` interprets the layers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.hdf5 import Hdf5File
from ptyonnx_converters.ptychopinn.zip_members import ZipMembers

__all__ = ["KerasArchive", "LayerWeights", "read_keras_archive"]

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_LARGEST_TEXT = 2**24  # bytes of a configuration; that of PtychoPINN at N = 64 has 42 kB
_LARGEST_WEIGHTS = 2**31
_MOST_GROUPS = 4096
_DEEPEST = 16


class LayerWeights(NamedTuple):
    """Arrays of one layer in Keras's order: kernel, bias."""

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
        The file is not such an archive, is of another version of Keras or damaged, or has weights that are
        in other files or not plain arrays.
    """
    file = members.file
    version = _json(members, _METADATA).get("keras_version")
    if not isinstance(version, str) or not version.startswith("3."):
        raise ConversionError("another version of Keras", file=file, key=_METADATA, found=version, expected="3.…")
    config = _json(members, _CONFIG)
    with Hdf5File(file, ConversionError, content=members.read(_WEIGHTS, _LARGEST_WEIGHTS), key=_WEIGHTS) as weights:
        if weights.kind("layers") != "group":
            raise ConversionError("a group of the weights is missing", file=file, key="layers")
        return KerasArchive(config, tuple(_layers(weights, "layers", [_MOST_GROUPS, _LARGEST_WEIGHTS], file)))


def _json(members: ZipMembers, name: str) -> dict[str, Any]:
    try:
        value = json.loads(members.read(name, _LARGEST_TEXT))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ConversionError("not a JSON object", file=members.file, key=name, remedy="fetch the file again")
    return value


def _layers(weights: Hdf5File, path: str, left: list[int], file: Path) -> Iterator[LayerWeights]:
    """Iterate over all groups below a path that contain arrays; `left` counts remaining groups and bytes."""
    for name in weights.names(path):
        left[0] -= 1
        inner = f"{path}/{name}"
        if left[0] < 0 or weights.kind(inner) != "group" or path.count("/") > _DEEPEST:
            raise _damaged(file)
        if name != "vars":
            yield from _layers(weights, inner, left, file)
        elif names := weights.names(inner):
            if not all(index.isdecimal() for index in names):
                raise _damaged(file)
            missing = [str(index) for index in range(len(names)) if str(index) not in names]
            if missing:
                raise ConversionError("a weight is missing", file=file, key=f"{inner}/{missing[0]}")
            arrays = tuple(_array(weights, f"{inner}/{index}", left, file) for index in range(len(names)))
            yield LayerWeights(path, weights.text(inner, "name"), arrays)


def _array(weights: Hdf5File, path: str, left: list[int], file: Path) -> NDArray[Any]:
    """Read a plain array; the total over an archive is limited, even if it names one array many times."""
    left[0] -= 1
    array = weights.array(path, max(0, left[1]))
    left[1] -= array.nbytes
    if left[0] < 0 or array.dtype.kind not in "fiu":
        raise _damaged(file)
    return array


def _damaged(file: Path) -> ConversionError:
    return ConversionError(
        "weights that are damaged or not from Keras", file=file, key=_WEIGHTS, remedy="fetch the file again"
    )
