"""Open a bundle in onnxruntime, on the processor that was asked for and on no other.

A bundle is handed over as bytes, never as a path (onnxruntime would follow links out of its
folder), and no custom operator library is ever registered. What is computed with the session
is the business of `verify` and `reconstruct`.
"""

from __future__ import annotations

import importlib.metadata
import logging
import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle, ForeignManifest
from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import MissingDependencyError, ProviderError
from ptyonnx_bundles.telemetry import refuse_telemetry
from ptyonnx_runtime.activations import value_names, with_every_value
from ptyonnx_runtime.memory import NOT_BOUNDED, bound_memory

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["PROVIDERS", "Session", "providers", "require_onnxruntime"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
# TensorRT compiles for minutes and CoreML may compute in half precision: only on request.
_AUTO = ("cuda", "directml", "openvino", "cpu")
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
# Which node and how much; between the two it tells a place in its source.
_SHORTAGE = re.compile(r"running (\w+) node\. Name:'([^']*)'.*((?:Available memory of|Failed to allocate memory).*)")
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


class _Manner(NamedTuple):
    """How a graph is opened."""

    threads: int  # 0: as many as there are cores
    bounded: bool  # whether its memory is
    fused: bool = True  # and laid out anew; else operator by operator, as it is written


class Session:
    """A bundle, ready to compute; one with a foreign graph within :data:`LARGEST_FOREIGN_BYTES` on the CPU.

    Parameters
    ----------
    bundle : Bundle
    provider : str
        ``"auto"`` or a key of :data:`PROVIDERS`. ``"auto"`` takes the first that works here;
        any other name is used or is an error: never silently another one.
    threads : int
        Threads for one run on the CPU; 0: as many as there are cores.

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
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int = 0) -> None:
        self._bundle = bundle
        self._manner = _Manner(threads, bounded=isinstance(bundle.manifest, ForeignManifest))
        self.provider, self._session = _open(bundle.model, provider, self._manner)

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
        """
        (output,) = self._compute(self._session, None, diffraction)
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
        ProviderError
            As for :meth:`run`.
        """
        names = value_names(self._bundle.graph)
        values = self._compute(self._unfused, names, diffraction)
        return {name: value for name, value in zip(names, values, strict=True) if value.dtype == np.float32}

    @cached_property
    def _unfused(self) -> onnxruntime.InferenceSession:
        model = with_every_value(self._bundle.model, self._bundle.graph)
        return _open(model, self.provider, self._manner._replace(fused=False))[1]

    def _compute(
        self,
        session: onnxruntime.InferenceSession,
        names: Sequence[str] | None,
        diffraction: NDArray[np.float32],
    ) -> list[Any]:
        try:
            outputs: list[Any] = session.run(names, {"diffraction": np.ascontiguousarray(diffraction, np.float32)})
        except _failures() as error:
            raise ProviderError(
                f"could not compute a batch of {len(diffraction)} on {self.provider} ({_first_line(error)})",
                file=self._bundle.name, remedy="try a smaller batch size, fewer threads or another provider",
            ) from None  # fmt: skip
        return outputs

    def __repr__(self) -> str:
        return f"<Session {self._bundle.name} on {self.provider}>"


def _open(model: bytes, provider: str, manner: _Manner) -> tuple[str, onnxruntime.InferenceSession]:
    available = providers()
    if provider == "auto":
        candidates = tuple(name for name in _AUTO if name in available)
    elif provider in available:
        candidates = (provider,)
    elif provider in PROVIDERS:
        raise _unavailable(provider, "onnxruntime was built without it", available)
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
    raise _unavailable(candidates[-1], reason, available)


def _try(model: bytes, name: str, manner: _Manner) -> tuple[onnxruntime.InferenceSession | None, str]:
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
    wanted = [PROVIDERS["tensorrt"], PROVIDERS["cuda"]] if name == "tensorrt" else [PROVIDERS[name]]
    try:
        if manner.bounded:
            bound_memory(options)
        left_out = NOT_BOUNDED if manner.bounded else ()
        session = ort.InferenceSession(
            model, options, providers=wanted, enable_fallback=0, disabled_optimizers=list(left_out)
        )
    except _failures() as error:
        return None, _first_line(error)
    session.disable_fallback()
    if PROVIDERS[name] not in session.get_providers():
        return None, "its driver or libraries were not found"
    return session, ""


def _unavailable(name: str, reason: str, available: tuple[str, ...]) -> ProviderError:
    installed = _installed()
    if "onnxruntime" in installed and "onnxruntime-gpu" in installed:
        return ProviderError(
            f"provider '{name}' is not available: onnxruntime and onnxruntime-gpu are both installed "
            "and overwrite each other",
            remedy="pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'ptyonnx[gpu]' (or [cpu])",
        )
    return ProviderError(
        f"provider '{name}' is not available ({reason})", found=f"this machine has {', '.join(available)}",
        remedy="pip uninstall -y onnxruntime, then pip install 'ptyonnx[gpu]'"
        if name in ("cuda", "tensorrt") and "onnxruntime-gpu" not in installed
        else "choose one of these, or auto",
    )  # fmt: skip


def _installed() -> tuple[str, ...]:
    """Distributions that provide the module onnxruntime."""
    found = []
    for package in _PACKAGES:
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(package)
    return tuple(found)


def require_onnxruntime() -> Any:
    """Import onnxruntime, which is installed by an extra: CPU and GPU builds exclude each other.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    refuse_telemetry()
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime is not installed",
            remedy="pip install 'ptyonnx[cpu]', or 'ptyonnx[gpu]' for NVIDIA GPUs; never both",
        ) from None
    return onnxruntime


def _failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own exceptions share no base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (RuntimeError, ValueError, MemoryError, *own)


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    shortage = _SHORTAGE.search(line)
    return "{} '{}': {}".format(*shortage.groups()) if shortage else line
