"""Write a file completely or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ptyonnx_bundles.errors import OutputError

__all__ = ["atomic_write", "check_apart", "check_writable"]


def atomic_write(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file completely or not at all: temporary file beside it, fsync, rename.

    A symbolic link stays, the file it points to is replaced; the permissions of a file that
    stood there stay. After a power cut there is either the old file or the new one.

    Parameters
    ----------
    path : path-like
        Missing folders are made.
    content : bytes or callable
        All of the new file, or what writes it into the open temporary file.

    Raises
    ------
    OutputError
        The file could not be written; what stood there is as it was.
    """
    try:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode_of(target)
        temporary = _temporary(target.parent)
        try:
            _write_durably(temporary, content, mode)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out, before the work, whether :func:`atomic_write` could write a file; nothing is changed.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    OutputError
        It could not.
    """
    try:
        target = Path(os.path.realpath(path))
        _mode_of(target)
        folder = next(parent for parent in target.parents if parent.exists())  # missing ones would be made
        trial = _temporary(folder)
        os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        trial.unlink()
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None


def check_apart(path: str | os.PathLike[str], *sources: str | os.PathLike[str] | None) -> None:
    """Refuse, before the work, to write a file over one that it is made of.

    Parameters
    ----------
    path : path-like
        What is to be written.
    *sources : path-like or None
        What it is made of, whatever links and names lead there; None is nothing.

    Raises
    ------
    OutputError
        One of them is the file itself.
    """
    target = os.path.realpath(path)
    for source in sources:
        if source is not None and os.path.realpath(source) == target:
            raise OutputError("would replace the file that it is made of", file=path, remedy="name another file")


def _temporary(folder: Path) -> Path:
    return folder / f".ptyonnx-{secrets.token_hex(8)}.tmp"


def _refusal(path: str | os.PathLike[str], error: OSError | ValueError) -> OutputError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return OutputError(
        f"cannot be written ({reason})", file=path, remedy="what stood there is unchanged; choose another place"
    )


def _mode_of(target: Path) -> int | None:
    """Permissions of the file that is to be replaced, None where there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise ValueError("not an ordinary file")
    if not os.access(target, os.W_OK):
        raise ValueError("write-protected")
    return stat.S_IMODE(mode)


def _write_durably(path: Path, content: bytes | Callable[[BinaryIO], None], mode: int | None) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        if callable(content):
            content(stream)
        else:
            stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    if mode is not None:
        path.chmod(mode)


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, where folders can be synchronised: not on Windows and some network drives."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
