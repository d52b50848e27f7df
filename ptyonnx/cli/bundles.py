"""Which file is meant where a bundle is asked for: the file, or a run directory that has one."""

from __future__ import annotations

from pathlib import Path

__all__ = ["bundle_path"]


def bundle_path(path: Path) -> Path:
    """A bundle, or that of a run directory.

    Raises
    ------
    BundleError
        The run has no bundle yet.
    RunError
        A directory, but not that of a run.
    """
    if not path.is_dir():
        return path
    from ptyonnx.run import Run
    from ptyonnx_bundles.errors import BundleError

    exported = Run.open(path).bundle
    if exported is None:
        raise BundleError("the run has no bundle yet", file=path, remedy=f"make one: ptyonnx export {path}")
    return exported
