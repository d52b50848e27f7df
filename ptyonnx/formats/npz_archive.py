"""Arrays in an NPZ file that a stranger made: nothing is unpickled, nothing grows without bound.

Small arrays are read into memory up to a stated size. A large one stays where it is if it is
stored, and is unpacked into an unlinked temporary file if it is compressed. What the arrays
mean is the business of `ptychopinn_npz`.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import PtyonnxError, ScanError

__all__ = ["ArrayHeader", "NpzArchive"]

_BLOCK_BYTES = 2**20
_LARGEST_HEADER_BYTES = 10_000  # NumPy's own limit
_LOCAL_HEADER_BYTES = 30  # fixed part of a zip member's local header
_LARGEST_SMALL_BYTES = 2**32  # of an array that is read into memory: a 23 000 x 23 000 object
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, SyntaxError, RuntimeError, NotImplementedError)


class ArrayHeader(NamedTuple):
    """What stands at the beginning of a `.npy` member."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size_bytes: int  # of the header itself

    @property
    def data_bytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzArchive:
    """An open NPZ file.

    Parameters
    ----------
    path : Path
    error : type of PtyonnxError
        Raised for whatever is wrong.

    Raises
    ------
    PtyonnxError
        Of the given type: missing, unreadable, truncated, or not an NPZ.
    """

    def __init__(self, path: Path, error: type[PtyonnxError] = ScanError) -> None:
        self._path, self._error = path, error
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as failure:
            raise error(f"cannot be read ({failure.strerror})", file=path, remedy="check the path") from None
        except _DAMAGED:
            raise error(
                "not a complete NPZ file", file=path, remedy="the file is truncated or something else; fetch it again"
            ) from None
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self._members)

    def header(self, key: str) -> ArrayHeader:
        """Shape and dtype of an array, checked against the size of its member.

        Raises
        ------
        PtyonnxError
            Not a plain array, or its size is not that of the member.
        """
        info = self._members[key]
        try:
            with self._zip.open(info) as stream:
                header = _read_header(stream)
        except _DAMAGED:
            raise self._damaged(key) from None
        if header.dtype.hasobject:
            raise self._error(
                "Python objects, which would have to be unpickled", file=self._path, key=key,
                expected="an array of numbers", remedy="convert it with numpy.asarray(…, dtype=…) and save again",
            )  # fmt: skip
        if header.size_bytes + header.data_bytes != info.file_size:
            raise self._damaged(key)
        return header

    def small(self, key: str) -> NDArray[Any]:
        """An array, read into memory; errors as in :meth:`header`, and beyond 4 GiB."""
        header = self.header(key)
        if header.data_bytes > _LARGEST_SMALL_BYTES:
            raise self._error(
                "too large", file=self._path, key=key, found=f"{header.data_bytes} bytes", expected="at most 4 GiB"
            )
        buffer = bytearray()
        self._unpack(key, header.size_bytes + header.data_bytes, buffer.extend)
        array = np.frombuffer(buffer, header.dtype, offset=header.size_bytes)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")

    def large(self, key: str, data_bytes: int) -> tuple[FileIO, int]:
        """A file in which the first `data_bytes` of an array lie, and the offset at which they begin.

        A member that is not compressed is used in place; otherwise it is unpacked into a
        temporary file that vanishes when it is closed.

        Raises
        ------
        PtyonnxError
            Damaged, or no space for the temporary file.
        """
        info, header = self._members[key], self.header(key)
        wanted = header.size_bytes + data_bytes
        if info.compress_type == zipfile.ZIP_STORED:
            self._unpack(key, wanted, len)  # for the checksum alone
            return self._path.open("rb", buffering=0), self._start(info) + header.size_bytes
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if wanted > free:
            raise self._no_space(key, wanted)
        with ExitStack() as stack:  # closes the file unless all goes well
            spool = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            try:
                self._unpack(key, wanted, spool.write)
            except OSError:
                raise self._no_space(key, wanted) from None
            stack.pop_all()
        return spool, header.size_bytes

    def _unpack(self, key: str, size: int, sink: Callable[[bytes], object]) -> None:
        """Hand the first `size` bytes of a member to `sink`; reading to its end checks the checksum."""
        left = size
        try:
            with self._zip.open(self._members[key]) as stream:
                while left:
                    block = stream.read(min(left, _BLOCK_BYTES))
                    if not block:
                        raise self._damaged(key)
                    sink(block)
                    left -= len(block)
        except _DAMAGED:
            raise self._damaged(key) from None

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Offset of a stored member's bytes: behind its local header, whose length varies."""
        with self._path.open("rb") as stream:
            stream.seek(info.header_offset)
            local = stream.read(_LOCAL_HEADER_BYTES)
        name, extra = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
        return info.header_offset + _LOCAL_HEADER_BYTES + name + extra

    def _damaged(self, key: str) -> PtyonnxError:
        return self._error(
            "not a complete array", file=self._path, key=key, remedy="the file is damaged; fetch it again"
        )

    def _no_space(self, key: str, size: int) -> PtyonnxError:
        return self._error(
            f"cannot be unpacked into {tempfile.gettempdir()}", file=self._path, key=key,
            expected=f"{size} bytes of free space", remedy="set TMPDIR to a larger disk, or save without compression",
        )  # fmt: skip


def _read_header(stream: IO[bytes]) -> ArrayHeader:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, _LARGEST_HEADER_BYTES)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream, _LARGEST_HEADER_BYTES)
    else:
        raise ValueError(version)
    if any(length < 0 for length in shape):
        raise ValueError(shape)
    return ArrayHeader(shape, fortran, dtype, stream.tell())
