"""Backends by name: PyTorch and TensorFlow, each imported when it is first needed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import MissingDependencyError, SettingsError

if TYPE_CHECKING:
    from ptyonnx.runs.checkpoints import Snapshot, State
    from ptyonnx.settings import Settings
    from ptyonnx.training.journal import Journal
    from ptyonnx.training.task import Task
    from ptyonnx_bundles import Recipe

__all__ = ["ALIASES", "BACKENDS", "Backend", "canonical_name", "load", "load_part", "require", "resolve"]

BACKENDS = ("pytorch", "tensorflow")
ALIASES = {"tf": "tensorflow", "tensorflow": "tensorflow", "torch": "pytorch", "pytorch": "pytorch"}
_EXTRAS = {"pytorch": "torch", "tensorflow": "tensorflow"}
_PACKAGES = {"pytorch": ("torch", "lightning"), "tensorflow": ("tensorflow", "keras")}

Native = Callable[[NDArray[np.float32]], NDArray[np.complex64]]


class Backend(Protocol):
    """The functions of a backend: the modules `backends.pytorch.training` and `backends.tensorflow.training`."""

    def check(self, settings: Settings) -> None:
        """Refuse settings that this machine cannot satisfy, before anything is written."""

    def fit(self, task: Task, journal: Journal, earlier: State | None = None, logs: Path | None = None) -> None:
        """Train, from an earlier state if given; the journal saves every epoch."""

    def from_older_version(self, task: Task, checkpoints: Path) -> tuple[int, Snapshot] | None:
        """Read the number of completed epochs and the network from a checkpoint in the framework's own format, if any."""

    def convert(self, recipe: Recipe, weights: Mapping[str, NDArray[Any]]) -> tuple[bytes, Native]:
        """Convert weights to the canonical ONNX model; also return the native network, for comparison."""

    def versions(self) -> dict[str, str]:
        """Versions of the packages involved."""


def canonical_name(name: str) -> str:
    """Canonical name of a backend.

    Raises
    ------
    SettingsError
        There is no such backend.
    """
    return resolve(name, ALIASES, "backend")


def resolve(name: str, aliases: Mapping[str, str], kind: str) -> str:
    """Resolve an alias to its canonical name.

    Raises
    ------
    SettingsError
        The name is unknown. `kind` says what it should name, such as a backend.
    """
    if not isinstance(name, str):
        raise SettingsError("not a name", key=kind, found=type(name).__name__, expected=f"one of {', '.join(aliases)}")
    try:
        return aliases[name.lower()]
    except KeyError:
        near = difflib.get_close_matches(name.lower(), aliases, n=1)
        raise SettingsError(
            f"no such {kind}", key=kind, found=name, expected=f"one of {', '.join(aliases)}",
            remedy=f"did you mean '{near[0]}'?" if near else None,
        ) from None  # fmt: skip


def load(name: str) -> Backend:
    """Import a backend.

    Raises
    ------
    MissingDependencyError
        The framework is not installed.
    """
    backend: Backend = load_part(name, "training")
    return backend


def load_part(name: str, part: str) -> ModuleType | Any:
    """Import one module of a backend: ``training`` or ``engine``.

    Raises
    ------
    MissingDependencyError
        The framework is not installed.
    """
    canonical = canonical_name(name)
    try:
        return import_module(f"ptyonnx.backends.{canonical}.{part}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _PACKAGES[canonical]:
            raise
        raise _missing(canonical, error.name or "") from None


def require(name: str) -> None:
    """Check that a backend's packages are installed, without importing them.

    Raises
    ------
    MissingDependencyError
        The framework is not installed.
    """
    canonical = canonical_name(name)
    for package in _PACKAGES[canonical]:
        if find_spec(package) is None:
            raise _missing(canonical, package)


def _missing(backend: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"the backend '{backend}' needs {package}, which is not installed",
        remedy=f"pip install 'ptyonnx[{_EXTRAS[backend]}]'",
    )
