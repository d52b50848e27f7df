"""Open a graph in onnxruntime, in this process, on the requested provider and on no other.

`session` and the child process of a foreign graph (`foreign_process`) open graphs here. No custom operator library is
registered.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from ptyonnx_bundles.confinement import limit_memory
from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError
from ptyonnx_runtime.inference.installation import (
    first_line,
    onnxruntime_errors,
    provider_unavailable,
    require_onnxruntime,
)
from ptyonnx_runtime.inference.memory import UNBOUNDED_OPTIMIZERS, bound_memory

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["PROVIDERS", "SessionConfig", "open_graph", "providers"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
# Full float32, as in a bundle's self-test. By default onnxruntime uses TF32 (10 bits of mantissa) on NVIDIA Ampere and later.
_OPTIONS = {"cuda": {"use_tf32": "0"}}
# TensorRT compiles for minutes and CoreML may compute in half precision: only on request.
_AUTO = ("cuda", "directml", "openvino", "cpu")
_WITH = {"tensorrt": ("tensorrt", "cuda")}  # CUDA computes the operators that TensorRT does not have
_LOG_FATAL = 4  # onnxruntime raises what it also logs; users see one line


_logger = logging.getLogger(__name__)


def providers() -> tuple[str, ...]:
    """Names of the providers that the installed onnxruntime was built with, best first for `auto`.

    A provider that is built in may still lack its driver; opening a session finds out.

    Raises
    ------
    MissingDependencyError
        onnxruntime is not installed.
    """
    built_in = require_onnxruntime().get_available_providers()
    ordered = (*_AUTO, *(name for name in PROVIDERS if name not in _AUTO))
    return tuple(name for name in ordered if PROVIDERS[name] in built_in)


class SessionConfig(NamedTuple):
    """How a graph is opened.

    Attributes
    ----------
    threads : int
        For one run; 0: as many as there are cores.
    optimized : bool
        Whether onnxruntime optimises the graph; otherwise it runs operator by operator, as it is written.
    largest_bytes : int or None
        Memory limit of a foreign graph; None for a native graph.
    """

    threads: int
    optimized: bool = True
    largest_bytes: int | None = None


def open_graph(model: bytes, provider: str, config: SessionConfig) -> tuple[str, onnxruntime.InferenceSession]:
    """Open a graph in this process.

    Parameters
    ----------
    model : bytes
    provider : str
        As for :class:`ptyonnx_runtime.inference.session.Session`.
    config : SessionConfig

    Returns
    -------
    provider : str
        The one in use.
    session : InferenceSession

    Raises
    ------
    ProviderError, MissingDependencyError
        As for :class:`ptyonnx_runtime.inference.session.Session`.
    """
    available = providers()
    if provider == "auto":
        candidates = tuple(name for name in _AUTO if name in available)
    elif provider in available:
        candidates = (provider,)
    elif provider in PROVIDERS:
        raise provider_unavailable(provider, "onnxruntime was built without it", available)
    else:
        raise ProviderError(
            f"unknown provider '{provider}'", expected=f"auto, {', '.join(PROVIDERS)}",
            remedy=f"this machine has {', '.join(available)}",
        )  # fmt: skip
    reason = ""
    for name in candidates:
        session, reason = _try(model, name, config)
        if session is not None:
            return name, session
        _logger.warning("provider %s cannot be used here (%s)", name, reason)
    raise provider_unavailable(candidates[-1], reason, available)


def _try(model: bytes, name: str, config: SessionConfig) -> tuple[onnxruntime.InferenceSession | None, str]:
    """A session on exactly this provider, or the reason why there is none."""
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    # ORT_ENABLE_ALL includes the blocked layout NCHWc, to which it owes its speed on the CPU.
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if config.optimized else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = config.threads or cores()
    options.inter_op_num_threads = 1  # the graph is a chain
    options.log_severity_level = _LOG_FATAL
    if name == "directml":
        options.enable_mem_pattern = False  # DirectML refuses it
    wanted = [(PROVIDERS[each], _OPTIONS.get(each, {})) for each in _WITH.get(name, (name,))]
    try:
        left_out: tuple[str, ...] = ()
        if config.largest_bytes is not None:
            left_out = UNBOUNDED_OPTIMIZERS
            bound_memory(options, config.largest_bytes)
            if name == "cpu":  # drivers of other providers reserve far more addresses than they use memory
                limit_memory(config.largest_bytes, len(model), options.intra_op_num_threads)
        session = ort.InferenceSession(
            model, options, providers=wanted, enable_fallback=0, disabled_optimizers=list(left_out)
        )
    except onnxruntime_errors() as error:
        return None, first_line(error)
    session.disable_fallback()
    if PROVIDERS[name] not in session.get_providers():
        return None, "its driver or libraries were not found"
    return session, ""
