"""The protobuf wire format: decode messages into fields and encode fields, without their meaning.

Decoding is stricter than protobuf requires. A table lists the fields that a message may have and how often;
anything else is refused, so that two readers never decode the same bytes differently, and a small file
never needs much memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ptyonnx_bundles.errors import BundleError

__all__ = ["Field", "Message", "encode_bytes", "fields"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups are refused
_MOST_VARINT_BYTES = 10

Value = int | bytes | memoryview  # a varint, a fixed number, bytes or a message


class Field(NamedTuple):
    """A field that a message may have: its name and largest number of occurrences."""

    name: str
    most: int = 1


class Message:
    """One message with its fields by name; embedded messages are not decoded.

    Parameters
    ----------
    view : memoryview
        The bytes of the message.
    table : mapping of int to Field
        Field number -> allowed field.
    kind : str
        Name of the message type, for errors.

    Raises
    ------
    BundleError
        A field is unknown or occurs too often.
    ValueError, IndexError
        The bytes are not a message.
    """

    def __init__(self, view: memoryview, table: Mapping[int, Field], kind: str) -> None:
        self.values: dict[str, list[Value]] = {}
        for number, value, _ in fields(view):
            if number not in table:
                raise BundleError(f"not an ONNX model of a bundle: unknown field {number} in {kind}")
            name, most = table[number]
            found = self.values.setdefault(name, [])
            if len(found) == most:
                problem = f"more than {most} '{name}' in {kind}" if most else f"the model contains {name}"
                raise BundleError(problem, remedy="see 'What a reader refuses' in the bundle specification")
            found.append(value)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def views(self, name: str) -> list[memoryview]:
        """Return all values of a field that holds bytes or messages."""
        return [_as_view(value) for value in self.values.get(name, ())]

    def texts(self, name: str) -> list[str]:
        """Return all values of a field that holds text."""
        return [str(value, "utf-8") for value in self.views(name)]

    def text(self, name: str) -> str:
        """Return the value of a text field, or an empty text if it is absent."""
        return (self.texts(name) or [""])[0]

    def integer(self, name: str) -> int:
        """Return the value of an integer field, or 0 if it is absent."""
        value = self.values.get(name, [0])[0]
        if not isinstance(value, int):
            raise ValueError("bytes where a number belongs")  # noqa: TRY004 - the file is wrong, not the program
        return _signed(value)

    def real(self, name: str) -> float:
        """Return the value of a float32 field, or 0 if it is absent."""
        (value,) = struct.unpack("<f", _as_fixed(self.values.get(name, [bytes(4)])[0]))
        return float(value)

    def integers(self, name: str, most: int) -> list[int]:
        """Return all values of a field that holds integers, one by one or packed; at most `most`."""
        numbers: list[int] = []
        for value in self.values.get(name, ()):
            if isinstance(value, int):
                numbers.append(_signed(value))
            else:
                view, position = _as_view(value), 0
                while position < len(view) and len(numbers) <= most:
                    number, position = _varint(view, position)
                    numbers.append(_signed(number))
            if len(numbers) > most:
                raise BundleError(f"more than {most} numbers in '{name}'")
        return numbers

    def reals(self, name: str, most: int) -> list[float]:
        """Return all values of a field that holds float32, one by one or packed; at most `most`."""
        numbers: list[float] = []
        for value in self.values.get(name, ()):
            packed = value if isinstance(value, memoryview) else _as_fixed(value)
            count = len(packed) // 4
            if len(numbers) + count > most:
                raise BundleError(f"more than {most} numbers in '{name}'")
            numbers += struct.unpack(f"<{count}f", packed)
        return numbers


def fields(view: memoryview) -> Iterator[tuple[int, Value, int]]:
    """Iterate over the fields of a message: field number, value, and end position of the field."""
    position = 0
    while position < len(view):
        tag, position = _varint(view, position)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("field number 0")
        value: Value
        if kind == _VARINT:
            value, position = _varint(view, position)
        else:
            if kind == _BYTES:
                length, position = _varint(view, position)
            elif kind in {_FIXED32, _FIXED64}:
                length = 4 if kind == _FIXED32 else 8
            else:
                raise ValueError(f"wire type {kind}")
            if length > len(view) - position:
                raise ValueError("truncated field")
            content = view[position : position + length]
            value = content if kind == _BYTES else bytes(content)
            position += length
        yield number, value, position


def encode_bytes(number: int, content: bytes) -> bytes:
    """Encode one field that holds bytes, text or a message."""
    return _encode_varint(number << 3 | _BYTES) + _encode_varint(len(content)) + content


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """Read one unsigned 64-bit number; return it and the position after it."""
    result = 0
    for index in range(_MOST_VARINT_BYTES):
        byte = view[position + index]
        result |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if result >= 2**64:
                break
            return result, position + index + 1
    raise ValueError("varint too long")


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _as_view(value: Value) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a number where bytes belong")  # noqa: TRY004 - the file is wrong, not the program
    return value


def _as_fixed(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("bytes where a fixed number belongs")  # noqa: TRY004 - the file is wrong, not the program
    return value
