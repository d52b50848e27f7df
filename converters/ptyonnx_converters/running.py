"""Run a model in onnxruntime on the CPU, to compare it with another: quietly, from bytes, without telemetry.

Reconstructing is the runtime's business; here graphs are only tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_bundles.telemetry import refuse_telemetry
from ptyonnx_converters.exporters import require

__all__ = ["compute", "failures", "open_session", "reason"]

_LOG_FATAL = 4  # onnxruntime raises what it also logs


def open_session(model: bytes, *, plain: bool = False) -> Any:
    """Open a model with a thread for every core, `plain` without any optimisation of its graph."""
    refuse_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    options.intra_op_num_threads = cores()
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compute(model: bytes, outputs: Sequence[str], feeds: Mapping[str, NDArray[np.float32]]) -> list[Any]:
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
    except failures() as error:
        raise ConversionError(
            "onnxruntime does not run the graph", found=reason(error),
            remedy="nothing was written; report this with the versions in use",
        ) from None  # fmt: skip
    return found


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own exceptions share no base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (RuntimeError, ValueError, *own)


def reason(error: Exception) -> str:
    """First line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
