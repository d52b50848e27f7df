"""Where files may go, and how they may be called: one rule for every output and every input.

The last folder of an output is made where it is missing, and that is said; a longer way that does not
exist is more likely a slip of the pen than a wish. Writing itself is the business of `atomic`.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from ptyonnx_bundles.errors import OutputError, PtyonnxError

__all__ = ["check_folder", "check_name", "make_folder"]

_logger = logging.getLogger(__name__)


def check_name(path: str | os.PathLike[str], error: type[PtyonnxError]) -> None:
    """Refuse a path that is not text: manifests, records and results, all UTF-8, could not name it.

    Parameters
    ----------
    path : path-like
        With the folders above it; bytes that are no UTF-8 are surrogates in it, as :func:`os.fsdecode` has them.
    error : type of PtyonnxError
        What is raised.
    """
    try:
        os.path.realpath(path).encode()
    except UnicodeEncodeError:
        raise error(
            "the name is not UTF-8, and no result could name it", file=path, remedy="rename the file or its folder"
        ) from None
    except (OSError, ValueError):  # no name at all: whoever opens it says so
        return


def check_folder(folder: Path, path: str | os.PathLike[str]) -> Path:
    """Find out whether a folder is there or may be made; nothing is changed.

    Parameters
    ----------
    folder : Path
        In which something is to be written, all links resolved.
    path : path-like
        What is to be written, for the error.

    Returns
    -------
    Path
        The folder itself, or the one that it would be made in.

    Raises
    ------
    OutputError
        More than the last folder is missing.
    OSError
        A file stands in the way.
    """
    standing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not standing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if standing not in (folder, folder.parent):
        raise OutputError(
            "its folder does not exist, nor the one above", file=path, found=f"nothing below {standing}",
            remedy=f"make the folder first if it is meant: mkdir -p {folder}",
        )  # fmt: skip
    return standing


def make_folder(folder: Path, path: str | os.PathLike[str]) -> None:
    """Make a folder where only its last part is missing, and say so in the log; parameters of :func:`check_folder`.

    Raises
    ------
    OutputError
        More is missing.
    OSError
        It cannot be made.
    """
    if check_folder(folder, path) != folder:
        folder.mkdir(exist_ok=True)
        _logger.warning("the folder %s did not exist and was made", folder)
