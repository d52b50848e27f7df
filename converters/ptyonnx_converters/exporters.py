"""Helpers of both exporters: check that packages are installed, and silence their log output.

This file needs neither framework; `canonical.py` checks the exported graphs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.errors import MissingDependencyError
from ptyonnx_bundles.telemetry import disable_telemetry

__all__ = ["NativeNetwork", "quiet", "require"]


class NativeNetwork(Protocol):
    """The method that a converter needs of a network."""

    def weights_by_name(self) -> Mapping[str, NDArray[np.float32]]:
        """Return all weights: canonical name -> float32, kernels (out, in, y, x)."""


def require(extra: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Parameters
    ----------
    extra : str
        The extra of ptyonnx that installs them.
    *packages : str
        Import names.

    Raises
    ------
    MissingDependencyError
        Names the first missing package and the command that installs it.
    """
    disable_telemetry()  # exporters load onnxruntime as well
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"exporting needs {package}, which is not installed", remedy=f"pip install 'ptyonnx[{extra}]'"
            )


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Suppress warnings and log output of exporters below the level of errors.

    Their warnings concern deprecations in their own code; the exported graph is proved correct afterwards.

    Parameters
    ----------
    *loggers : str
        Names of the loggers whose level is raised to ERROR meanwhile.
    """
    levels = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
