"""Load a training framework without the messages that it prints meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ptyonnx.cli.output import verbosity
from ptyonnx.cli.progress import stage
from ptyonnx.cli.scratch import use_scratch

if TYPE_CHECKING:
    from ptyonnx_bundles import Bundle
    from ptyonnx_runtime.inference.engine import Engine

__all__ = ["load_quietly", "open_quietly"]

_STDERR = 2  # file descriptor
_EVERYTHING = 2  # verbosity
_NAMES = {"tensorflow": "TensorFlow", "pytorch": "PyTorch"}


def load_quietly(backend: str, part: str = "training") -> None:
    """Import a module of a backend, and hide TensorFlow's messages about the processor.

    Raises
    ------
    MissingDependencyError, SettingsError
        See :func:`ptyonnx.backends.load_part`.
    """
    from ptyonnx import backends

    with _quietly(backend):
        backends.load_part(backend, part)


def open_quietly(bundle: Bundle, engine: str, *, provider: str, threads: int) -> Engine:
    """Open an engine, and hide the messages that its framework prints while it loads.

    Raises
    ------
    BundleError, MissingDependencyError, ProviderError, SettingsError
        See :func:`ptyonnx.backends.engines.open_engine`.
    """
    from ptyonnx.backends.engines import open_engine

    with _quietly(engine):
        return open_engine(bundle, engine, provider=provider, threads=threads)


@contextmanager
def _quietly(framework: str) -> Iterator[None]:
    """Show that a framework loads, and hide what it prints meanwhile, unless ``-vv`` asks for everything."""
    use_scratch()
    with stage(f"loading {_NAMES.get(framework, framework)}"):
        if verbosity() >= _EVERYTHING:
            yield
            return
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _without_stderr():
            yield


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Redirect the process's stderr to the null device: native code writes there before its log level is set."""
    sys.stderr.flush()
    kept, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nowhere)
