"""Open ZIP archives that a stranger made: nothing of any length is read before it is known to be needed.

Which members there may be, and how large, is for the readers to say: scans and results, networks of other systems.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from io import BufferedReader

__all__ = ["COMPRESSIONS", "ZIP_ERRORS", "BoundedReader"]

_LARGEST_DIRECTORY = 2**21  # bytes; 20 000 members

COMPRESSIONS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # the others cannot be unpacked piece by piece

# What `zipfile` and the libraries below it make of damaged archives.
ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError,
    RuntimeError, NotImplementedError, LookupError, TypeError, AttributeError, OverflowError, MemoryError,
)  # fmt: skip


class BoundedReader(BufferedReader):
    """A file that is read in pieces only: `zipfile` would read a directory of any length, and keep every entry."""

    def read(self, size: int | None = -1) -> bytes:
        """Read no more than a directory may have.

        Raises
        ------
        zipfile.BadZipFile
        """
        if size is not None and size > _LARGEST_DIRECTORY:
            raise zipfile.BadZipFile
        return super().read(size)
