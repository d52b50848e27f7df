"""The page of a comparison: one HTML file that opens in any browser, without a network.

`comparison_report.py` describes a comparison as a `Report`, whose contents are defined in `content.py`; `page.py`
renders it. Jinja2 is in the extra `compare`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptyonnx.report.content import (
    Curve,
    LayerError,
    Picture,
    Report,
    RingCorrelation,
    Table,
    Verdict,
)
from ptyonnx_bundles import atomic_write, check_writable
from ptyonnx_bundles.errors import MissingDependencyError, OutputError

if TYPE_CHECKING:
    from os import PathLike

__all__ = [
    "Curve",
    "LayerError",
    "Picture",
    "Report",
    "RingCorrelation",
    "Table",
    "Verdict",
    "check_report_path",
    "write_report",
]

_SUFFIXES = (".html", ".htm")


def check_report_path(path: str | PathLike[str]) -> None:
    """Refuse, before anything is computed, what :func:`write_report` would refuse.

    Raises
    ------
    MissingDependencyError
        Jinja2 is not installed.
    OutputError
        The suffix is neither .html nor .htm, or the file cannot be written.
    """
    try:
        import jinja2  # noqa: F401 - raises if it is not installed
    except ImportError:
        raise MissingDependencyError("the report needs Jinja2", remedy="pip install 'ptyonnx[compare]'") from None
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise OutputError(
            "unknown format of a report", file=path, found=f"'{Path(path).suffix}'", expected=" or ".join(_SUFFIXES)
        )
    check_writable(path)


def write_report(path: str | PathLike[str], report: Report) -> None:
    """Write a report as one self-contained page, completely or not at all.

    Parameters
    ----------
    path : path-like
        .html or .htm.
    report : Report

    Raises
    ------
    MissingDependencyError
        Jinja2 is not installed.
    OutputError
        The file cannot be written.
    """
    check_report_path(path)
    from ptyonnx.report.page import render

    atomic_write(path, render(report).encode("utf-8"))
