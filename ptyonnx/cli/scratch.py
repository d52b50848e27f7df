"""A folder for the temporary files of libraries.

Libraries remove their temporary files when the process ends, but not when it is killed: TensorFlow leaves generated
sources, exporters leave whole models. A command therefore keeps all of them in one folder and holds a lock while it
runs. The next command removes the folders whose locks are free.

The lock lies beside the folder, since libraries write into it. Run directories have their own lock
(`ptyonnx.runs.folder`), single files theirs (`ptyonnx_bundles.files.atomic`); all use the same `try_lock`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

__all__ = ["use_scratch"]

_PREFIX, _LOCK = "ptyonnx-", ".lock"
_KEY = "ptyonnx.scratch"


def use_scratch() -> None:
    """Give the running command a folder of its own for temporary files."""
    context = click.get_current_context(silent=True)
    if context is not None and _KEY not in context.meta:
        context.meta[_KEY] = context.find_root().with_resource(_scratch())


@contextmanager
def _scratch() -> Iterator[Path]:
    from ptyonnx_bundles import temporary_folder
    from ptyonnx_bundles.errors import OutputError

    parent = temporary_folder()
    _remove_abandoned(parent)
    try:
        folder, lock = _create(parent)
        folder.mkdir(mode=0o700)
    except OSError as error:  # the disk has become full since it was tested
        raise OutputError(
            f"no room for temporary files ({error.strerror})", file=parent, key="TMPDIR",
            remedy="make room there, or set TMPDIR to another folder",
        ) from None  # fmt: skip

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.with_name(folder.name + _LOCK).unlink()
        os.close(lock)

    atexit.register(remove)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    variable = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        if not any(folder.glob("matplotlib-*")):  # matplotlib removes it when the process ends
            atexit.unregister(remove)
            remove()


def _create(parent: Path) -> tuple[Path, int]:
    """Choose the name of a folder, and create and lock its lock file, where the file system supports locks."""
    from ptyonnx_bundles import try_lock

    while True:
        folder = parent / f"{_PREFIX}{secrets.token_hex(8)}"
        path = folder.with_name(folder.name + _LOCK)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        with contextlib.suppress(OSError):
            if (
                not try_lock(descriptor) or not path.exists()
            ):  # another command removed it as abandoned before it was locked
                os.close(descriptor)
                continue
        return folder, descriptor


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of this user's commands that no longer run."""
    from ptyonnx_bundles import try_lock

    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(parent) if entry.name.startswith(_PREFIX)]
        for path in (parent / name for name in names if name.endswith(_LOCK)):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                try:
                    if _is_mine(os.fstat(descriptor)) and try_lock(descriptor):
                        shutil.rmtree(path.with_name(path.name.removesuffix(_LOCK)), ignore_errors=True)
                        path.unlink()
                finally:
                    os.close(descriptor)


def _is_mine(found: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or found.st_uid == os.getuid()
