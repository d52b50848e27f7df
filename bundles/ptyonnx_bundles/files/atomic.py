"""Write a file completely or not at all.

A kill may leave a temporary file behind. It is locked as long as its writer lives, so that the next
one to write in that folder knows an abandoned file from one that is being written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ptyonnx_bundles.errors import OutputError
from ptyonnx_bundles.files.locks import try_lock
from ptyonnx_bundles.files.output_paths import check_folder, check_name, make_folder

__all__ = ["atomic_write", "check_apart", "check_directory", "check_writable", "remove_abandoned"]

_PREFIX, _SUFFIX = ".ptyonnx-", ".tmp"
_KEEPS_OPEN_FILES = os.name == "nt"  # Windows neither renames nor removes a file that is open
_CERTAINLY_ABANDONED_s = 86_400.0  # there, a file between its closing and its renaming is not locked


def atomic_write(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file completely or not at all: temporary file beside it, fsync, rename.

    A symbolic link stays, the file it points to is replaced; the permissions of a file that
    stood there stay (not setuid and its like). After a power cut there is either the old file or the new one.
    Temporary files that killed processes left in the folder are removed.

    Parameters
    ----------
    path : path-like
        Its folder is made where only the last part of it is missing, and that is logged.
    content : bytes or callable
        All of the new file, or what writes it into the open temporary file.

    Raises
    ------
    OutputError
        The file could not be written; what stood there is as it was.
    """
    try:
        target = Path(os.path.realpath(path))
        make_folder(target.parent, path)
        mode = _mode_of(target)
        remove_abandoned(target.parent)
        _write_and_rename(target, content, mode)
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
    check_name(path, OutputError)
    try:
        target = Path(os.path.realpath(path))
        _mode_of(target)
        _try(check_folder(target.parent, path))
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None


def check_directory(path: str | os.PathLike[str]) -> None:
    """Find out, before the work, whether files could be written into a directory that may be missing.

    Parameters
    ----------
    path : path-like
        The directory: it is itself what the user named, so the folder above it may be missing, too.

    Raises
    ------
    OutputError
        It could not be made, or nothing written into it.
    """
    check_name(path, OutputError)
    try:
        target = Path(os.path.realpath(path))
        remove_abandoned(target.parent)  # where an earlier command found out, before it made the directory
        _try(target if os.path.lexists(target) else check_folder(target.parent, path))
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


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of :func:`atomic_write` whose writers are no longer alive.

    Parameters
    ----------
    folder : Path
        Looked at without its subfolders. What cannot be removed stays.
    """
    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(_PREFIX)]
        for name in names:
            if name.endswith(_SUFFIX):
                _remove_if_abandoned(folder / name)


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return
        if _KEEPS_OPEN_FILES:
            if time.time() - found.st_mtime > _CERTAINLY_ABANDONED_s:
                path.unlink()
            return
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if try_lock(descriptor):
                path.unlink()  # if it was renamed meanwhile, its new name stays
        finally:
            os.close(descriptor)


def _try(folder: Path) -> None:
    """Make a file in a folder, and take it away again."""
    remove_abandoned(folder)
    trial = _temporary(folder)
    os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    trial.unlink(missing_ok=True)


def _temporary(folder: Path) -> Path:
    return folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


def _refusal(path: str | os.PathLike[str], error: OSError | ValueError) -> OutputError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return OutputError(
        f"cannot be written ({reason})", file=path, remedy="what stood there is unchanged; choose another place"
    )


def _mode_of(target: Path) -> int | None:
    """Read, write and execute permissions of the file that is to be replaced, None where there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise ValueError("not an ordinary file")
    if not os.access(target, os.W_OK):
        raise ValueError("write-protected")
    return stat.S_IMODE(mode) & 0o777


def _write_and_rename(target: Path, content: bytes | Callable[[BinaryIO], None], mode: int | None) -> None:
    temporary, stream = _create(target.parent)
    try:
        with stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            if mode is not None:
                temporary.chmod(mode)
            if _KEEPS_OPEN_FILES:
                stream.close()
            temporary.replace(target)  # still locked
    finally:
        temporary.unlink(missing_ok=True)


def _create(folder: Path) -> tuple[Path, BinaryIO]:
    """Create a temporary file and lock it.

    Where another process has taken it for abandoned, the next has another name: that process may be about to remove this one.
    """
    while True:
        path = _temporary(folder)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        try:
            locked = _KEEPS_OPEN_FILES or try_lock(descriptor)
        except OSError:
            locked = True  # no locks in this file system: nobody takes it for abandoned
        if locked and path.exists():
            break
        os.close(descriptor)  # taken for abandoned before it was locked
        path.unlink(missing_ok=True)
    try:
        return path, os.fdopen(descriptor, "wb")
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, where folders can be synchronised: not on Windows and some network drives."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
