"""The path of a file in the ONNX format that is to be written."""

from __future__ import annotations

from pathlib import Path

from ptyonnx_bundles import check_writable
from ptyonnx_bundles.errors import OutputError

__all__ = ["check_onnx_path"]

_SUFFIX = ".onnx"


def check_onnx_path(path: Path | str, key: str = "output") -> None:
    """Refuse, before anything is computed, a path without the suffix .onnx or one that cannot be written.

    Parameters
    ----------
    path : path-like
    key : str
        Name of the argument in the error about the suffix.

    Raises
    ------
    OutputError
    """
    check_writable(path)
    suffix = Path(path).suffix
    if suffix.lower() != _SUFFIX:
        raise OutputError(
            "not the name of an ONNX file", file=path, key=key, found=suffix or "no suffix", expected=_SUFFIX,
            remedy=f"name it {Path(path).stem}{_SUFFIX}",
        )  # fmt: skip
