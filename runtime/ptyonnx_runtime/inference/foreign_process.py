"""A foreign bundle's graph in a separate process: the child's code, and how `session` starts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptyonnx_bundles.confinement import ConfinedGraph, Confinement, Opened, serve
from ptyonnx_runtime.inference.installation import onnxruntime_errors
from ptyonnx_runtime.inference.onnx_session import SessionConfig, open_graph

__all__ = ["main", "start"]


def start(
    model: bytes, provider: str, config: SessionConfig, *, name: str, confinement: Confinement, callers: int
) -> ConfinedGraph:
    """Open a graph in a separate process.

    Parameters
    ----------
    model : bytes
    provider, config
        See :func:`ptyonnx_runtime.inference.onnx_session.open_graph`.
    name : str
        Name of the bundle, for errors.
    confinement : Confinement
    callers : int
        Number of threads that may run it at the same time.

    Returns
    -------
    ConfinedGraph
        `about` has the ``"provider"`` in use.

    Raises
    ------
    ProviderError, MissingDependencyError, WorkerError
        See :class:`ptyonnx_runtime.inference.session.Session`.
    """
    settings = {"provider": provider, "threads": config.threads, "optimized": config.optimized}
    return ConfinedGraph(
        __name__, model, settings, name=name, confinement=confinement, callers=callers,
        read_about=lambda said: {"provider": str(said["provider"])},
    )  # fmt: skip


def main() -> None:
    """Run the child process."""
    serve(_open)


def _open(model: bytes, settings: Mapping[str, Any]) -> Opened:
    config = SessionConfig(settings["threads"], settings["optimized"], settings["largest_bytes"])
    provider, session = open_graph(model, settings["provider"], config)
    return Opened(session.run, onnxruntime_errors(), {"provider": provider})
