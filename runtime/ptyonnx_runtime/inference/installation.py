"""The installed onnxruntime: import it, its exceptions, and why a provider is not available."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

from ptyonnx_bundles.errors import MissingDependencyError, ProviderError
from ptyonnx_bundles.telemetry import disable_telemetry

__all__ = ["first_line", "onnxruntime_errors", "provider_unavailable", "require_onnxruntime"]

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
# The node and the size; between the two, the message names a line of onnxruntime's source.
_SHORTAGE = re.compile(r"running (\w+) node\. Name:'([^']*)'.*((?:Available memory of|Failed to allocate memory).*)")


def provider_unavailable(name: str, reason: str, available: tuple[str, ...]) -> ProviderError:
    """Build the error that says why a provider cannot be used, and what to install."""
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
    """Import onnxruntime. An extra installs it, as CPU and GPU builds exclude each other.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    disable_telemetry()
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime is not installed",
            remedy="pip install 'ptyonnx[cpu]', or 'ptyonnx[gpu]' for NVIDIA GPUs; never both",
        ) from None
    return onnxruntime


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Exceptions that onnxruntime raises; its own have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (RuntimeError, ValueError, MemoryError, *own)


def first_line(error: Exception) -> str:
    """Shorten an exception of onnxruntime to one line."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    shortage = _SHORTAGE.search(line)
    return "{} '{}': {}".format(*shortage.groups()) if shortage else line
