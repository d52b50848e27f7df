"""Read an ONNX file without the `onnx` package, and refuse what a bundle must not contain.

A bundle comes from a stranger and is opened on machines that have neither `onnx` nor
`protobuf`. The tables below are the part of `onnx.proto` (IR version 10) that the format
knows; a count of 0 marks what is refused by name. No tensor is copied. What the graph has to
compute is said in `graph.py`, what the metadata mean in `bundle.py`.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.wire import Field, Message, encode_bytes, fields

__all__ = ["IR_VERSION", "OPSET", "OnnxFile", "OnnxNode", "OnnxValue", "append_metadata", "read_onnx", "strip_metadata"]

OPSET = 18  # the newest that both exporters write natively
IR_VERSION = 10  # read by every onnxruntime since 1.19

Attribute = float | int | str | tuple[float, ...] | tuple[int, ...] | tuple[str, ...]

_METADATA = 14
_MOST_NODES = 1024  # the deepest recipe has about 100
_MOST_AXES = 8
_MOST_NUMBERS = 64  # of one attribute; the recipe needs 4

_MODEL = {
    1: Field("ir_version"),
    2: Field("producer_name"),
    3: Field("producer_version"),
    4: Field("domain"),
    5: Field("model_version"),
    6: Field("doc_string"),
    7: Field("graph"),
    8: Field("opset_import", 8),
    _METADATA: Field("metadata_props", 64),
    20: Field("training information", 0),
    25: Field("functions", 0),
    26: Field("device configurations", 0),
}
_GRAPH = {
    1: Field("node", _MOST_NODES),
    2: Field("name"),
    5: Field("initializer", _MOST_NODES),
    10: Field("doc_string"),
    11: Field("input", 16),
    12: Field("output", 16),
    13: Field("value_info", 2 * _MOST_NODES),
    14: Field("quantization annotations", 0),
    15: Field("sparse initializers", 0),
    16: Field("metadata_props", 64),
}
_NODE = {
    1: Field("input", 16),
    2: Field("output", 16),
    3: Field("name"),
    4: Field("op_type"),
    5: Field("attribute", 16),
    6: Field("doc_string"),
    7: Field("domain"),
    8: Field("overloads", 0),
    9: Field("metadata_props", 64),
    10: Field("device configurations", 0),
}
_ATTRIBUTE = {
    1: Field("name"),
    2: Field("f"),
    3: Field("i"),
    4: Field("s"),
    5: Field("a tensor as an attribute", 0),
    6: Field("a graph as an attribute (control flow)", 0),
    7: Field("floats", _MOST_NUMBERS),
    8: Field("ints", _MOST_NUMBERS),
    9: Field("strings", _MOST_NUMBERS),
    10: Field("tensors as an attribute", 0),
    11: Field("graphs as an attribute (control flow)", 0),
    13: Field("doc_string"),
    14: Field("a type as an attribute", 0),
    15: Field("types as an attribute", 0),
    20: Field("type"),
    21: Field("a reference to a function's attribute", 0),
    22: Field("a sparse tensor as an attribute", 0),
    23: Field("sparse tensors as an attribute", 0),
}
_TENSOR = {
    1: Field("dims", _MOST_AXES),
    2: Field("data_type"),
    3: Field("tensor segments", 0),
    4: Field("tensors that are not raw data", 0),
    5: Field("tensors that are not raw data", 0),
    6: Field("tensors that are not raw data", 0),
    7: Field("tensors that are not raw data", 0),
    8: Field("name"),
    9: Field("raw_data"),
    10: Field("tensors that are not raw data", 0),
    11: Field("tensors that are not raw data", 0),
    12: Field("doc_string"),
    13: Field("external data: weights in another file", 0),
    14: Field("data_location"),
    16: Field("metadata_props", 64),
}
_VALUE = {1: Field("name"), 2: Field("type"), 3: Field("doc_string"), 4: Field("metadata_props", 64)}
_TYPE = {
    1: Field("tensor_type"),
    4: Field("sequences", 0),
    5: Field("maps", 0),
    6: Field("denotation"),
    7: Field("opaque types", 0),
    8: Field("sparse tensors", 0),
    9: Field("optional values", 0),
}
_TENSOR_TYPE = {1: Field("elem_type"), 2: Field("shape")}
_SHAPE = {1: Field("dim", _MOST_AXES)}
_DIMENSION = {1: Field("dim_value"), 2: Field("dim_param"), 3: Field("denotation")}
_OPSET = {1: Field("domain"), 2: Field("version")}
_ENTRY = {1: Field("key"), 2: Field("value")}

_DTYPES: dict[int, np.dtype[np.float32] | np.dtype[np.int64]] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}
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
    """An input or output of the graph: name, dtype, and one int or name for each axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """What the format looks at in an ONNX model."""

    ir_version: int
    opset: int
    nodes: tuple[OnnxNode, ...]
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    initializers: dict[str, NDArray[np.generic]]
    metadata: dict[str, str]


def read_onnx(model: bytes, file: str | None = None) -> OnnxFile:
    """Decode a model and check that it is safe and plain enough for a bundle.

    Parameters
    ----------
    model : bytes
        A serialised ModelProto.
    file : str, optional
        Named in errors.

    Returns
    -------
    OnnxFile
        Initializers are read-only views into `model`.

    Raises
    ------
    BundleError
        Not an ONNX model, external data, another opset or IR version, operators of another
        domain, control flow, functions, sparse or unusual tensors, duplicate names, or any
        field that the format does not know.
    """
    try:
        return _decode_model(memoryview(model))
    except BundleError as error:
        raise BundleError(
            error.problem, file=file, key=error.key, found=error.found, expected=error.expected, remedy=error.remedy
        ) from None
    except (IndexError, ValueError, struct.error):
        raise BundleError(
            "not a readable ONNX model", file=file, remedy="the file is truncated or something else; fetch it again"
        ) from None


def strip_metadata(model: bytes, prefix: str) -> bytes:
    """Take out the metadata entries whose key starts with `prefix`; `model` has been read before."""
    view = memoryview(model)
    kept, start = [], 0
    for number, value, end in fields(view):
        if number == _METADATA and isinstance(value, memoryview):
            key = Message(value, _ENTRY, "a metadata entry").text("key")
        else:
            key = None
        if key is None or not key.startswith(prefix):
            kept.append(view[start:end])
        start = end
    return b"".join(kept)


def append_metadata(model: bytes, entries: dict[str, str]) -> bytes:
    """Add metadata entries: protobuf fields may simply be concatenated."""
    parts = [model]
    for key, value in entries.items():
        entry = encode_bytes(1, key.encode()) + encode_bytes(2, value.encode())
        parts.append(encode_bytes(_METADATA, entry))
    return b"".join(parts)


def _decode_model(view: memoryview) -> OnnxFile:
    model = Message(view, _MODEL, "the model")
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
        entry = Message(content, _ENTRY, "a metadata entry")
        key = entry.text("key")
        if key in metadata:
            raise BundleError("the key stands twice in the metadata", key=key)
        metadata[key] = entry.text("value")
    graph = Message(model.views("graph")[0], _GRAPH, "the graph")
    return OnnxFile(
        ir_version,
        opset,
        tuple(_decode_node(node) for node in graph.views("node")),
        tuple(_decode_value(value) for value in graph.views("input")),
        tuple(_decode_value(value) for value in graph.views("output")),
        _decode_initializers(graph.views("initializer")),
        metadata,
    )


def _decode_opset(views: list[memoryview]) -> int | None:
    versions: dict[str, int] = {}
    for view in views:
        imported = Message(view, _OPSET, "an operator set")
        domain = imported.text("domain")
        if domain not in {"", "ai.onnx"}:
            raise BundleError(f"operators of the domain '{domain}'", expected="standard ONNX operators only")
        if "" in versions:
            raise BundleError("two operator sets", expected=OPSET)
        versions[""] = imported.integer("version")
    return versions.get("")


def _decode_node(view: memoryview) -> OnnxNode:
    node = Message(view, _NODE, "a node")
    name, operator, domain = node.text("name"), node.text("op_type"), node.text("domain")
    if domain not in {"", "ai.onnx"}:
        raise BundleError(f"operator '{domain}::{operator}'", key=name, expected="standard ONNX operators only")
    attributes: dict[str, Attribute] = {}
    for content in node.views("attribute"):
        key, attribute = _decode_attribute(content)
        if key in attributes:
            raise BundleError(f"the attribute '{key}' stands twice", key=name)
        attributes[key] = attribute
    return OnnxNode(name, operator, tuple(node.texts("input")), tuple(node.texts("output")), attributes)


def _decode_attribute(view: memoryview) -> tuple[str, Attribute]:
    attribute = Message(view, _ATTRIBUTE, "an attribute")
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
            value = tuple(attribute.reals("floats", _MOST_NUMBERS))
        case "ints":
            value = tuple(attribute.integers("ints", _MOST_NUMBERS))
        case _:
            value = tuple(attribute.texts("strings"))
    return name, value


def _decode_initializers(views: list[memoryview]) -> dict[str, NDArray[np.generic]]:
    initializers: dict[str, NDArray[np.generic]] = {}
    for view in views:
        name, tensor = _decode_tensor(view)
        if name in initializers:
            raise BundleError("two initializers of one name", key=name)
        initializers[name] = tensor
    return initializers


def _decode_tensor(view: memoryview) -> tuple[str, NDArray[np.generic]]:
    tensor = Message(view, _TENSOR, "a tensor")
    name, dims = tensor.text("name"), tensor.integers("dims", _MOST_AXES)
    if tensor.integer("data_location"):
        raise BundleError("the weights lie in another file", key=name, remedy="save the model as a single file")
    dtype, raw = _DTYPES.get(tensor.integer("data_type")), tensor.views("raw_data")
    if dtype is None or not raw:
        raise BundleError("unusual initializer", key=name, expected="float32 or int64 as raw data")
    if any(size < 1 for size in dims) or math.prod(dims) * dtype.itemsize != len(raw[0]):
        raise BundleError(
            "shape and size of an initializer differ", key=name, found=f"{len(raw[0])} bytes for shape {tuple(dims)}"
        )
    return name, np.frombuffer(raw[0], dtype).reshape(dims)


def _decode_value(view: memoryview) -> OnnxValue:
    value = Message(view, _VALUE, "an input or output")
    name = value.text("name")
    described = [Message(content, _TYPE, "a type") for content in value.views("type")]
    tensors = [content for kind in described for content in kind.views("tensor_type")]
    if not tensors:
        raise BundleError("not a tensor", key=name)
    tensor = Message(tensors[0], _TENSOR_TYPE, "a tensor type")
    kind = tensor.integer("elem_type")
    dtype = _DTYPES[kind].name if kind in _DTYPES else f"type {kind}"
    shape = tuple(
        _decode_dimension(dimension)
        for content in tensor.views("shape")
        for dimension in Message(content, _SHAPE, "a shape").views("dim")
    )
    return OnnxValue(name, dtype, shape)


def _decode_dimension(view: memoryview) -> int | str:
    dimension = Message(view, _DIMENSION, "a dimension")
    if "dim_value" in dimension and "dim_param" in dimension:
        raise BundleError("a dimension is both a number and a name")
    return dimension.integer("dim_value") if "dim_value" in dimension else dimension.text("dim_param")
