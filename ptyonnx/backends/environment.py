"""What frameworks read from the environment, once, as they load: set before, unless the user has."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

__all__ = ["prepare_for"]


class _Default(NamedTuple):
    name: str
    value: str
    also: tuple[str, ...] = ()  # other variables that decide the same


_DEFAULTS = {
    # By itself TensorFlow uses oneDNN only on processors with AVX-512 VNNI (or AMX); with AVX2 alone training took
    # four times as long without.
    "tensorflow": (_Default("TF_ENABLE_ONEDNN_OPTS", "1"),),
    # GNU OpenMP's threads spin while they wait, by default for milliseconds: far too long where another process keeps
    # the one that they wait for from its core. 1000 rounds, some 10 us, bridge the gaps between operators.
    "torch": (_Default("GOMP_SPINCOUNT", "1000", ("OMP_WAIT_POLICY",)),),
}


def prepare_for(
    package: str, environment: MutableMapping[str, str] = os.environ, loaded: AbstractSet[str] | None = None
) -> None:
    """Set a framework's defaults in the environment; where it is loaded already, or the user has decided, nothing.

    Parameters
    ----------
    package : {"tensorflow", "torch"}
        About to be imported.
    environment : mapping, optional
        By default that of this process; child processes inherit it.
    loaded : set of str, optional
        Names of loaded modules, by default those of this process.
    """
    if package in (sys.modules if loaded is None else loaded):
        return
    for default in _DEFAULTS[package]:
        if not any(name in environment for name in default.also):
            environment.setdefault(default.name, default.value)
