"""Open a bundle in onnxruntime, on the processor that was asked for and on no other.

A bundle is handed over as bytes, never as a path (onnxruntime would follow links out of its
folder), and no custom operator library is ever registered. A native graph, which is prescribed by its
recipe, runs in this process; a foreign one in a process of its own (`foreign_process`). What is
computed with the session is the business of `verify` and `reconstruct`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S, LARGEST_FOREIGN_BYTES, Confinement, limit_memory
from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import ProviderError
from ptyonnx_runtime.activations import value_names, with_every_value
from ptyonnx_runtime.installation import failures, first_line, require_onnxruntime, unavailable
from ptyonnx_runtime.memory import NOT_BOUNDED, bound_memory

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["PROVIDERS", "Manner", "Session", "open_here", "providers"]

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


class Manner(NamedTuple):
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


class _Graph(Protocol):
    """A graph that is ready to run, here or in a process of its own."""

    def run(self, outputs: Sequence[str] | None, feeds: dict[str, NDArray[np.float32]], /) -> list[Any]: ...


class Session:
    """A bundle, ready to compute. A context manager, which ends what a foreign bundle runs in.

    A foreign graph runs in a process of its own, with at most 4 GiB of memory (where the CPU computes it)
    and `limit_s` for each batch; a native graph runs in this one.

    Parameters
    ----------
    bundle : Bundle
    provider : str
        ``"auto"`` or a key of :data:`PROVIDERS`. ``"auto"`` takes the first that works here;
        any other name is used or is an error: never silently another one.
    threads : int
        Threads for one run on the CPU; 0: as many as there are cores.
    limit_s : float
        Seconds that a foreign graph may take to be opened, and for each batch.
    callers : int
        Threads that may call :meth:`run` of a foreign bundle at a time; others wait for their turn.

    Attributes
    ----------
    name : str
        ``"onnxruntime"``, see :class:`ptyonnx_runtime.engine.Engine`.
    provider : str
        The provider in use, a key of :data:`PROVIDERS`.

    Raises
    ------
    ProviderError
        The provider is unknown, not built in, or does not work on this machine.
    MissingDependencyError
        onnxruntime is not installed.
    WorkerError
        A foreign graph killed its process, or took too long to be opened.
    """

    name = "onnxruntime"

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "auto",
        threads: int = 0,
        *,
        limit_s: float = DEFAULT_LIMIT_S,
        callers: int = 1,
    ) -> None:
        self._bundle = bundle
        self._manner = Manner(threads, largest_bytes=LARGEST_FOREIGN_BYTES if bundle.is_foreign else None)
        self._limit_s = limit_s
        self._closing = ExitStack()
        self.provider, self._graph = self._open(bundle.model, provider, self._manner, callers)

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Patches of the object from measured amplitudes. May be called from several threads.

        Parameters
        ----------
        diffraction : (batch, channel, y, x) float32
            Amplitude, zero frequency in the centre.

        Returns
        -------
        (batch, channel, y, x) complex64

        Raises
        ------
        ProviderError
            The provider could not compute this batch, for example for lack of memory.
        WorkerError
            A foreign graph killed its process, or took too long.
        """
        (output,) = self._compute(self._graph, None, diffraction)
        patches: NDArray[np.complex64] = output.view(np.complex64)[..., 0]
        return patches

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """What every operator of the graph makes of some patterns.

        A session of its own computes them, operator by operator as the graph is written: what
        :meth:`run` uses is fused and laid out anew, and has no such values.

        Parameters
        ----------
        diffraction : (batch, channel, y, x) float32

        Returns
        -------
        dict of str to ndarray
            Canonical name -> float32, channels second, in order of computation.

        Raises
        ------
        ProviderError, WorkerError
            As for :meth:`run`.
        """
        names = value_names(self._bundle.graph)
        values = self._compute(self._unfused, names, diffraction)
        return {name: value for name, value in zip(names, values, strict=True) if value.dtype == np.float32}

    def close(self) -> None:
        """End the process of a foreign bundle, whatever it computes; a native one has none."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _unfused(self) -> _Graph:
        model = with_every_value(self._bundle.model, self._bundle.graph)
        return self._open(model, self.provider, self._manner._replace(fused=False), 1)[1]

    def _open(self, model: bytes, provider: str, manner: Manner, callers: int) -> tuple[str, _Graph]:
        if manner.largest_bytes is None:
            return open_here(model, provider, manner)
        if os.name != "posix":
            _logger.warning("%s: here a foreign network runs without a limit on its time", self._bundle.name)
            return open_here(model, provider, manner)
        from ptyonnx_runtime import foreign_process

        confinement = Confinement(self._limit_s, manner.largest_bytes)
        graph = foreign_process.start(
            model, provider, manner, name=self._bundle.name, confinement=confinement, callers=callers
        )
        self._closing.callback(graph.close)
        return str(graph.about["provider"]), graph

    def _compute(self, graph: _Graph, names: Sequence[str] | None, diffraction: NDArray[np.float32]) -> list[Any]:
        try:
            return graph.run(names, {"diffraction": np.ascontiguousarray(diffraction, np.float32)})
        except failures() as error:
            largest = self._manner.largest_bytes
            raise ProviderError(
                f"could not compute a batch of {len(diffraction)} on {self.provider} ({first_line(error)})",
                file=self._bundle.name, expected=largest and f"a network that needs at most {largest / 2**30:.4g} GiB",
                remedy="try a smaller batch size, fewer threads or another provider",
            ) from None  # fmt: skip

    def __repr__(self) -> str:
        return f"<Session {self._bundle.name} on {self.provider}>"


def open_here(model: bytes, provider: str, manner: Manner) -> tuple[str, onnxruntime.InferenceSession]:
    """Open a graph in this process.

    Parameters
    ----------
    model : bytes
    provider : str
        As for :class:`Session`.
    manner : Manner

    Returns
    -------
    provider : str
        The one in use.
    session : InferenceSession

    Raises
    ------
    ProviderError, MissingDependencyError
        As for :class:`Session`.
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
        session, reason = _try(model, name, manner)
        if session is not None:
            return name, session
        _logger.warning("provider %s cannot be used here (%s)", name, reason)
    raise unavailable(candidates[-1], reason, available)


def _try(model: bytes, name: str, manner: Manner) -> tuple[onnxruntime.InferenceSession | None, str]:
    """A session on exactly this provider, or the reason why there is none."""
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    # All of them include the blocked layout NCHWc, which is what makes it fast.
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if manner.fused else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = manner.threads or cores()
    options.inter_op_num_threads = 1  # the graph is a chain
    options.log_severity_level = _LOG_FATAL
    if name == "directml":
        options.enable_mem_pattern = False  # DirectML refuses it
    wanted = [(PROVIDERS[each], _OPTIONS.get(each, {})) for each in _WITH.get(name, (name,))]
    try:
        left_out: tuple[str, ...] = ()
        if manner.largest_bytes is not None:
            left_out = NOT_BOUNDED
            bound_memory(options, manner.largest_bytes)
            if name == "cpu":  # drivers of others reserve far more addresses than they use memory
                limit_memory(manner.largest_bytes, len(model), options.intra_op_num_threads)
        session = ort.InferenceSession(
            model, options, providers=wanted, enable_fallback=0, disabled_optimizers=list(left_out)
        )
    except failures() as error:
        return None, first_line(error)
    session.disable_fallback()
    if PROVIDERS[name] not in session.get_providers():
        return None, "its driver or libraries were not found"
    return session, ""
