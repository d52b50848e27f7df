"""Who may write into the folder of a run, and how one run takes the place of another.

One process at a time writes there; the operating system's lock says which. A new run becomes complete
aside, under `.incoming`. Renaming that folder to `.arriving` is the moment from which the new run counts;
the older one's parts are removed, `.arriving` is renamed to `.moving`, and the new parts move to their
places. Whatever a kill interrupts, the next one to open the folder completes.
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

__all__ = ["check_room", "check_unused", "install", "locked", "settle"]

_PARTS = ("checkpoints", "history.csv", "bundle.onnx", "settings.yaml", "run.json")  # the record last
_LOCK = ".lock"
_INCOMING, _ARRIVING, _MOVING = ".incoming", ".arriving", ".moving"
_LONGEST_NUMBER = 20  # digits of a process


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only one to write into the folder of a run; it is made where it is missing.

    What an earlier process left half-done there is completed or removed first.

    Parameters
    ----------
    directory : Path
        Taken away again where it was missing and is empty in the end.

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
                _complete(directory)
            yield
        finally:
            try:
                if os.name != "nt":  # while it is locked, so that nobody else's lock is removed
                    with contextlib.suppress(OSError):
                        path.unlink()
            finally:
                os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):  # not empty
            for folder in missing:
                folder.rmdir()


def settle(directory: Path) -> None:
    """Complete, before a run is read, what a process that was killed there left half-done.

    Raises
    ------
    RunError, OutputError
        See :func:`locked`.
    """
    if any((directory / name).exists() for name in (_ARRIVING, _MOVING)):
        with locked(directory):
            pass


def check_unused(directory: Path) -> None:
    """Find out, before the work, whether another process writes into the folder of a run.

    Raises
    ------
    RunError
        It does.
    OutputError
    """
    if (directory / _LOCK).exists():
        with locked(directory):
            pass


def check_room(directory: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Refuse where no new run may be written.

    Parameters
    ----------
    directory : Path
    overwrite : bool
        A run that stands there may go.
    source : Path, optional
        A bundle that the new run comes from: it must not go with an older run.

    Raises
    ------
    RunError
        A run stands there and is not to be replaced, or the bundle lies in it, or files that are not a run's
        have the names of one's parts.
    """
    settle(directory)
    if source is not None and _goes_with(directory.resolve(), source.resolve()):
        raise RunError(
            "holds the bundle that the new run comes from", file=directory, found=source.name,
            remedy="name another directory",
        )  # fmt: skip
    stands = _stands(directory)
    if stands and not overwrite:
        raise RunError(
            "holds a run already", file=directory,
            remedy="go on with it (resume=True), replace it (overwrite=True) "
            "or name another directory",
        )  # fmt: skip
    for part in () if stands else _parts(directory):
        raise RunError(
            "holds files that are not a run's", file=directory, found=part.name, remedy="name another directory"
        )


def install(directory: Path, write: Callable[[Path], None]) -> None:
    """Put a new run into a locked folder, in place of one that stands there; other files stay.

    Parameters
    ----------
    directory : Path
        Locked, and with room: see :func:`check_room`.
    write : callable
        Writes the parts of the new run into the folder that it is given. If it fails, nothing is changed.

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
            _take_place(directory)
        except KeyboardInterrupt:
            _take_place(directory)
            raise


def _complete(directory: Path) -> None:
    """Bring a locked folder in order: nobody else is at work there."""
    if any((directory / name).exists() for name in (_ARRIVING, _MOVING)):
        _take_place(directory)
    shutil.rmtree(directory / _INCOMING, ignore_errors=True)
    remove_abandoned(directory)
    remove_abandoned(directory / "checkpoints")


def _take_place(directory: Path) -> None:
    """Let the arriving run take the place of the older one; can be interrupted anywhere and repeated."""
    arriving, moving = directory / _ARRIVING, directory / _MOVING
    if arriving.exists():
        for part in _parts(directory) if _stands(directory) else ():
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink()
        arriving.rename(moving)
    for name in _PARTS:
        if (moving / name).exists():
            (moving / name).rename(directory / name)
    moving.rmdir()


def _stands(directory: Path) -> bool:
    return (directory / "run.json").exists()


def _parts(directory: Path) -> list[Path]:
    parts = [directory / name for name in _PARTS]
    return [part for part in parts if part.is_symlink() or part.exists()]


def _goes_with(directory: Path, source: Path) -> bool:
    """Whether a file would go with a run, or in its turn be replaced by the new run's bundle."""
    return source.parent == directory or source.is_relative_to((directory / "checkpoints").resolve())


def _acquire(path: Path) -> int:
    """The descriptor of a file that holds the lock, and in which this process is named."""
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
            with contextlib.suppress(OSError):  # a full disk is for those to notice who need it
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its holder removed it meanwhile


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still has its name: its holder may remove it at any moment."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _is_free(descriptor: int) -> bool:
    try:
        return try_lock(descriptor)
    except OSError:
        return True  # a file system without locks: its users must take care themselves


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
