"""Open a bundle in onnxruntime, on the requested provider and on no other.

The model is passed to onnxruntime as bytes, never as a path, as onnxruntime would follow links out of the folder. No
custom operator library is registered. A native graph, which its recipe prescribes, runs in this process; a foreign graph
runs in a separate process (`foreign_process`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S, LARGEST_FOREIGN_BYTES, Confinement
from ptyonnx_bundles.errors import ProviderError, SettingsError
from ptyonnx_runtime.inference import foreign_process
from ptyonnx_runtime.inference.activations import value_names, with_every_value
from ptyonnx_runtime.inference.engine import CACHED_BATCH_PX, GPU_BATCH_PX, SHARED_BATCH_PX
from ptyonnx_runtime.inference.installation import first_line, onnxruntime_errors
from ptyonnx_runtime.inference.onnx_session import SessionConfig, open_graph
from ptyonnx_runtime.inference.workers import worker_count

__all__ = ["Session"]

_logger = logging.getLogger(__name__)


class _Graph(Protocol):
    """A graph that is ready to run, here or in a process of its own."""

    def run(self, outputs: Sequence[str] | None, feeds: dict[str, NDArray[np.float32]], /) -> list[Any]: ...


class Session:
    """A bundle in onnxruntime, ready to compute. A context manager that ends the process of a foreign bundle.

    A foreign graph runs in a separate process, with at most 4 GiB of memory (on the CPU) and `limit_s` seconds for each
    batch. A native graph runs in this process.

    Parameters
    ----------
    bundle : Bundle
    provider : str
        ``"auto"`` or a key of :data:`ptyonnx_runtime.inference.onnx_session.PROVIDERS`. ``"auto"`` takes the first
        that works on this machine. Any other name is used as it is, or refused; there is no silent fallback.
    threads : int
        CPU threads of all runs together; 0: as many as there are cores.
    concurrency : int
        Runs at the same time on the CPU, which share the threads. With 1, a single batch is computed as fast as
        possible; :meth:`concurrent` chooses what suits a whole scan.
    limit_s : float
        Seconds that a foreign graph may take to be opened, and for each batch.

    Attributes
    ----------
    name : str
        ``"onnxruntime"``, see :class:`ptyonnx_runtime.inference.engine.Engine`.
    provider : str
        The provider in use, a key of :data:`ptyonnx_runtime.inference.onnx_session.PROVIDERS`.
    concurrency : int
        Threads that may call :meth:`run` at the same time; 1 on any other processor than the CPU.
    batch_px : int
        Pixels of a batch at which it is fastest.

    Raises
    ------
    ProviderError
        The provider is unknown, not built in, or does not work on this machine.
    MissingDependencyError
        onnxruntime is not installed.
    SettingsError
        `threads` is negative, or `concurrency` is not positive.
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
        concurrency: int = 1,
        limit_s: float = DEFAULT_LIMIT_S,
    ) -> None:
        if concurrency < 1:
            raise SettingsError("must be positive", key="concurrency", found=concurrency)
        self._bundle = bundle
        self._threads = worker_count(threads)
        each = max(1, self._threads // concurrency)
        self._config = SessionConfig(each, largest_bytes=LARGEST_FOREIGN_BYTES if bundle.is_foreign else None)
        self._limit_s = limit_s
        self._closing = ExitStack()
        self.provider, self._graph = self._open(bundle.model, provider, self._config, concurrency)
        on_cpu = self.provider == "cpu"
        self.concurrency = concurrency if on_cpu else 1
        self.batch_px = GPU_BATCH_PX if not on_cpu else CACHED_BATCH_PX if each == 1 else SHARED_BATCH_PX

    @classmethod
    def concurrent(
        cls, bundle: Bundle, provider: str = "auto", threads: int = 0, *, limit_s: float = DEFAULT_LIMIT_S
    ) -> Self:
        """Open a bundle for whole scans: on the CPU, every thread computes batches of its own.

        Threads then never wait for each other, and stitching overlaps with the network.

        Parameters
        ----------
        bundle, provider, threads, limit_s
            See :class:`Session`.
        """
        return cls(bundle, provider, threads, concurrency=worker_count(threads), limit_s=limit_s)

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Patches of the object from measured amplitudes. May be called from as many threads as `concurrency`.

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
        """Compute the output of every operator of the graph.

        A second session computes them, without graph optimisations: in the optimised graph of :meth:`run`, operators
        are fused and their outputs do not exist.

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
        values = self._compute(self._unoptimized, names, diffraction)
        return {name: value for name, value in zip(names, values, strict=True) if value.dtype == np.float32}

    def close(self) -> None:
        """End the process of a foreign bundle, also during a run. A native bundle has none."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _unoptimized(self) -> _Graph:
        model = with_every_value(self._bundle.model, self._bundle.graph)
        return self._open(model, self.provider, self._config._replace(threads=self._threads, optimized=False), 1)[1]

    def _open(self, model: bytes, provider: str, config: SessionConfig, concurrency: int) -> tuple[str, _Graph]:
        if config.largest_bytes is None:
            return open_graph(model, provider, config)
        if os.name != "posix":
            _logger.warning("%s: on this system a foreign network runs without a time limit", self._bundle.name)
            return open_graph(model, provider, config)
        confinement = Confinement(self._limit_s, config.largest_bytes)
        graph = foreign_process.start(
            model, provider, config, name=self._bundle.name, confinement=confinement, callers=concurrency
        )
        self._closing.callback(graph.close)
        return str(graph.about["provider"]), graph

    def _compute(self, graph: _Graph, names: Sequence[str] | None, diffraction: NDArray[np.float32]) -> list[Any]:
        try:
            return graph.run(names, {"diffraction": np.ascontiguousarray(diffraction, np.float32)})
        except onnxruntime_errors() as error:
            largest = self._config.largest_bytes
            raise ProviderError(
                f"could not compute a batch of {len(diffraction)} on {self.provider} ({first_line(error)})",
                file=self._bundle.name, expected=largest and f"a network that needs at most {largest / 2**30:.4g} GiB",
                remedy="try a smaller batch size, fewer threads or another provider",
            ) from None  # fmt: skip

    def __repr__(self) -> str:
        return f"<Session {self._bundle.name} on {self.provider}>"
