"""Read an ONNX file without the `onnx` package, and refuse what a bundle must not contain.

A bundle is untrusted and is opened on machines that have neither `onnx` nor `protobuf`. `onnx_fields.py`
lists the allowed fields and limits. No tensor is copied. `recipe_graph.py` and `foreign_graph.py` check the
graph, and `bundle.py` interprets the metadata.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.onnx_model.onnx_fields import (
    DIMENSION,
    ENTRY,
    METADATA,
    MODEL,
    MOST_AXES,
    NATIVE,
    OPSETS,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    VALUE,
    Limits,
    attribute_table,
    graph_table,
    node_table,
)
from ptyonnx_bundles.onnx_model.wire import Message, encode_bytes, fields

__all__ = [
    "IR_VERSION",
    "OPSET",
    "OnnxFile",
    "OnnxNode",
    "OnnxValue",
    "append_metadata",
    "metadata_texts",
    "read_onnx",
    "strip_metadata",
]

OPSET = 18  # the newest that both exporters write natively
IR_VERSION = 10  # read by every onnxruntime since 1.19

Attribute = float | int | str | tuple[float, ...] | tuple[int, ...] | tuple[str, ...]

_SINGLE = {1: "f", 2: "i", 3: "s"}  # AttributeType -> the field that holds the value
_SEVERAL = {6: "floats", 7: "ints", 8: "strings"}


@dataclass(frozen=True)
class OnnxNode:
    """One operator: its name, inputs, outputs and attributes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class OnnxValue:
    """An input or output of the graph: name, dtype, and a size or name for each axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """The parts of an ONNX model that the format uses."""

    ir_version: int
    opset: int
    nodes: tuple[OnnxNode, ...]
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    initializers: dict[str, NDArray[np.generic]]
    metadata: dict[str, str]


def read_onnx(model: bytes, file: str | None = None, limits: Limits = NATIVE) -> OnnxFile:
    """Decode a model and check that a bundle may contain it.

    Parameters
    ----------
    model : bytes
        A serialised ModelProto.
    file : str, optional
        Named in errors.
    limits : Limits
        Its limits.

    Returns
    -------
    OnnxFile
        Initializers are read-only views into `model`.

    Raises
    ------
    BundleError
        Not an ONNX model, external data, another opset or IR version, operators of another domain, control
        flow, functions, sparse or unusual tensors, duplicate names, or a field that the format does not allow.
    """
    try:
        return _decode_model(memoryview(model), limits)
    except BundleError as error:
        raise BundleError(
            error.problem, file=file, key=error.key, found=error.found, expected=error.expected, remedy=error.remedy
        ) from None
    except (IndexError, ValueError, struct.error):
        raise BundleError(
            "not a readable ONNX model", file=file, remedy="the file is truncated or has another format; fetch it again"
        ) from None


def metadata_texts(model: bytes, key: str) -> Iterator[str]:
    """Iterate over the values of one metadata key, without decoding anything else.

    Raises
    ------
    BundleError, IndexError, ValueError
        It is not a model.
    """
    for number, value, _ in fields(memoryview(model)):
        if number == METADATA and isinstance(value, memoryview):
            entry = Message(value, ENTRY, "a metadata entry")
            if entry.text("key") == key:
                yield entry.text("value")


def strip_metadata(model: bytes, prefix: str) -> bytes:
    """Remove the metadata entries whose key starts with `prefix`; `model` must have been read before."""
    view = memoryview(model)
    kept, start = [], 0
    for number, value, end in fields(view):
        if number == METADATA and isinstance(value, memoryview):
            key = Message(value, ENTRY, "a metadata entry").text("key")
        else:
            key = None
        if key is None or not key.startswith(prefix):
            kept.append(view[start:end])
        start = end
    return b"".join(kept)


def append_metadata(model: bytes, entries: dict[str, str]) -> bytes:
    """Append metadata entries; protobuf messages can be extended by concatenation."""
    parts = [model]
    for key, value in entries.items():
        entry = encode_bytes(1, key.encode()) + encode_bytes(2, value.encode())
        parts.append(encode_bytes(METADATA, entry))
    return b"".join(parts)


def _decode_model(view: memoryview, limits: Limits) -> OnnxFile:
    model = Message(view, MODEL, "the model")
    if "graph" not in model:
        raise ValueError("no graph")
    opset = _decode_opset(model.views("opset_import"))
    if opset != OPSET:
        raise BundleError("wrong operator set", found=opset, expected=OPSET)
    ir_version = model.integer("ir_version")
    if ir_version != IR_VERSION:
        raise BundleError("wrong IR version", found=ir_version, expected=IR_VERSION)
    metadata: dict[str, str] = {}
    for content in model.views("metadata_props"):
        entry = Message(content, ENTRY, "a metadata entry")
        key = entry.text("key")
        if key in metadata:
            raise BundleError("duplicate key in the metadata", key=key)
        metadata[key] = entry.text("value")
    graph = Message(model.views("graph")[0], graph_table(limits), "the graph")
    return OnnxFile(
        ir_version,
        opset,
        tuple(_decode_node(node, limits) for node in graph.views("node")),
        tuple(_decode_value(value, limits) for value in graph.views("input")),
        tuple(_decode_value(value, limits) for value in graph.views("output")),
        _decode_initializers(graph.views("initializer"), limits),
        metadata,
    )


def _decode_opset(views: list[memoryview]) -> int | None:
    versions: dict[str, int] = {}
    for view in views:
        imported = Message(view, OPSETS, "an operator set")
        domain = imported.text("domain")
        if domain not in {"", "ai.onnx"}:
            raise BundleError(f"operators of the domain '{domain}'", expected="standard ONNX operators only")
        if "" in versions:
            raise BundleError("two operator sets", expected=OPSET)
        versions[""] = imported.integer("version")
    return versions.get("")


def _decode_node(view: memoryview, limits: Limits) -> OnnxNode:
    node = Message(view, node_table(limits), "a node")
    name, operator, domain = node.text("name"), node.text("op_type"), node.text("domain")
    if domain not in {"", "ai.onnx"}:
        raise BundleError(f"operator '{domain}::{operator}'", key=name, expected="standard ONNX operators only")
    attributes: dict[str, Attribute] = {}
    for content in node.views("attribute"):
        key, attribute = _decode_attribute(content, limits)
        if key in attributes:
            raise BundleError(f"duplicate attribute '{key}'", key=name)
        attributes[key] = attribute
    return OnnxNode(name, operator, tuple(node.texts("input")), tuple(node.texts("output")), attributes)


def _decode_attribute(view: memoryview, limits: Limits) -> tuple[str, Attribute]:
    attribute = Message(view, attribute_table(limits), "an attribute")
    name = attribute.text("name")
    kind = attribute.integer("type")
    wanted = {**_SINGLE, **_SEVERAL}.get(kind)
    held = [field for field in (*_SINGLE.values(), *_SEVERAL.values()) if field in attribute]
    if wanted is None or not (held == [wanted] or (not held and kind in _SEVERAL)):
        raise BundleError(f"the value of attribute '{name}' is not of its type", found=held, expected=wanted)
    value: Attribute
    match wanted:
        case "f":
            value = attribute.real("f")
        case "i":
            value = attribute.integer("i")
        case "s":
            value = attribute.text("s")
        case "floats":
            value = tuple(attribute.reals("floats", limits.numbers))
        case "ints":
            value = tuple(attribute.integers("ints", limits.numbers))
        case _:
            value = tuple(attribute.texts("strings"))
    return name, value


def _decode_initializers(views: list[memoryview], limits: Limits) -> dict[str, NDArray[np.generic]]:
    initializers: dict[str, NDArray[np.generic]] = {}
    for view in views:
        name, tensor = _decode_tensor(view, limits)
        if name in initializers:
            raise BundleError("two initializers of one name", key=name)
        initializers[name] = tensor
    return initializers


def _decode_tensor(view: memoryview, limits: Limits) -> tuple[str, NDArray[np.generic]]:
    tensor = Message(view, TENSOR, "a tensor")
    name, dims = tensor.text("name"), tensor.integers("dims", MOST_AXES)
    if tensor.integer("data_location"):
        raise BundleError("the weights are in another file", key=name, remedy="save the model as a single file")
    dtype, raw = limits.dtypes.get(tensor.integer("data_type")), tensor.views("raw_data")
    if limits.empty and not raw and 0 in dims:
        raw = [memoryview(b"")]  # protobuf writers may omit an empty field
    if dtype is None or not raw:
        kinds = " or ".join(kind.name for kind in limits.dtypes.values())
        raise BundleError("unusual initializer", key=name, expected=f"{kinds} as raw data")
    if any(size < (0 if limits.empty else 1) for size in dims) or math.prod(dims) * dtype.itemsize != len(raw[0]):
        raise BundleError(
            "shape and size of an initializer do not match",
            key=name,
            found=f"{len(raw[0])} bytes for shape {tuple(dims)}",
        )
    return name, _array(raw[0], dtype, dims)


def _array(content: memoryview, dtype: np.dtype[Any], dims: list[int]) -> NDArray[np.generic]:
    """View bytes as an array; the bytes of a bool array must be 0 or 1."""
    if dtype.kind == "b" and np.any(np.frombuffer(content, np.uint8) > 1):
        raise BundleError("a bool initializer has bytes other than 0 and 1")
    array: NDArray[np.generic] = np.frombuffer(content, dtype).reshape(dims)
    return array


def _decode_value(view: memoryview, limits: Limits) -> OnnxValue:
    value = Message(view, VALUE, "an input or output")
    name = value.text("name")
    described = [Message(content, TYPE, "a type") for content in value.views("type")]
    tensors = [content for kind in described for content in kind.views("tensor_type")]
    if not tensors:
        raise BundleError("not a tensor", key=name)
    tensor = Message(tensors[0], TENSOR_TYPE, "a tensor type")
    kind = tensor.integer("elem_type")
    dtype = limits.dtypes[kind].name if kind in limits.dtypes else f"type {kind}"
    shape = tuple(
        _decode_dimension(dimension)
        for content in tensor.views("shape")
        for dimension in Message(content, SHAPE, "a shape").views("dim")
    )
    return OnnxValue(name, dtype, shape)


def _decode_dimension(view: memoryview) -> int | str:
    dimension = Message(view, DIMENSION, "a dimension")
    if "dim_value" in dimension and "dim_param" in dimension:
        raise BundleError("a dimension is both a number and a name")
    return dimension.integer("dim_value") if "dim_value" in dimension else dimension.text("dim_param")
