"""Run a model in onnxruntime on the CPU, to compare it with another one: without output and telemetry.

A model of this project's own networks runs in this process; an untrusted graph runs in a separate process with limits
on memory and time. The converters only test graphs here; `ptyonnx_runtime` reconstructs.
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

_LOG_FATAL = 4  # errors are raised as well
_CAN_CONFINE = os.name == "posix"  # Windows does not pass sockets to child processes

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
    # Its fallback would print the error and open the model again.
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)


def open_confined(model: bytes, name: str, confinement: Confinement, *, optimize: bool = True) -> Graph:
    """Open an untrusted model in a separate process; on Windows in this one, with a warning.

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
        Its `about` is the result of :func:`interface`.

    Raises
    ------
    RuntimeError
        onnxruntime cannot open it.
    WorkerError
        It crashed its process or exceeded the time limit.
    """
    if not _CAN_CONFINE:
        _logger.warning("%s: on this system a foreign network runs without limits on time and memory", name)
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
    """A model that is open in this process, with the methods of :class:`ConfinedGraph`."""

    def __init__(self, model: bytes, *, optimize: bool = True) -> None:
        self._session = open_session(model, optimize=optimize)
        self.about = interface(self._session)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the model."""
        found: list[NDArray[Any]] = self._session.run(list(outputs), dict(feeds))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


Graph = ConfinedGraph | LocalGraph


def interface(session: Any) -> dict[str, list[list[Any]]]:
    """List name, onnxruntime type and shape of every input and output of an open model."""
    sides = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    return {side: [[value.name, value.type, list(value.shape)] for value in values] for side, values in sides.items()}


def _read_interface(sent: Any) -> dict[str, list[list[Any]]]:
    """Check and copy the result of :func:`interface` that another process sent."""
    return {
        side: [[str(name), str(kind), [size if size is None else _size(size) for size in shape]]
               for name, kind, shape in sent[side]]
        for side in ("inputs", "outputs")
    }  # fmt: skip


def _size(sent: Any) -> int | str:
    if not isinstance(sent, int | str):
        raise TypeError("not the length of an axis")
    return sent


def main() -> None:
    """Run as the child process of :func:`open_confined`."""
    serve(_open)


def _open(model: bytes, settings: Mapping[str, Any]) -> Opened:
    disable_telemetry()
    import onnxruntime  # noqa: F401 - loaded before memory is limited

    limit_memory(settings["largest_bytes"], len(model), cores())
    raised: tuple[type[Exception], ...] = (MemoryError, *onnxruntime_errors())
    try:
        session = open_session(model, optimize=settings["optimize"])
    except raised as error:
        raise ConversionError(first_line(error)) from None
    return Opened(session.run, onnxruntime_errors(), interface(session))


def run_once(model: bytes, outputs: Sequence[str], feeds: Mapping[str, NDArray[np.float32]]) -> list[Any]:
    """Open a model that this project has made, and run it once.

    Parameters
    ----------
    model : bytes
    outputs : sequence of str
    feeds : mapping of str to ndarray
        Every input by name.

    Returns
    -------
    list of ndarray
        In the order of `outputs`.

    Raises
    ------
    ConversionError
        onnxruntime cannot open or run it.
    """
    require("cpu", "onnxruntime")
    try:
        found: list[Any] = open_session(model).run(list(outputs), dict(feeds))
    except onnxruntime_errors() as error:
        raise ConversionError(
            "onnxruntime cannot run the graph", found=first_line(error),
            remedy="nothing was written; report this with the versions in use",
        ) from None  # fmt: skip
    return found


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """List the exceptions of onnxruntime, which have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (RuntimeError, ValueError, *own)


def first_line(error: Exception) -> str:
    """Return the first line of an error message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
