"""Before a path is opened that a user gave: a pipe would be waited for, a device might never end."""

from __future__ import annotations

import stat
from pathlib import Path

from ptyonnx_bundles.errors import PtyonnxError
from ptyonnx_bundles.places import check_name

__all__ = ["check_regular"]


def check_regular(path: Path, error: type[PtyonnxError], remedy: str) -> None:
    """Refuse what stands there and is no regular file, or whose name is not text.

    What is absent or out of reach is for the reader to say.

    Parameters
    ----------
    path : Path
    error : type of PtyonnxError
        What is raised.
    remedy : str
        What to give instead.
    """
    check_name(path, error)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise error(f"{kind}, not a file", file=path, remedy=remedy)
