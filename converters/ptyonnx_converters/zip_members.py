"""Members of a ZIP archive that a stranger made: read into memory, bounded, nothing written to disk.

What the members mean is left to those who ask for them by name.
"""

from __future__ import annotations

import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

from ptyonnx_bundles.errors import ConversionError

__all__ = ["ZipMembers"]

_LARGEST_ARCHIVE = 2**33  # bytes; a bundle at N = 256 with eight times the filters has less than 2 GiB
_MOST_MEMBERS = 10_000
# Weights hardly compress. Deflate packs zeros 1 : 1032, which is a bomb when there are many of them.
_LARGEST_RATIO = 100
_KNOWN = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # the other kinds of packing cannot be unpacked piece by piece
_PIECE = 2**20  # bytes that are unpacked at a time: a header that lies costs no more
_SMALL = 2**26  # bytes; below this any ratio is harmless
_DAMAGED = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError,
    OSError, IndexError, OverflowError,
)  # fmt: skip


class ZipMembers:
    """An open archive whose members are read by their exact names.

    Parameters
    ----------
    source : Path or bytes
        A file, or the archive itself where it is a member of another one.
    file : Path
        Named in errors.
    key : str, optional
        The member that the archive is, named in errors.

    Raises
    ------
    ConversionError
        Not an archive, truncated, too many members, a name twice or one that leads elsewhere.
    """

    def __init__(self, source: Path | bytes, file: Path, key: str | None = None) -> None:
        self._file, self._key = file, key
        try:
            if isinstance(source, Path) and source.exists() and not source.is_file():
                raise ConversionError("not a file", file=file, remedy="check the path")
            if isinstance(source, Path) and source.stat().st_size > _LARGEST_ARCHIVE:
                raise ConversionError(
                    "too large",
                    file=file,
                    found=f"{source.stat().st_size} bytes",
                    expected=f"at most {_LARGEST_ARCHIVE}",
                )
            self._zip = zipfile.ZipFile(source if isinstance(source, Path) else BytesIO(source))
        except (FileNotFoundError, IsADirectoryError, PermissionError) as failure:
            raise ConversionError(f"cannot be read ({failure.strerror})", file=file, remedy="check the path") from None
        except _DAMAGED:
            raise ConversionError(
                "not a complete ZIP archive",
                file=file,
                key=key,
                remedy="the file is truncated or something else; fetch it again",
            ) from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        infos = self._zip.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise ConversionError("too many members", file=file, key=key, found=len(infos), expected=_MOST_MEMBERS)
        for info in infos:
            self._check_name(info.filename)
            self._members[info.filename] = info

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members, in the order of the archive."""
        return tuple(self._members)

    def size(self, name: str) -> int:
        """Bytes that a member says it has; :meth:`read` gives no more and no fewer."""
        return self._info(name).file_size

    def read(self, name: str, largest: int) -> bytes:
        """Unpack one member.

        Parameters
        ----------
        name : str
        largest : int
            Bytes that it may have.

        Raises
        ------
        ConversionError
            Missing, larger, packed a hundred times and large, encrypted, or damaged.
        """
        info = self._info(name)
        if info.file_size > largest:
            raise ConversionError(
                "too large", file=self._file, key=name, found=f"{info.file_size} bytes", expected=f"at most {largest}"
            )
        if info.file_size > max(_SMALL, _LARGEST_RATIO * info.compress_size):
            raise ConversionError(
                "a member that unpacks to many times its size", file=self._file, key=name,
                found=f"{info.compress_size} bytes for {info.file_size}", expected=f"at most {_LARGEST_RATIO} times",
            )  # fmt: skip
        try:
            data = self._unpacked(info)
        except _DAMAGED:
            data = None
        if data is None or len(data) != info.file_size:
            raise ConversionError(
                "a member that is damaged, encrypted or packed in an unknown way", file=self._file, key=name,
                remedy="fetch the file again",
            )  # fmt: skip
        return data

    def _unpacked(self, info: zipfile.ZipInfo) -> bytes | None:
        """The member, no more of it than it says; its checksum is compared at the end."""
        if info.compress_type not in _KNOWN:
            return None
        data = bytearray()
        with self._zip.open(info) as stream:
            while piece := stream.read(_PIECE):
                data += piece
        return bytes(data)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise ConversionError("a member is missing", file=self._file, key=name, remedy="fetch the file again")
        return self._members[name]

    def _check_name(self, name: str) -> None:
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
            raise ConversionError(
                "a member whose name leads out of the archive", file=self._file, key=name,
                remedy="nothing was unpacked; do not trust this file",
            )  # fmt: skip
        if name in self._members:
            raise ConversionError("two members of one name", file=self._file, key=name)
