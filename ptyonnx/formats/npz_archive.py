"""Arrays in an untrusted NPZ file: nothing is unpickled, and every size is bounded.

Small arrays are read into memory. Large ones are read in place if they are not compressed; otherwise they are
decompressed into an unlinked temporary file. `ptychopinn_npz` knows what the arrays mean.
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
_LARGEST_SMALL_BYTES = 2**28  # of an array that is read into memory, unless the caller allows more
# Deflate packs zeros 1 : 1032, measured arrays 1 : 2.
_SMALL = 2**26  # bytes; below this any ratio is harmless
_LARGEST_RATIO = 100


class Checksum(NamedTuple):
    """CRC-32 of a member, to be verified by a caller that reads the whole array.

    Attributes
    ----------
    begun : int
        CRC-32 of the array's header, to be continued with the data: ``zlib.crc32(data, begun)``.
    expected : int
        CRC-32 of header and data.
    """

    begun: int
    expected: int


class NpzArchive:
    """An open NPZ file.

    Parameters
    ----------
    path : Path
    error : type of PtyonnxError
        Raised for all faults of the file.

    Raises
    ------
    PtyonnxError
        Of the given type. The file is missing, unreadable, truncated, or not an NPZ.
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
                "not a complete NPZ file", file=path, remedy="the file is truncated or of another format; copy it again"
            ) from None
        infos = self._zip.infolist()
        self._members = {info.filename.removesuffix(".npy"): info for info in infos}
        if len(self._members) < len(infos):
            self._close()
            raise error("two arrays have the same name", file=path, remedy="the file is damaged; copy it again")

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
            The member is not an array of numbers, or the sizes in its headers differ.
        """
        info = self._members[key]
        try:
            if info.compress_type not in COMPRESSIONS:
                raise self._damaged(key)
            with self._zip.open(info) as stream:
                header = read_header(stream)
        except NotPlainError as found:
            raise self._error(
                "contains Python objects or records, which are not read: unpickling them could run code",
                file=self._path, key=key, found=found, expected="an array of numbers",
                remedy="convert it with numpy.asarray(…, dtype=…) and save again",
            ) from None  # fmt: skip
        except ZIP_ERRORS:
            raise self._damaged(key) from None
        if header.size_bytes + header.data_bytes != info.file_size:
            raise self._damaged(key)
        return header

    def read(self, key: str, most_bytes: int = _LARGEST_SMALL_BYTES) -> NDArray[Any]:
        """Read an array into memory.

        Parameters
        ----------
        key : str
        most_bytes : int
            Larger arrays are refused before they are decompressed.

        Raises
        ------
        PtyonnxError
            As in :meth:`header`; or the array is larger, or its compression ratio is implausible.
        """
        info, header = self._members[key], self.header(key)
        plausible = max(_SMALL, _LARGEST_RATIO * min(info.compress_size, self._size))
        for most, problem in ((most_bytes, "too large"), (plausible, "implausible compression ratio")):
            if header.data_bytes > most:
                raise self._error(
                    problem, file=self._path, key=key, found=f"{header.data_bytes} bytes",
                    expected=f"at most {most} bytes", remedy="remove the array, or do not use this file",
                )  # fmt: skip
        buffer = bytearray()
        self._unpack(key, header.size_bytes + header.data_bytes, buffer.extend)
        array = np.frombuffer(buffer, header.dtype, offset=header.size_bytes)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")

    def locate(self, key: str, data_bytes: int, *, unread: bool = False) -> tuple[FileIO, int]:
        """Open a file that contains the first `data_bytes` of an array, and give the offset at which they begin.

        A member that is not compressed is used in place; otherwise it is decompressed into a temporary file, which is
        deleted when it is closed.

        Parameters
        ----------
        key : str
        data_bytes : int
        unread : bool
            The caller verifies the :meth:`checksum`, so that a member that is used in place is not read twice.

        Raises
        ------
        PtyonnxError
            The member is damaged, or there is no space for the temporary file.
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
        with ExitStack() as stack:  # closes the file after an error
            try:
                spool = stack.enter_context(tempfile.TemporaryFile(buffering=0, dir=folder))
                self._unpack(key, wanted, spool.write)
            except OSError:
                raise self._no_space(key, wanted) from None
            stack.pop_all()
        return spool, header.size_bytes

    def checksum(self, key: str) -> Checksum | None:
        """The checksum of an array that is used in place; None if it is decompressed, which verifies it."""
        info = self._members[key]
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        header = bytearray(self.header(key).size_bytes)
        read_at(self._stream, memoryview(header), self._start(info))
        return Checksum(zlib.crc32(header), info.CRC)

    def _unpack(self, key: str, size: int, sink: Callable[[bytes], object]) -> None:
        """Pass the first `size` bytes of a member to `sink`; reading to its end verifies the checksum."""
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
        """Offset of a member's bytes, which follow its local header; the length of the header varies."""
        with self._path.open("rb") as stream:
            stream.seek(info.header_offset)
            local = stream.read(_LOCAL_HEADER_BYTES)
        name, extra = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
        return info.header_offset + _LOCAL_HEADER_BYTES + name + extra

    def _damaged(self, key: str) -> PtyonnxError:
        return self._error(
            "not a complete array", file=self._path, key=key, remedy="the file is damaged; copy it again"
        )

    def _no_space(self, key: str, size: int) -> PtyonnxError:
        return self._error(
            f"cannot be decompressed into {tempfile.gettempdir()}", file=self._path, key=key,
            expected=f"{size} bytes of free space", remedy="set TMPDIR to a larger disk, or save without compression",
        )  # fmt: skip
