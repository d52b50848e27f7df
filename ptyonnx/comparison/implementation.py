"""An implementation: a bundle together with the engine that computes it.

On the command line it is a path, followed by ``@`` and an engine where that is not onnxruntime:
``bundle.onnx@torch``, ``bundle.onnx@tensorflow``, ``bundle.onnx@cuda``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

from ptyonnx.backends.engines import ALIASES, canonical_engine, open_engine
from ptyonnx.opening import AnyBundle, open_bundle
from ptyonnx.runs.run import Run
from ptyonnx_bundles import Bundle
from ptyonnx_bundles.arguments import as_path
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_bundles.errors import SettingsError
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.onnx_session import PROVIDERS
from ptyonnx_runtime.inference.options import Options
from ptyonnx_runtime.inference.session import Session

__all__ = ["AnyImplementation", "Implementation", "open_implementation"]

AnyImplementation: TypeAlias = "Implementation | AnyBundle"


@dataclass(frozen=True, eq=False)
class Implementation:
    """A bundle and the engine that computes it.

    Attributes
    ----------
    bundle : Bundle
    engine : str
        Canonical name, see :data:`ptyonnx.backends.engines.ENGINES`.
    provider : str
        See :class:`ptyonnx_runtime.inference.session.Session`.
    opened : Engine or None
        An open engine, used instead of the one that `engine` names.
    limit_s : float
        Time limit for opening a foreign graph, and for each batch, in seconds.
    """

    bundle: Bundle
    engine: str = Session.name
    provider: str = "auto"
    opened: Engine | None = None
    limit_s: float = DEFAULT_LIMIT_S

    @property
    def engine_label(self) -> str:
        """The engine, with the provider unless that is ``"auto"``."""
        name = self.engine if self.opened is None else self.opened.name
        return name if self.provider == "auto" else f"{name} ({self.provider})"

    @property
    def name(self) -> str:
        """The file, with the engine where it is not onnxruntime."""
        file = str(self.bundle.path or self.bundle.name)
        return file if self.engine_label == Session.name else f"{file} by {self.engine_label}"

    def open(self) -> Engine:
        """Open the engine.

        Raises
        ------
        ProviderError, MissingDependencyError, BundleError
            The engine is not installed, not usable on this machine, or cannot compute this bundle.
        """
        return self.opened or open_engine(self.bundle, self.engine, provider=self.provider, limit_s=self.limit_s)

    def options(self, engine: Engine) -> Options:
        """Options of a run of the engine: an interruption closes it, unless it is the caller's.

        Parameters
        ----------
        engine : Engine
            The result of :meth:`open`.
        """
        return Options(abandon=engine.close if self.opened is None else None)


def open_implementation(
    source: AnyImplementation, provider: str = "auto", limit_s: float = DEFAULT_LIMIT_S, *, key: str | None = None
) -> Implementation:
    """Open a bundle and choose its engine.

    Parameters
    ----------
    source : Implementation, Bundle, Run or path-like
        A path is that of a bundle, or of a run directory that contains one. It may end in ``@`` and an engine
        (``torch``, ``tensorflow``, ``onnxruntime``) or a provider of onnxruntime (``cpu``, ``cuda`` …). If a file of
        the whole name exists, the ``@`` is part of its name.
    provider : str
        Used where `source` does not name a provider.
    limit_s : float
        See :class:`Implementation`.
    key : str, optional
        The name of the argument in errors, where another function passes it on.

    Raises
    ------
    BundleError
        Not a bundle.
    SettingsError
        The text after the ``@`` is neither an engine nor a provider.
    """
    if isinstance(source, Implementation):
        return source
    if isinstance(source, Bundle | Run):
        return Implementation(open_bundle(source, key=key), provider=provider, limit_s=limit_s)
    text = os.fspath(as_path(source, key or "source", "a bundle, a run, or the path of one"))
    path, at, suffix = text.rpartition("@")
    known = suffix.lower() in ALIASES or suffix.lower() in PROVIDERS
    if not at or os.path.lexists(text) or not (known or os.path.lexists(path)):
        return Implementation(open_bundle(text, key=key), provider=provider, limit_s=limit_s)
    if suffix.lower() in PROVIDERS:
        return Implementation(open_bundle(path, key=key), provider=suffix.lower(), limit_s=limit_s)
    if suffix.lower() not in ALIASES:
        raise SettingsError(
            "neither an engine nor a provider", file=path, key=f"@{suffix}",
            expected=f"@ and one of {', '.join((*ALIASES, *PROVIDERS))}",
        )  # fmt: skip
    return Implementation(open_bundle(path, key=key), canonical_engine(suffix), provider, limit_s=limit_s)
