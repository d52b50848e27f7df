"""Messages between a process and its child: a header in JSON, then arrays as raw bytes.

Neither side evaluates what it receives. The parent does not trust the child, which runs an untrusted
graph: it checks dtypes, shapes and sizes before it allocates memory.
"""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUMBERS", "Deadline", "Message", "receive", "send"]

NUMBERS = "biufc"  # kinds of NumPy's dtypes

_LENGTH = struct.Struct("<I")
_LARGEST_HEADER_BYTES = 2**20  # bytes
_MOST_DIMENSIONS = 32
_DTYPE = re.compile(rf"[<>|=]?[{NUMBERS}][0-9]{{1,2}}")  # NumPy's names of these kinds


class Message(NamedTuple):
    """A header and arrays.

    Attributes
    ----------
    header : mapping of str to JSON
    arrays : list of ndarray
    """

    header: Mapping[str, Any]
    arrays: Sequence[NDArray[Any]] = ()


class Deadline:
    """A time limit for several operations together.

    Parameters
    ----------
    limit_s : float
        From now on; infinity: no limit.
    """

    def __init__(self, limit_s: float = math.inf) -> None:
        self._end = time.monotonic() + limit_s

    def apply(self, connection: socket.socket) -> None:
        """Set the timeout of the next operation on a socket.

        Raises
        ------
        TimeoutError
            The time limit has passed.
        """
        left_s = self._end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(None if math.isinf(left_s) else left_s)


def send(connection: socket.socket, message: Message, deadline: Deadline) -> None:
    """Send a message.

    Parameters
    ----------
    connection : socket
    message : Message
    deadline : Deadline

    Raises
    ------
    TimeoutError, OSError
        The other side does not read or has ended.
    """
    arrays = [np.asarray(array, order="C") for array in message.arrays]
    described = [[array.dtype.str, array.shape] for array in arrays]
    header = json.dumps([message.header, described]).encode()
    deadline.apply(connection)
    connection.sendall(_LENGTH.pack(len(header)) + header)
    for array in arrays:
        if array.nbytes:
            deadline.apply(connection)
            connection.sendall(array.reshape(-1).view(np.uint8).data)


def receive(connection: socket.socket, largest_bytes: int, deadline: Deadline) -> Message:
    """Receive a message.

    Parameters
    ----------
    connection : socket
    largest_bytes : int
        Largest size of all arrays together.
    deadline : Deadline

    Raises
    ------
    EOFError
        The other side has ended.
    TimeoutError
        It sends nothing.
    ValueError
        It sends a malformed message or one that is too large.
    """
    head = bytearray(_LENGTH.size)
    _fill(connection, head, deadline)
    (length,) = _LENGTH.unpack(head)
    if length > _LARGEST_HEADER_BYTES:
        raise ValueError("the header of a message is too long")
    text = bytearray(length)
    _fill(connection, text, deadline)
    header, shapes = _parsed(text)
    if sum(dtype.itemsize * math.prod(shape) for dtype, shape in shapes) > largest_bytes:
        raise ValueError("the arrays of a message are too large")
    arrays = []
    for dtype, shape in shapes:
        array = np.empty(shape, dtype)
        if array.nbytes:
            _fill(connection, array.reshape(-1).view(np.uint8).data, deadline)
        arrays.append(array)
    return Message(header, arrays)


def _parsed(text: bytearray) -> tuple[dict[str, Any], list[tuple[np.dtype[Any], tuple[int, ...]]]]:
    """Parse the header of a message, and dtype and shape of each of its arrays."""
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise ValueError("the header of a message is nested too deeply") from None
    match parsed:
        case [dict() as header, list() as described]:
            return header, [_described(*array) for array in described]
    raise ValueError("a malformed message")


def _described(name: Any, shape: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    if not (isinstance(name, str) and _DTYPE.fullmatch(name) and isinstance(shape, list)):
        raise ValueError("a message with an array that is not numeric")
    if len(shape) > _MOST_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("a message with an invalid shape")
    return np.dtype(name), tuple(shape)


def _fill(connection: socket.socket, into: bytearray | memoryview, deadline: Deadline) -> None:
    """Read until a buffer is full."""
    rest = memoryview(into)
    while rest:
        deadline.apply(connection)
        count = connection.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
