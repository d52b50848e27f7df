"""Read and write a file at stated offsets.

The position of an open file is shared between threads and forked processes, so that another one may change it between
a seek and a read. The functions here neither use nor change it.
"""

from __future__ import annotations

import os
import sys
from threading import Lock
from typing import IO

__all__ = ["read_at", "write_at"]


def read_at(file: IO[bytes], buffer: memoryview, offset: int) -> int:
    """Fill a buffer from a file.

    Parameters
    ----------
    file : binary file
        With a descriptor; its own buffer is not used.
    buffer : memoryview of bytes
    offset : int
        Byte of the file at which reading begins.

    Returns
    -------
    int
        Number of bytes read; less than the size of the buffer only at the end of the file.
    """
    filled = 0
    while filled < len(buffer):
        read = _read_some(file.fileno(), buffer[filled:], offset + filled)
        if not read:
            break
        filled += read
    return filled


def write_at(file: IO[bytes], data: memoryview, offset: int) -> None:
    """Write all of a buffer into a file.

    Parameters
    ----------
    file : binary file
        With a descriptor, unbuffered.
    data : memoryview of bytes
    offset : int
        Byte of the file at which writing begins.
    """
    written = 0
    while written < len(data):
        written += _write_some(file.fileno(), data[written:], offset + written)


if sys.platform != "win32":

    def _read_some(descriptor: int, buffer: memoryview, offset: int) -> int:
        return os.preadv(descriptor, [buffer], offset)

    def _write_some(descriptor: int, data: memoryview, offset: int) -> int:
        return os.pwrite(descriptor, data, offset)

else:  # Windows has neither pread nor fork: a lock for threads suffices
    _LOCK = Lock()

    def _read_some(descriptor: int, buffer: memoryview, offset: int) -> int:
        with _LOCK:
            os.lseek(descriptor, offset, os.SEEK_SET)
            part = os.read(descriptor, len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def _write_some(descriptor: int, data: memoryview, offset: int) -> int:
        with _LOCK:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)
