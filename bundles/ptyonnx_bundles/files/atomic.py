"""Write a file completely or not at all.

A killed process may leave a temporary file behind. The writer holds a lock on it, so that a later writer
in the same folder can distinguish an abandoned file from one that is being written.

These locks protect single temporary files. Writers of a whole directory, such as a run, hold a lock of their own; all
use `locks.try_lock`.
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
_CERTAINLY_ABANDONED_s = 86_400.0  # on Windows, a file is not locked between closing and renaming


def atomic_write(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file completely or not at all: temporary file beside it, fsync, rename.

    The target of a symbolic link is replaced, not the link; the permissions of an existing file are kept,
    except setuid and the like. After a power cut, either the old or the new file exists. Temporary files
    that killed processes left in the folder are removed.

    Parameters
    ----------
    path : path-like
        Its folder is created, with a log message, if only the last part of its path is missing.
    content : bytes or callable
        Content of the new file, or a function that writes it to the open temporary file.

    Raises
    ------
    OutputError
        The file could not be written; an existing file is unchanged.
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
    """Check before the work that :func:`atomic_write` can write a file; nothing is changed.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    OutputError
        It cannot.
    """
    check_name(path, OutputError)
    try:
        target = Path(os.path.realpath(path))
        _mode_of(target)
        _try_to_write(check_folder(target.parent, path))
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None


def check_directory(path: str | os.PathLike[str]) -> None:
    """Check before the work that files can be written to a directory, which may be missing.

    Parameters
    ----------
    path : path-like
        The directory. Since the user named it, the folder above it may be missing as well.

    Raises
    ------
    OutputError
        It cannot be created, or no file can be written to it.
    """
    check_name(path, OutputError)
    try:
        target = Path(os.path.realpath(path))
        remove_abandoned(target.parent)  # an earlier check may have left a file there, before the directory existed
        _try_to_write(target if os.path.lexists(target) else check_folder(target.parent, path))
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None


def check_apart(path: str | os.PathLike[str], *sources: str | os.PathLike[str] | None) -> None:
    """Refuse before the work to replace a file by a result that is computed from it.

    Parameters
    ----------
    path : path-like
        The file to write.
    *sources : path-like or None
        Files that it is computed from, compared after resolving links; None is ignored.

    Raises
    ------
    OutputError
        One of them is the file to write.
    """
    target = os.path.realpath(path)
    for source in sources:
        if source is not None and os.path.realpath(source) == target:
            raise OutputError("would replace a file that it is computed from", file=path, remedy="name another file")


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of :func:`atomic_write` whose writers are no longer alive.

    Parameters
    ----------
    folder : Path
        Searched without its subfolders. Files that cannot be removed stay.
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
                path.unlink()  # if it was renamed meanwhile, the renamed file stays
        finally:
            os.close(descriptor)


def _try_to_write(folder: Path) -> None:
    """Create a file in a folder and remove it again."""
    remove_abandoned(folder)
    trial = _temporary(folder)
    os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    trial.unlink(missing_ok=True)


def _temporary(folder: Path) -> Path:
    return folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


def _refusal(path: str | os.PathLike[str], error: OSError | ValueError) -> OutputError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return OutputError(
        f"cannot be written ({reason})", file=path, remedy="an existing file is unchanged; choose another path"
    )


def _mode_of(target: Path) -> int | None:
    """Read, write and execute permissions of the file to be replaced, None if it does not exist."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise ValueError("not a regular file")
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

    Another process may consider it abandoned before it is locked, and remove it; then another name is tried.
    """
    while True:
        path = _temporary(folder)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        try:
            locked = _KEEPS_OPEN_FILES or try_lock(descriptor)
        except OSError:
            locked = True  # the file system has no locks, so no process considers it abandoned
        if locked and path.exists():
            break
        os.close(descriptor)  # considered abandoned before it was locked
        path.unlink(missing_ok=True)
    try:
        return path, os.fdopen(descriptor, "wb")
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make the rename durable; Windows and some network drives cannot synchronise folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
