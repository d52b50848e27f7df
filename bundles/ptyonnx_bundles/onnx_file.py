"""Read an ONNX file without the `onnx` package, and refuse what a bundle must not contain.

A bundle comes from a stranger and is opened on machines that have neither `onnx` nor
`protobuf`. This file decodes the few messages that the format needs (field numbers from
`onnx.proto`, ONNX 1.23) and copies no tensor. It says nothing about manifests.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import BundleError

__all__ = ["IR_VERSION", "OPSET", "OnnxFile", "OnnxNode", "OnnxValue", "append_metadata", "read_onnx", "strip_metadata"]

OPSET = 18  # the newest that both exporters write natively
IR_VERSION = 10  # read by every onnxruntime since 1.19

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_METADATA_FIELD = 14
_DTYPES = {1: np.dtype("<f4"), 7: np.dtype("<i8")}
_DTYPE_NAMES = {1: "float32", 7: "int64"}
_EXTERNAL = 1
_FLOAT, _INT, _STRING, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 6, 7, 8  # AttributeProto.AttributeType
_MOST_ELEMENTS = 2**28  # of one tensor; 1 GiB of float32

Attribute = float | int | str | tuple[float, ...] | tuple[int, ...] | tuple[str, ...]


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


@dataclass(frozen=True)
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
        domain, control flow, functions, sparse or unusual tensors, duplicate names.
    """
    try:
        return _decode_model(memoryview(model))
    except BundleError as error:
        raise BundleError(
            error.problem, file=file, key=error.key, found=error.found, expected=error.expected, remedy=error.remedy
        ) from None
    except (IndexError, ValueError, struct.error, UnicodeDecodeError, OverflowError, RecursionError):
        raise BundleError(
            "not a readable ONNX model", file=file, remedy="the file is truncated or something else; fetch it again"
        ) from None


def strip_metadata(model: bytes, prefix: str) -> bytes:
    """The model without the metadata entries whose key starts with `prefix`."""
    view = memoryview(model)
    kept = []
    for number, value, start, end in _fields(view):
        if number == _METADATA_FIELD and _decode_entry(value)[0].startswith(prefix):
            continue
        kept.append(view[start:end])
    return b"".join(kept)


def append_metadata(model: bytes, entries: dict[str, str]) -> bytes:
    """The model with metadata entries added: protobuf fields may simply be concatenated."""
    parts = [model]
    for key, value in entries.items():
        entry = _encode_bytes(1, key.encode()) + _encode_bytes(2, value.encode())
        parts.append(_encode_bytes(_METADATA_FIELD, entry))
    return b"".join(parts)


def _decode_model(view: memoryview) -> OnnxFile:
    ir_version = 0
    opsets: dict[str, int] = {}
    graph: memoryview | None = None
    metadata: dict[str, str] = {}
    for number, value, _, _ in _fields(view):
        if number == 1:
            ir_version = _as_int(value)
        elif number == 7:
            if graph is not None:
                raise BundleError("two graphs in one model")
            graph = _as_view(value)
        elif number == 8:
            domain, version = _decode_opset(_as_view(value))
            opsets[domain] = version
        elif number == _METADATA_FIELD:
            key, text = _decode_entry(value)
            if key in metadata:
                raise BundleError("the key stands twice in the metadata", key=key)
            metadata[key] = text
        elif number == 25:
            raise BundleError("the model contains functions", expected="operators only")
    if graph is None:
        raise ValueError("no graph")
    foreign = sorted(set(opsets) - {""})
    if foreign:
        raise BundleError(f"operators of the domain '{foreign[0]}'", expected="standard ONNX operators only")
    if opsets.get("") != OPSET:
        raise BundleError("wrong operator set", found=opsets.get(""), expected=OPSET)
    if ir_version != IR_VERSION:
        raise BundleError("wrong IR version", found=ir_version, expected=IR_VERSION)
    return _decode_graph(graph, ir_version, OPSET, metadata)


def _decode_graph(view: memoryview, ir_version: int, opset: int, metadata: dict[str, str]) -> OnnxFile:
    nodes: list[OnnxNode] = []
    inputs: list[OnnxValue] = []
    outputs: list[OnnxValue] = []
    initializers: dict[str, NDArray[np.generic]] = {}
    for number, value, _, _ in _fields(view):
        if number == 1:
            nodes.append(_decode_node(_as_view(value)))
        elif number == 5:
            name, tensor = _decode_tensor(_as_view(value))
            if name in initializers:
                raise BundleError("two initializers of one name", key=name)
            initializers[name] = tensor
        elif number == 11:
            inputs.append(_decode_value(_as_view(value)))
        elif number == 12:
            outputs.append(_decode_value(_as_view(value)))
        elif number == 15:
            raise BundleError("the model contains sparse initializers", expected="dense ones")
    return OnnxFile(ir_version, opset, tuple(nodes), tuple(inputs), tuple(outputs), initializers, metadata)


def _decode_node(view: memoryview) -> OnnxNode:
    inputs: list[str] = []
    outputs: list[str] = []
    name = operator = domain = ""
    attributes: dict[str, Attribute] = {}
    for number, value, _, _ in _fields(view):
        if number == 1:
            inputs.append(_as_text(value))
        elif number == 2:
            outputs.append(_as_text(value))
        elif number == 3:
            name = _as_text(value)
        elif number == 4:
            operator = _as_text(value)
        elif number == 5:
            key, attribute = _decode_attribute(_as_view(value))
            attributes[key] = attribute
        elif number == 7:
            domain = _as_text(value)
    if domain not in ("", "ai.onnx"):
        raise BundleError(f"operator '{domain}::{operator}'", key=name, expected="standard ONNX operators only")
    return OnnxNode(name, operator, tuple(inputs), tuple(outputs), attributes)


def _decode_attribute(view: memoryview) -> tuple[str, Attribute]:
    name, kind = "", 0
    floats: list[float] = []
    ints: list[int] = []
    strings: list[str] = []
    for number, value, _, _ in _fields(view):
        if number == 1:
            name = _as_text(value)
        elif number == 20:
            kind = _as_int(value)
        elif number in (2, 7):
            floats += _as_floats(value)
        elif number in (3, 8):
            ints += _as_ints(value)
        elif number in (4, 9):
            strings.append(_as_text(value))
    if kind in (_FLOAT, _INT, _STRING):
        found: list[float] | list[int] | list[str] = {_FLOAT: floats, _INT: ints, _STRING: strings}[kind]
        return name, found[-1]
    if kind in (_FLOATS, _INTS, _STRINGS):
        return name, tuple({_FLOATS: floats, _INTS: ints, _STRINGS: strings}[kind])
    raise BundleError(
        f"attribute '{name}' holds a graph or a tensor", expected="numbers and text only: no control flow"
    )


def _decode_tensor(view: memoryview) -> tuple[str, NDArray[np.generic]]:
    name, kind, location = "", 0, 0
    dims: list[int] = []
    raw: memoryview | None = None
    external = False
    for number, value, _, _ in _fields(view):
        if number == 1:
            dims += _as_ints(value)
        elif number == 2:
            kind = _as_int(value)
        elif number == 8:
            name = _as_text(value)
        elif number == 9:
            raw = _as_view(value)
        elif number == 13:
            external = True
        elif number == 14:
            location = _as_int(value)
    if external or location == _EXTERNAL:
        raise BundleError(
            "the weights lie in another file", key=name, expected="no external data",
            remedy="save the model as a single file",
        )  # fmt: skip
    if kind not in _DTYPES or raw is None:
        raise BundleError("unusual initializer", key=name, expected="float32 or int64 as raw data")
    if any(size < 0 for size in dims) or math.prod(dims) > _MOST_ELEMENTS:
        raise BundleError("impossible shape of an initializer", key=name, found=tuple(dims))
    if math.prod(dims) * _DTYPES[kind].itemsize != len(raw):
        raise BundleError(
            "shape and size of an initializer differ", key=name, found=f"{len(raw)} bytes for shape {tuple(dims)}"
        )
    return name, np.frombuffer(raw, _DTYPES[kind]).reshape(dims)


def _decode_value(view: memoryview) -> OnnxValue:
    name, dtype = "", ""
    shape: tuple[int | str, ...] = ()
    for number, value, _, _ in _fields(view):
        if number == 1:
            name = _as_text(value)
        elif number == 2:
            for kind, tensor, _, _ in _fields(_as_view(value)):
                if kind != 1:
                    raise BundleError("not a tensor", key=name)
                dtype, shape = _decode_tensor_type(_as_view(tensor))
    return OnnxValue(name, dtype, shape)


def _decode_tensor_type(view: memoryview) -> tuple[str, tuple[int | str, ...]]:
    dtype, shape = "", []
    for number, value, _, _ in _fields(view):
        if number == 1:
            dtype = _DTYPE_NAMES.get(_as_int(value), f"type {_as_int(value)}")
        elif number == 2:
            for _, dimension, _, _ in _fields(_as_view(value)):
                size: int | str = ""
                for kind, content, _, _ in _fields(_as_view(dimension)):
                    size = _as_int(content) if kind == 1 else _as_text(content) if kind == 2 else size
                shape.append(size)
    return dtype, tuple(shape)


def _decode_opset(view: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value, _, _ in _fields(view):
        if number == 1:
            domain = _as_text(value)
        elif number == 2:
            version = _as_int(value)
    return ("" if domain == "ai.onnx" else domain), version


def _decode_entry(value: int | memoryview) -> tuple[str, str]:
    key = text = ""
    for number, content, _, _ in _fields(_as_view(value)):
        if number == 1:
            key = _as_text(content)
        elif number == 2:
            text = _as_text(content)
    return key, text


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview, int, int]]:
    """Field number, value, start and end of every field of a message."""
    position = 0
    while position < len(view):
        start = position
        tag, position = _varint(view, position)
        number, kind = tag >> 3, tag & 7
        value: int | memoryview
        if kind == _VARINT:
            value, position = _varint(view, position)
        else:
            if kind == _BYTES:
                length, position = _varint(view, position)
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise ValueError(f"wire type {kind}")
            value = view[position : position + length]
            if len(value) != length:
                raise ValueError("truncated field")
            position += length
        if number == 0:
            raise ValueError("field number 0")
        yield number, value, start, position


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _as_int(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("expected an integer")
    return _signed(value)


def _as_view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("expected bytes")
    return value


def _as_text(value: int | memoryview) -> str:
    return str(_as_view(value), "utf-8")


def _as_ints(value: int | memoryview) -> list[int]:
    """One integer, or a packed list of them."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(_signed(number))
    return numbers


def _as_floats(value: int | memoryview) -> list[float]:
    view = _as_view(value)
    return list(struct.unpack(f"<{len(view) // 4}f", view))


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _encode_bytes(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | _BYTES) + _encode_varint(len(content)) + content
