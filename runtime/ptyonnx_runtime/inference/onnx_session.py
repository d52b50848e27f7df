"""Open a graph in onnxruntime, in this process, on the provider that was asked for and on no other.

Both `session` and the child process of a foreign graph (`foreign_process`) open graphs here. No custom operator
library is ever registered.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from ptyonnx_bundles.confinement import limit_memory
from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError
from ptyonnx_runtime.inference.installation import failures, first_line, require_onnxruntime, unavailable
from ptyonnx_runtime.inference.memory import NOT_BOUNDED, bound_memory

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
# As a bundle's self-test was computed: by default onnxruntime has 10 bits of mantissa on NVIDIA's GPUs since Ampere.
_OPTIONS = {"cuda": {"use_tf32": "0"}}
# TensorRT compiles for minutes and CoreML may compute in half precision: only on request.
_AUTO = ("cuda", "directml", "openvino", "cpu")
_WITH = {"tensorrt": ("tensorrt", "cuda")}  # which computes what TensorRT cannot
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
    fused : bool
        Whether it is fused and laid out anew; else it runs operator by operator, as it is written.
    largest_bytes : int or None
        Memory for a stranger's graph, in a process of its own; None: this project's own graph.
    """

    threads: int
    fused: bool = True
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
        raise unavailable(provider, "onnxruntime was built without it", available)
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
    raise unavailable(candidates[-1], reason, available)


def _try(model: bytes, name: str, config: SessionConfig) -> tuple[onnxruntime.InferenceSession | None, str]:
    """A session on exactly this provider, or the reason why there is none."""
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    # All of them include the blocked layout NCHWc, which is what makes it fast.
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if config.fused else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = config.threads or cores()
    options.inter_op_num_threads = 1  # the graph is a chain
    options.log_severity_level = _LOG_FATAL
    if name == "directml":
        options.enable_mem_pattern = False  # DirectML refuses it
    wanted = [(PROVIDERS[each], _OPTIONS.get(each, {})) for each in _WITH.get(name, (name,))]
    try:
        left_out: tuple[str, ...] = ()
        if config.largest_bytes is not None:
            left_out = NOT_BOUNDED
            bound_memory(options, config.largest_bytes)
            if name == "cpu":  # drivers of others reserve far more addresses than they use memory
                limit_memory(config.largest_bytes, len(model), options.intra_op_num_threads)
        session = ort.InferenceSession(
            model, options, providers=wanted, enable_fallback=0, disabled_optimizers=list(left_out)
        )
    except failures() as error:
        return None, first_line(error)
    session.disable_fallback()
    if PROVIDERS[name] not in session.get_providers():
        return None, "its driver or libraries were not found"
    return session, ""
