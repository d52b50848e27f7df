"""Find the folder for temporary files before the work; an error names it and a remedy."""

from __future__ import annotations

import os
import tempfile  # noqa: TID251 - to find the folder; nothing is written with it
from pathlib import Path

from ptyonnx_bundles.errors import OutputError

__all__ = ["temporary_folder"]

_VARIABLE = "TMPDIR"
_REMEDY = f"set {_VARIABLE} to a writable folder with free space"


def temporary_folder() -> Path:
    """Find the folder for temporary files.

    If TMPDIR names an unusable folder, Python silently chooses another one, possibly on a smaller disk; here that is an
    error.

    Returns
    -------
    Path
        From :func:`tempfile.gettempdir`, which tests that it is writable.

    Raises
    ------
    OutputError
        TMPDIR does not name a writable folder, or all usual folders are missing, full or write-protected.
    """
    named = os.environ.get(_VARIABLE)
    if named and not (Path(named).is_dir() and os.access(named, os.W_OK | os.X_OK)):
        kind = "cannot be written" if Path(named).is_dir() else "no such folder"
        raise OutputError(kind, file=named, key=_VARIABLE, remedy=_REMEDY)
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise OutputError("no folder for temporary files can be written", key=_VARIABLE, remedy=_REMEDY) from None
