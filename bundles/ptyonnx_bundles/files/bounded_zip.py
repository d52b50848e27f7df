"""Open untrusted ZIP archives with a limit on their directory.

The readers of scans, results and foreign networks limit number and sizes of the members.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from io import BufferedReader

__all__ = ["COMPRESSIONS", "ZIP_ERRORS", "BoundedReader"]

_LARGEST_DIRECTORY = 2**21  # bytes; 20 000 members

COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # other methods cannot be decompressed in pieces

# Errors of `zipfile` and the libraries below it on damaged archives.
ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    RuntimeError, NotImplementedError, LookupError, TypeError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip


class BoundedReader(BufferedReader):
    """A file that refuses large reads: `zipfile` would read a directory of any size and keep every entry."""

    def read(self, size: int | None = -1) -> bytes:
        """Read at most the largest allowed directory.

        Raises
        ------
        zipfile.BadZipFile
        """
        if size is not None and size > _LARGEST_DIRECTORY:
            raise zipfile.BadZipFile
        return super().read(size)
