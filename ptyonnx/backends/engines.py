"""Engines by name: onnxruntime and the native networks of the frameworks.

onnxruntime runs every bundle. A framework runs native bundles, whose recipe it can build, and is imported only when it is
requested.
"""

from __future__ import annotations

from ptyonnx import backends
from ptyonnx_bundles import Bundle
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_bundles.errors import ProviderError
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.session import Session

__all__ = ["ALIASES", "ENGINES", "canonical_engine", "open_engine"]

ENGINES = (Session.name, *backends.BACKENDS)
ALIASES = {"ort": Session.name, Session.name: Session.name, **backends.ALIASES}
_DEVICES = {"auto": "auto", "cpu": "cpu", "cuda": "gpu", "gpu": "gpu"}  # provider -> device of a framework


def canonical_engine(name: str) -> str:
    """Canonical name of an engine.

    Raises
    ------
    SettingsError
        There is no such engine.
    """
    return backends.resolve(name, ALIASES, "engine")


def open_engine(
    bundle: Bundle,
    engine: str = Session.name,
    *,
    provider: str = "auto",
    threads: int = 0,
    limit_s: float = DEFAULT_LIMIT_S,
) -> Engine:
    """Open a bundle in an engine.

    onnxruntime is opened for whole scans: it computes as many batches at a time as there are threads.

    Parameters
    ----------
    bundle : Bundle
    engine : str
        A key of :data:`ALIASES`.
    provider : str
        For onnxruntime see :class:`ptyonnx_runtime.inference.session.Session`; for a framework ``auto``,
        ``cpu`` or ``cuda``.
    threads : int
        CPU threads; 0: as many as there are cores. Those of a framework are set for the whole process.
    limit_s : float
        Seconds that a foreign graph may take to be opened, and for each batch.

    Raises
    ------
    SettingsError
        There is no such engine, or `threads` is negative.
    BundleError
        A framework was requested, and the bundle is foreign, so that the framework cannot build its network.
    ProviderError
        The provider is unknown or does not work on this machine.
    MissingDependencyError
        The engine is not installed; the message states the command that installs it.
    """
    name = canonical_engine(engine)
    if name == Session.name:
        return Session.concurrent(bundle, provider, threads, limit_s=limit_s)
    if provider not in _DEVICES:
        raise ProviderError(
            f"the engine {name} has no provider '{provider}'", expected="auto, cpu or cuda",
            remedy=f"'{provider}' is one of onnxruntime's: engine=\"{Session.name}\"",
        )  # fmt: skip
    native: Engine = backends.load_part(name, "engine").NativeEngine(bundle, threads, _DEVICES[provider])
    return native
