"""Read members of an untrusted ZIP archive into memory, with limits; nothing is written to disk."""

from __future__ import annotations

import zipfile
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_bundles.files.bounded_zip import COMPRESSIONS, ZIP_ERRORS, BoundedReader
from ptyonnx_bundles.files.input_files import check_regular_file

__all__ = ["ZipMembers", "open_archive"]

_LARGEST_ARCHIVE = 2**33  # bytes; a bundle at N = 256 with eight times the filters has less than 2 GiB
_MOST_MEMBERS = 10_000
# Weights hardly compress. Deflate reaches a ratio of 1032 on zeros, and nested archives multiply it: the
# limit applies to all bytes that the file and the archives inside it decompress to.
_LARGEST_RATIO = 100
_SMALL = 2**26  # bytes; a smaller member may have any ratio
_LARGEST_UNPACKED = 2**32 + _SMALL  # bytes: a model of 2 GiB and its members
_LARGEST_DECLARED = 2**33  # bytes of all members, read or not: a model and a training state of three times its size
_PIECE = 2**20  # bytes that are decompressed at a time: a false size in a header costs no more


class _Budget:
    """Number of bytes that may still be decompressed from a file, including archives inside it."""

    def __init__(self, packed: int) -> None:
        most = max(_SMALL, _LARGEST_RATIO * packed)
        self.left = min(_LARGEST_UNPACKED, most)
        self.declared = min(
            _LARGEST_DECLARED, most
        )  # sizes in the directory of each archive; most members are never read


def open_archive(file: Path) -> ZipMembers:
    """Open an archive.

    Raises
    ------
    ConversionError
        The file is not an archive or truncated, has too many members, a duplicate name or an unsafe one.
    """
    check_regular_file(file, ConversionError, "give the path of a file")
    try:
        size = file.stat().st_size
        if size > _LARGEST_ARCHIVE:
            raise ConversionError("too large", file=file, found=f"{size} bytes", expected=f"at most {_LARGEST_ARCHIVE}")
        stream = BoundedReader(FileIO(file))
    except OSError as failure:
        raise ConversionError(f"cannot be read ({failure.strerror})", file=file, remedy="check the path") from None
    return ZipMembers(stream, file, None, _Budget(size))


class ZipMembers:
    """An open archive whose members are read by their exact names; :func:`open_archive` makes one.

    Attributes
    ----------
    file : Path
        Named in errors.
    key : str or None
        The name of the archive in `file`, if it is a member of another archive.
    """

    def __init__(self, stream: BufferedReader, file: Path, key: str | None, budget: _Budget) -> None:
        self.file, self.key = file, key
        self._stream, self._budget = stream, budget
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            self._zip = zipfile.ZipFile(stream)
            self._read_directory()
        except ZIP_ERRORS:
            stream.close()
            raise ConversionError(
                "not a complete ZIP archive", file=file, key=key,
                remedy="the file is truncated or has another format; fetch it again",
            ) from None  # fmt: skip
        except ConversionError:
            stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._stream.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members, in the order of the archive."""
        return tuple(self._members)

    def inside(self, name: str, largest: int) -> ZipMembers:
        """Open a member that is an archive itself; for `name` and `largest` see :meth:`read`."""
        stream = BoundedReader(cast("FileIO", BytesIO(self.read(name, largest))))
        return ZipMembers(stream, self.file, name, self._budget)

    def read(self, name: str, largest: int) -> bytes:
        """Read one member.

        Parameters
        ----------
        name : str
        largest : int
            Largest number of bytes that it may have.

        Raises
        ------
        ConversionError
            The member is missing, larger, encrypted or damaged, or the file decompresses to a hundred times its size.
        """
        info = self._info(name)
        if info.file_size > largest:
            raise ConversionError(
                "too large", file=self.file, key=name, found=f"{info.file_size} bytes", expected=f"at most {largest}"
            )
        if info.file_size > self._budget.left:
            most = f"at most {self._budget.left} more"
            raise self._bomb_error("decompresses to many times the size of the file", info, info.file_size, most)
        self._budget.left -= info.file_size
        try:
            data = self._decompress(info)
        except ZIP_ERRORS:
            data = None
        if data is None or len(data) != info.file_size:
            raise ConversionError(
                "a member that is damaged, encrypted or compressed in an unsupported way", file=self.file, key=name,
                remedy="fetch the file again",
            )  # fmt: skip
        return data

    def _decompress(self, info: zipfile.ZipInfo) -> bytes | None:
        """Decompress a member; `zipfile` stops at its stated size and compares its checksum."""
        if info.compress_type not in COMPRESSIONS:
            return None
        data = bytearray()
        with self._zip.open(info) as stream:
            while piece := stream.read(_PIECE):
                data += piece
        return bytes(data)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise ConversionError("a member is missing", file=self.file, key=name, remedy="fetch the file again")
        return self._members[name]

    def _read_directory(self) -> None:
        infos = self._zip.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise ConversionError(
                "too many members", file=self.file, key=self.key, found=len(infos), expected=_MOST_MEMBERS
            )
        for info in infos:
            self._check_name(info.filename)
            self._members[info.filename] = info
        self._check_sizes(infos)

    def _check_sizes(self, infos: list[zipfile.ZipInfo]) -> None:
        """Refuse ZIP bombs, also in members that are never read; reading counts again, since the directory may be false."""
        for info in infos:
            most = max(_SMALL, _LARGEST_RATIO * info.compress_size)
            if info.file_size > most:
                raise self._bomb_error(
                    "decompresses to many times its compressed size", info, info.file_size, f"at most {most}"
                )
        total, most = sum(info.file_size for info in infos), self._budget.declared
        if total > most:
            largest = max(infos, key=lambda info: info.file_size)
            raise self._bomb_error(
                "members that decompress to many times the size of the file", largest, total, f"at most {most}"
            )

    def _bomb_error(self, problem: str, info: zipfile.ZipInfo, size: int, expected: str) -> ConversionError:
        return ConversionError(
            problem, file=self.file, key=info.filename, found=f"{size} bytes", expected=expected,
            remedy="do not trust this file",
        )  # fmt: skip

    def _check_name(self, name: str) -> None:
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            raise ConversionError(
                "a member whose name points outside the archive", file=self.file, key=name,
                remedy="nothing was unpacked; do not trust this file",
            )  # fmt: skip
        if name in self._members:
            raise ConversionError("two members of one name", file=self.file, key=name)
