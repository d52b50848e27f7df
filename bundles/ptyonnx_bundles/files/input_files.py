"""Check input files: reading a pipe may wait, a device may never end, and a file may exceed the memory."""

from __future__ import annotations

import stat
from pathlib import Path

from ptyonnx_bundles.errors import PtyonnxError
from ptyonnx_bundles.files.output_paths import check_name

__all__ = ["check_regular_file", "read_text"]


def check_regular_file(path: Path, error: type[PtyonnxError], remedy: str) -> None:
    """Refuse a path that is not a regular file, or whose name is not UTF-8.

    The reader reports a file that is missing or not accessible.

    Parameters
    ----------
    path : Path
    error : type of PtyonnxError
        The error to raise.
    remedy : str
        What the user should give instead.
    """
    check_name(path, error)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise error(f"{kind}, not a file", file=path, remedy=remedy)


def read_text(path: Path, error: type[PtyonnxError], largest_bytes: int, *, expected: str, remedy: str) -> str:
    """Read a small text file, UTF-8.

    Parameters
    ----------
    path : Path
    error : type of PtyonnxError
        Raised if the file is missing, not a regular file, too large, or not text.
    largest_bytes : int
    expected : str
        The expected content, named in errors.
    remedy : str
        Remedy if it cannot be opened.
    """
    check_regular_file(path, error, f"name a file of {expected}")
    try:
        with path.open("rb") as stream:
            content = stream.read(largest_bytes + 1)
    except (OSError, ValueError) as failure:
        reason = (isinstance(failure, OSError) and failure.strerror) or failure
        raise error(f"cannot be read ({reason})", file=path, remedy=remedy) from None
    if len(content) > largest_bytes:
        raise error(
            f"too large for {expected}",
            file=path,
            found=f"more than {largest_bytes} bytes",
            remedy="is it another file?",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise error("not a text file", file=path, expected=expected) from None
