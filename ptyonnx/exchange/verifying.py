"""Verify that a bundle gives the results of its self-test on this machine; see `ptyonnx_runtime.inference.verify`."""

from __future__ import annotations

from ptyonnx.opening import AnyBundle, open_bundle
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_runtime.inference import verify as runtime
from ptyonnx_runtime.inference.verify import Verification

__all__ = ["Verification", "verify"]


def verify(
    bundle: AnyBundle, provider: str = "auto", threads: int = 0, *, limit_s: float = DEFAULT_LIMIT_S
) -> Verification:
    """Run the self-test of a bundle on this machine.

    Parameters
    ----------
    bundle : Bundle, Run or path-like
    provider : str
        Execution provider of onnxruntime: ``auto``, ``cpu``, ``cuda`` …
    threads : int
        0: one per core.
    limit_s : float
        Time limit in seconds for opening the graph of a foreign bundle, and for running it.

    Returns
    -------
    Verification
        ``passed`` is true if ``difference`` is within ``tolerance``.

    Raises
    ------
    BundleError, RunError
        The bundle cannot be opened.
    ProviderError
        The provider is unknown or does not work on this machine.
    """
    return runtime.verify(open_bundle(bundle, key="bundle"), provider, threads, limit_s=limit_s)
