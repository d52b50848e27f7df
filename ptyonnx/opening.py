"""Open the arguments of the public functions: bundles, scans and runs, given as objects or as paths.

All public functions accept the same kinds of arguments, and an error names the argument. Files are read by
`formats`, `runs` and `ptyonnx_bundles`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from ptyonnx_bundles import Bundle, read_bundle
from ptyonnx_bundles.arguments import as_path
from ptyonnx_bundles.errors import BundleError, PtyonnxError, ScanError

if TYPE_CHECKING:
    from ptyonnx.runs.run import Run
    from ptyonnx_runtime.scan import Scan

__all__ = ["AnyBundle", "AnyRun", "AnyScan", "open_bundle", "open_run", "open_scan"]

AnyBundle: TypeAlias = "Bundle | Run | str | os.PathLike[str]"
AnyScan: TypeAlias = "Scan | str | os.PathLike[str]"
AnyRun: TypeAlias = "Run | str | os.PathLike[str]"


def open_bundle(source: AnyBundle | bytes, *, key: str | None = None) -> Bundle:
    """Open a bundle and check it, except for the results of its graph.

    Parameters
    ----------
    source : Bundle, Run, path-like or bytes
        The path of a bundle, a run with a bundle or its path, or the bytes of a bundle. An open bundle is returned.
    key : str, optional
        Name of the argument in errors, for use by other functions.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        Not a bundle, a damaged one, or a run without one; its subclasses say more.
    RunError
        A directory that is no run.
    SettingsError
        The source is of another type.
    """
    from ptyonnx.runs.run import Run, exported_bundle

    if isinstance(source, Bundle):
        return source
    if isinstance(source, Run):
        source = source.directory
    if not isinstance(source, bytes):
        source = exported_bundle(as_path(source, key or "source", "a bundle, a run, or the path of one"))
    with _naming(BundleError, key):
        return read_bundle(source)


def open_scan(source: AnyScan, *, key: str = "scan", in_memory: bool = False) -> Scan:
    """Open a scan that needs no declaration; see :func:`ptyonnx.load_scan`.

    Parameters
    ----------
    source : Scan or path-like
        An open one is returned.
    key : str
        Name of the argument in errors.
    in_memory : bool
        Read and check the patterns now, and keep them in memory.

    Raises
    ------
    ScanError
        The file cannot be used.
    SettingsError
        Neither a scan nor a path.
    """
    from ptyonnx.formats import load_scan
    from ptyonnx_runtime.scan import Scan

    if isinstance(source, Scan):
        return source
    path = as_path(source, key, "a scan, or the path of one")
    with _naming(ScanError, key):
        return load_scan(path, in_memory=in_memory)


def open_run(source: AnyRun, *, key: str = "run") -> Run:
    """Open a run.

    Parameters
    ----------
    source : Run or path-like
        An open one is returned.
    key : str
        Name of the argument in errors.

    Raises
    ------
    RunError
        Not a run directory.
    SettingsError
        Neither a run nor a path.
    """
    from ptyonnx.runs.run import Run

    return source if isinstance(source, Run) else Run.open(as_path(source, key, "a run, or its directory"))


@contextmanager
def _naming(kind: type[PtyonnxError], key: str | None) -> Iterator[None]:
    """Name the argument in an error about a file, unless the error names a part of the file."""
    try:
        yield
    except kind as error:
        error.key = error.key or key
        raise
