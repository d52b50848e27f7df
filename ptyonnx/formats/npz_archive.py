"""Arrays in an NPZ file that a stranger made: nothing is unpickled, nothing grows without bound.

Small arrays are read into memory up to a stated size. A large one stays where it is if it is
stored, and is unpacked into an unlinked temporary file if it is compressed. What the arrays
mean is the business of `ptychopinn_npz`.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import PtyonnxError, ScanError
from ptyonnx_bundles.files.bounded_zip import COMPRESSIONS, ZIP_ERRORS, BoundedReader
from ptyonnx_bundles.files.input_files import check_regular_file
from ptyonnx_bundles.files.npy import NotPlainError, NpyHeader, read_header
from ptyonnx_bundles.files.positional_io import read_at
from ptyonnx_bundles.files.temporary_folder import temporary_folder

__all__ = ["ArrayHeader", "Checksum", "NpzArchive"]

ArrayHeader = NpyHeader

_BLOCK_BYTES = 2**20
_LOCAL_HEADER_BYTES = 30  # fixed part of a zip member's local header
_LARGEST_SMALL_BYTES = 2**28  # of an array that is read into memory, unless the caller knows better
# Deflate packs zeros 1 : 1032, measured arrays 1 : 2.
_SMALL = 2**26  # bytes; below this any ratio is harmless
_LARGEST_RATIO = 100


class Checksum(NamedTuple):
    """CRC-32 of a member, for whoever reads its array anyway.

    Attributes
    ----------
    begun : int
        Of the array's header: the data continue it, ``zlib.crc32(data, begun)``.
    expected : int
        Of header and data.
    """

    begun: int
    expected: int


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
        check_regular_file(path, error, "give the path of a file")
        try:
            self._stream = BoundedReader(FileIO(path))
            self._size = path.stat().st_size
        except OSError as failure:
            raise error(f"cannot be read ({failure.strerror})", file=path, remedy="check the path") from None
        try:
            self._zip = zipfile.ZipFile(self._stream)
        except ZIP_ERRORS:
            self._stream.close()
            raise error(
                "not a complete NPZ file", file=path, remedy="the file is truncated or something else; fetch it again"
            ) from None
        infos = self._zip.infolist()
        self._members = {info.filename.removesuffix(".npy"): info for info in infos}
        if len(self._members) < len(infos):
            self._close()
            raise error("two arrays of one name", file=path, remedy="the file is damaged; fetch it again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._zip.close()
        self._stream.close()

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
            if info.compress_type not in COMPRESSIONS:
                raise self._damaged(key)
            with self._zip.open(info) as stream:
                header = read_header(stream)
        except NotPlainError as found:
            raise self._error(
                "no plain array, but Python objects, which would have to be unpickled, or records",
                file=self._path, key=key, found=found, expected="an array of numbers",
                remedy="convert it with numpy.asarray(…, dtype=…) and save again",
            ) from None  # fmt: skip
        except ZIP_ERRORS:
            raise self._damaged(key) from None
        if header.size_bytes + header.data_bytes != info.file_size:
            raise self._damaged(key)
        return header

    def small(self, key: str, most_bytes: int = _LARGEST_SMALL_BYTES) -> NDArray[Any]:
        """An array, read into memory.

        Parameters
        ----------
        key : str
        most_bytes : int
            What the caller can need; more is refused before it is unpacked.

        Raises
        ------
        PtyonnxError
            As in :meth:`header`; or it is larger, or unpacks to many times its packed size.
        """
        info, header = self._members[key], self.header(key)
        plausible = max(_SMALL, _LARGEST_RATIO * min(info.compress_size, self._size))
        for most, problem in ((most_bytes, "too large"), (plausible, "unpacks to many times its packed size")):
            if header.data_bytes > most:
                raise self._error(
                    problem, file=self._path, key=key, found=f"{header.data_bytes} bytes",
                    expected=f"at most {most} bytes", remedy="leave it out, or do not trust this file",
                )  # fmt: skip
        buffer = bytearray()
        self._unpack(key, header.size_bytes + header.data_bytes, buffer.extend)
        array = np.frombuffer(buffer, header.dtype, offset=header.size_bytes)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")

    def large(self, key: str, data_bytes: int, *, unread: bool = False) -> tuple[FileIO, int]:
        """A file in which the first `data_bytes` of an array lie, and the offset at which they begin.

        A member that is not compressed is used in place; otherwise it is unpacked into a
        temporary file that vanishes when it is closed.

        Parameters
        ----------
        key : str
        data_bytes : int
        unread : bool
            The caller compares the :meth:`checksum` itself: a member that is used in place is not read for it.

        Raises
        ------
        PtyonnxError
            Damaged, or no space for the temporary file.
        """
        info, header = self._members[key], self.header(key)
        wanted = header.size_bytes + data_bytes
        if info.compress_type == zipfile.ZIP_STORED:
            if info.compress_size != info.file_size:
                raise self._damaged(key)
            if not unread:
                self._unpack(key, wanted, len)  # for the checksum alone
            return self._path.open("rb", buffering=0), self._start(info) + header.size_bytes
        folder = temporary_folder()
        free = shutil.disk_usage(folder).free
        if wanted > free:
            raise self._no_space(key, wanted)
        with ExitStack() as stack:  # closes the file unless all goes well
            try:
                spool = stack.enter_context(tempfile.TemporaryFile(buffering=0, dir=folder))
                self._unpack(key, wanted, spool.write)
            except OSError:
                raise self._no_space(key, wanted) from None
            stack.pop_all()
        return spool, header.size_bytes

    def checksum(self, key: str) -> Checksum | None:
        """What the bytes of an array that is used in place must add up to; None for one that is unpacked and checked."""
        info = self._members[key]
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        header = bytearray(self.header(key).size_bytes)
        read_at(self._stream, memoryview(header), self._start(info))
        return Checksum(zlib.crc32(header), info.CRC)

    def _unpack(self, key: str, size: int, sink: Callable[[bytes], object]) -> None:
        """Hand the first `size` bytes of a member to `sink`; reading to its end checks the checksum."""
        left = size
        with ExitStack() as stack:
            try:
                stream = stack.enter_context(self._zip.open(self._members[key]))
            except ZIP_ERRORS:
                raise self._damaged(key) from None
            while left:
                try:
                    block = stream.read(min(left, _BLOCK_BYTES))
                except ZIP_ERRORS:
                    block = b""
                if not block:
                    raise self._damaged(key)
                sink(block)
                left -= len(block)

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
