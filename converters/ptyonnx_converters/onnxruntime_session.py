"""Run a model in onnxruntime on the CPU, to compare it with another: quietly, from bytes, without telemetry.

What was made of this project's own networks runs in this process. A stranger's graph runs in one of its own, with
limits on memory and time. Reconstructing is the runtime's business; here graphs are only tried.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.confinement import ConfinedGraph, Confinement, Opened, limit_memory, serve
from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_bundles.telemetry import disable_telemetry
from ptyonnx_converters.exporters import require

__all__ = [
    "Graph",
    "LocalGraph",
    "first_line",
    "interface",
    "main",
    "onnxruntime_errors",
    "open_confined",
    "open_session",
    "run_once",
]

_LOG_FATAL = 4  # onnxruntime raises what it also logs
_CONFINES = os.name == "posix"  # Windows hands no sockets on to children

_logger = logging.getLogger(__name__)


def open_session(model: bytes, *, optimize: bool = True) -> Any:
    """Open a model with a thread for every core, and optimise its graph unless `optimize` is false."""
    disable_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    options.intra_op_num_threads = cores()
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Without fallback: it prints what it could not open, and opens it again.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)


def open_confined(model: bytes, name: str, confinement: Confinement, *, optimize: bool = True) -> Graph:
    """Open a stranger's model in a process of its own; on Windows in this one, which is said aloud.

    Parameters
    ----------
    model : bytes
    name : str
        The file, named in errors.
    confinement : Confinement
    optimize : bool
        Whether onnxruntime may optimise the graph.

    Returns
    -------
    ConfinedGraph or LocalGraph
        `about` is what :func:`interface` says.

    Raises
    ------
    RuntimeError
        onnxruntime does not open it.
    WorkerError
        It killed its process, or took too long.
    """
    if not _CONFINES:
        _logger.warning("%s: here a foreign network runs without limits on its time and memory", name)
        try:
            return LocalGraph(model, optimize=optimize)
        except onnxruntime_errors() as error:
            raise RuntimeError(first_line(error)) from None
    try:
        return ConfinedGraph(
            __name__, model, {"optimize": optimize}, name=name, confinement=confinement, read_about=_read_interface
        )
    except ConversionError as error:
        raise RuntimeError(error.problem) from None


class LocalGraph:
    """A model that is open in this process, as :class:`ConfinedGraph` is in another."""

    def __init__(self, model: bytes, *, optimize: bool = True) -> None:
        self._session = open_session(model, optimize=optimize)
        self.about = interface(self._session)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run it."""
        found: list[NDArray[Any]] = self._session.run(list(outputs), dict(feeds))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


Graph = ConfinedGraph | LocalGraph


def interface(session: Any) -> dict[str, list[list[Any]]]:
    """Inputs and outputs of an open model: name, type in onnxruntime's words, and shape of each."""
    sides = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    return {side: [[value.name, value.type, list(value.shape)] for value in values] for side, values in sides.items()}


def _read_interface(said: Any) -> dict[str, list[list[Any]]]:
    """What :func:`interface` gave in another process."""
    return {
        side: [[str(name), str(kind), [size if size is None else _size(size) for size in shape]]
               for name, kind, shape in said[side]]
        for side in ("inputs", "outputs")
    }  # fmt: skip


def _size(said: Any) -> int | str:
    if not isinstance(said, int | str):
        raise TypeError("no length of an axis")
    return said


def main() -> None:
    """Serve as the child that a stranger's model runs in."""
    serve(_open)


def _open(model: bytes, settings: Mapping[str, Any]) -> Opened:
    disable_telemetry()
    import onnxruntime  # noqa: F401 - before memory is limited

    limit_memory(settings["largest_bytes"], len(model), cores())
    raised: tuple[type[Exception], ...] = (MemoryError, *onnxruntime_errors())
    try:
        session = open_session(model, optimize=settings["optimize"])
    except raised as error:
        raise ConversionError(first_line(error)) from None
    return Opened(session.run, onnxruntime_errors(), interface(session))


def run_once(model: bytes, outputs: Sequence[str], feeds: Mapping[str, NDArray[np.float32]]) -> list[Any]:
    """Open a model that was just made, and run it once.

    Parameters
    ----------
    model : bytes
    outputs : sequence of str
    feeds : mapping of str to ndarray
        Every input by name.

    Returns
    -------
    list of ndarray
        As many as `outputs`.

    Raises
    ------
    ConversionError
        onnxruntime does not open it, or does not run it.
    """
    require("cpu", "onnxruntime")
    try:
        found: list[Any] = open_session(model).run(list(outputs), dict(feeds))
    except onnxruntime_errors() as error:
        raise ConversionError(
            "onnxruntime does not run the graph", found=first_line(error),
            remedy="nothing was written; report this with the versions in use",
        ) from None  # fmt: skip
    return found


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own exceptions share no base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (RuntimeError, ValueError, *own)


def first_line(error: Exception) -> str:
    """First line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
