"""Environment variables that frameworks read once, when they are imported: defaults, unless the user has set them."""

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
    also: tuple[str, ...] = ()  # other variables with the same effect


_DEFAULTS = {
    # By default TensorFlow uses oneDNN only on processors with AVX-512 VNNI or AMX. On AVX2, training without oneDNN took
    # four times as long.
    "tensorflow": (_Default("TF_ENABLE_ONEDNN_OPTS", "1"),),
    # Threads of GNU OpenMP spin while they wait, by default for milliseconds. On a busy machine, this takes the core from
    # the thread that they wait for. 1000 rounds, about 10 us, are enough between two operators.
    "torch": (_Default("GOMP_SPINCOUNT", "1000", ("OMP_WAIT_POLICY",)),),
}


def prepare_for(
    package: str, environment: MutableMapping[str, str] = os.environ, loaded: AbstractSet[str] | None = None
) -> None:
    """Set a framework's defaults in the environment, unless it is imported already or the user has set them.

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
