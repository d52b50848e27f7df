"""The folder for temporary files: looked at before the work, and named with a remedy where it cannot be used."""

from __future__ import annotations

import os
import tempfile  # noqa: TID251 - to find the folder; nothing is written with it
from pathlib import Path

from ptyonnx_bundles.errors import OutputError

__all__ = ["temporary_folder"]

_VARIABLE = "TMPDIR"
_REMEDY = f"set {_VARIABLE} to a folder that can be written and has room"


def temporary_folder() -> Path:
    """Find the folder for temporary files.

    Python looks for another one where TMPDIR names one that cannot be used: the disk that the user meant would
    then not be the one that fills.

    Returns
    -------
    Path
        That of :func:`tempfile.gettempdir`, which has tried to write there.

    Raises
    ------
    OutputError
        TMPDIR names no folder that can be written; or there is none: all are absent, full or write-protected.
    """
    named = os.environ.get(_VARIABLE)
    if named and not (Path(named).is_dir() and os.access(named, os.W_OK | os.X_OK)):
        kind = "cannot be written" if Path(named).is_dir() else "no such folder"
        raise OutputError(kind, file=named, key=_VARIABLE, remedy=_REMEDY)
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise OutputError("no folder for temporary files can be written", key=_VARIABLE, remedy=_REMEDY) from None
