"""Run a model in onnxruntime on the CPU, to compare it with another: quietly, from bytes, without telemetry.

Reconstructing is the runtime's business; here graphs are only tried.
"""

from __future__ import annotations

from typing import Any

from ptyonnx_bundles.telemetry import refuse_telemetry

__all__ = ["failures", "open_session", "reason"]

_LOG_FATAL = 4  # onnxruntime raises what it also logs
_OWN = (
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NotImplemented",
    "RuntimeException",
)


def open_session(model: bytes, *, plain: bool = False) -> Any:
    """Open a model, `plain` without any optimisation of its graph."""
    refuse_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own exceptions share no base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (RuntimeError, ValueError, *(getattr(state, name) for name in _OWN if hasattr(state, name)))


def reason(error: Exception) -> str:
    """First line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
