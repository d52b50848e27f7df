"""Rules for paths: the folder of an output, and the names of inputs and outputs.

The folder of an output is created, with a log message, if only its last part is missing; if more is
missing, a typing error is more likely. `atomic` writes the files.
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
    """Refuse a path that is not UTF-8 text, since manifests, records and results could not store it.

    Parameters
    ----------
    path : path-like
        Checked with its parent folders; bytes that are not UTF-8 are surrogates, as from :func:`os.fsdecode`.
    error : type of PtyonnxError
        The error to raise.
    """
    try:
        os.path.realpath(path).encode()
    except UnicodeEncodeError:
        raise error(
            "the name is not UTF-8, so that no result can store it", file=path, remedy="rename the file or its folder"
        ) from None
    except (OSError, ValueError):  # an invalid path: opening it reports that
        return


def check_folder(folder: Path, path: str | os.PathLike[str]) -> Path:
    """Check that a folder exists or can be created; nothing is changed.

    Parameters
    ----------
    folder : Path
        The folder of an output, with links resolved.
    path : path-like
        The output, named in errors.

    Returns
    -------
    Path
        The folder itself, or the existing folder in which it would be created.

    Raises
    ------
    OutputError
        More than the last part of its path is missing.
    OSError
        A part of its path is a file.
    """
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if existing not in (folder, folder.parent):
        raise OutputError(
            "neither its folder nor the folder above it exists", file=path, found=f"nothing below {existing}",
            remedy=f"if the path is correct, create the folder first: mkdir -p {folder}",
        )  # fmt: skip
    return existing


def make_folder(folder: Path, path: str | os.PathLike[str]) -> None:
    """Create a folder if only the last part of its path is missing, and log it; for parameters see :func:`check_folder`.

    Raises
    ------
    OutputError
        More than the last part is missing.
    OSError
        It cannot be created.
    """
    if check_folder(folder, path) != folder:
        folder.mkdir(exist_ok=True)
        _logger.warning("the folder %s did not exist and was created", folder)
