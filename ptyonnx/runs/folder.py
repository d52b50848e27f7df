"""The lock of a run directory, and the replacement of one run by another.

One process at a time writes into a run directory; it holds the operating system's lock on `.lock` there. A new run
is first written completely into `.incoming`. Renaming this folder to `.arriving` commits the new run: the parts of
the older run are removed, `.arriving` is renamed to `.moving`, and the new parts are moved to their places. If a
process is killed in between, the next process that opens the directory completes the replacement.

This lock protects a whole directory for as long as a training runs. Single files are protected by
`ptyonnx_bundles.files.atomic`, temporary folders of a command by `ptyonnx.cli.scratch`; all use the same `try_lock`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ptyonnx_bundles import make_folder, remove_abandoned, try_lock
from ptyonnx_bundles.errors import OutputError, RunError

__all__ = ["check_replaceable", "check_unlocked", "complete_replacement", "install_run", "locked"]

_PARTS = ("checkpoints", "history.csv", "bundle.onnx", "settings.yaml", "run.json")  # the record last
_LOCK = ".lock"
_INCOMING, _ARRIVING, _MOVING = ".incoming", ".arriving", ".moving"
_LONGEST_NUMBER = 20  # digits of a process id


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which is created if it is missing.

    A replacement that an earlier process did not finish is completed or removed first.

    Parameters
    ----------
    directory : Path
        If it was created here and is empty at the end, it is removed.

    Raises
    ------
    RunError
        Another process writes there.
    OutputError
        It cannot be written.
    """
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    path = directory / _LOCK
    try:
        with _unwritable(directory):
            make_folder(directory.resolve().parent, directory)
            directory.resolve().mkdir(exist_ok=True)
            descriptor = _acquire(path)
        try:
            with _unwritable(directory):
                _clean_up(directory)
            yield
        finally:
            try:
                if os.name != "nt":  # while it is locked, so that no other process's lock is removed
                    with contextlib.suppress(OSError):
                        path.unlink()
            finally:
                os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):  # not empty
            for folder in missing:
                folder.rmdir()


def complete_replacement(directory: Path) -> None:
    """Complete a replacement that was interrupted by a kill; called before a run is read.

    Raises
    ------
    RunError, OutputError
        See :func:`locked`.
    """
    if any((directory / name).exists() for name in (_ARRIVING, _MOVING)):
        with locked(directory):
            pass


def check_unlocked(directory: Path) -> None:
    """Check, before a long computation, that no other process writes into a run directory.

    Raises
    ------
    RunError
        Another process does.
    OutputError
    """
    if (directory / _LOCK).exists():
        with locked(directory):
            pass


def check_replaceable(directory: Path, *, overwrite: bool, source: Path | None = None, resumable: bool = True) -> None:
    """Check that a new run may be written into a directory.

    Parameters
    ----------
    directory : Path
    overwrite : bool
        An existing run may be replaced.
    source : Path, optional
        The bundle that the new run starts from; the replacement must not delete it.
    resumable : bool
        The caller can continue an existing run; the remedy then names this.

    Raises
    ------
    RunError
        The directory holds a run and `overwrite` is not set, or the replacement would delete `source`, or files
        that do not belong to a run have the names of its parts.
    """
    complete_replacement(directory)
    if source is not None and _would_be_replaced(directory.resolve(), source.resolve()):
        raise RunError(
            "holds the bundle that the new run starts from", file=directory, found=source.name,
            remedy="name another directory",
        )  # fmt: skip
    occupied = _holds_run(directory)
    if occupied and not overwrite:
        raise RunError(
            "holds a run already", file=directory,
            remedy=f"{'continue it (resume=True), ' if resumable else ''}replace it (overwrite=True) "
            "or name another directory",
        )  # fmt: skip
    for part in () if occupied else _parts(directory):
        raise RunError(
            "holds files that are not a run's", file=directory, found=part.name, remedy="name another directory"
        )


def install_run(directory: Path, write: Callable[[Path], None]) -> None:
    """Write a new run into a locked directory in place of an existing one; other files stay.

    Parameters
    ----------
    directory : Path
        Locked, and checked by :func:`check_replaceable`.
    write : callable
        Writes the parts of the new run into the folder given to it. If it fails, nothing is changed.

    Raises
    ------
    OutputError
    """
    incoming = directory / _INCOMING
    with _unwritable(directory):
        try:
            incoming.mkdir()
            write(incoming)
            incoming.rename(directory / _ARRIVING)
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise
        try:
            _move_into_place(directory)
        except KeyboardInterrupt:
            _move_into_place(directory)
            raise


def _clean_up(directory: Path) -> None:
    """Complete or remove what interrupted processes left in a locked directory."""
    if any((directory / name).exists() for name in (_ARRIVING, _MOVING)):
        _move_into_place(directory)
    shutil.rmtree(directory / _INCOMING, ignore_errors=True)
    remove_abandoned(directory)
    remove_abandoned(directory / "checkpoints")


def _move_into_place(directory: Path) -> None:
    """Replace the older run by the one in `.arriving`. An interruption at any point can be followed by another call."""
    arriving, moving = directory / _ARRIVING, directory / _MOVING
    if arriving.exists():
        for part in _parts(directory) if _holds_run(directory) else ():
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink()
        arriving.rename(moving)
    for name in _PARTS:
        if (moving / name).exists():
            (moving / name).rename(directory / name)
    moving.rmdir()


def _holds_run(directory: Path) -> bool:
    return (directory / "run.json").exists()


def _parts(directory: Path) -> list[Path]:
    parts = [directory / name for name in _PARTS]
    return [part for part in parts if part.is_symlink() or part.exists()]


def _would_be_replaced(directory: Path, source: Path) -> bool:
    """Whether a replacement would delete a file, or the new run's bundle would overwrite it."""
    return source.parent == directory or source.is_relative_to((directory / "checkpoints").resolve())


def _acquire(path: Path) -> int:
    """Lock a file and write the id of this process into it; return its descriptor."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if not _is_free(descriptor):
            holder = _holder(descriptor)
            os.close(descriptor)
            raise RunError(
                "another process writes there", file=path.parent, found=holder,
                remedy="wait until it ends, or name another directory",
            )  # fmt: skip
        if _is_at(path, descriptor):
            with contextlib.suppress(OSError):  # the id is for messages only; a full disk is reported by other writes
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its holder removed it in the meantime


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to an open file; the holder of a lock may remove its file at any moment."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _is_free(descriptor: int) -> bool:
    try:
        return try_lock(descriptor)
    except OSError:
        return True  # the file system has no locks


def _holder(descriptor: int) -> str | None:
    with contextlib.suppress(OSError):
        text = os.read(descriptor, _LONGEST_NUMBER)
        return f"process {text.decode()}" if text.isdigit() else None
    return None


@contextmanager
def _unwritable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})", file=directory,
            remedy="make room, or name another directory",
        ) from None  # fmt: skip
