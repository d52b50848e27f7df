"""A foreign bundle's graph in a process of its own: what the child runs, and how `session` starts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptyonnx_bundles.confinement import ConfinedGraph, Confinement, Opened, serve
from ptyonnx_runtime.inference.installation import failures
from ptyonnx_runtime.inference.onnx_session import SessionConfig, open_graph

__all__ = ["main", "start"]


def start(
    model: bytes, provider: str, config: SessionConfig, *, name: str, confinement: Confinement, callers: int
) -> ConfinedGraph:
    """Open a graph in a process of its own.

    Parameters
    ----------
    model : bytes
    provider, config
        See :func:`ptyonnx_runtime.inference.onnx_session.open_graph`.
    name : str
        Of the bundle, for errors.
    confinement : Confinement
    callers : int
        Threads that will run it at a time.

    Returns
    -------
    ConfinedGraph
        `about` has the ``"provider"`` in use.

    Raises
    ------
    ProviderError, MissingDependencyError, WorkerError
        See :class:`ptyonnx_runtime.inference.session.Session`.
    """
    settings = {"provider": provider, "threads": config.threads, "fused": config.fused}
    return ConfinedGraph(
        __name__, model, settings, name=name, confinement=confinement, callers=callers,
        read_about=lambda said: {"provider": str(said["provider"])},
    )  # fmt: skip


def main() -> None:
    """Serve as the child."""
    serve(_open)


def _open(model: bytes, settings: Mapping[str, Any]) -> Opened:
    config = SessionConfig(settings["threads"], settings["fused"], settings["largest_bytes"])
    provider, session = open_graph(model, settings["provider"], config)
    return Opened(session.run, failures(), {"provider": provider})
