"""What both exporters need around them: their packages, and silence.

Knows neither framework; what they export is judged in `canonical.py`.
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
    """What a converter asks of a network, beside being one of its framework."""

    def weights_by_name(self) -> Mapping[str, NDArray[np.float32]]:
        """Return all weights: canonical name -> float32, kernels (out, in, y, x)."""


def require(extra: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Parameters
    ----------
    extra : str
        The extra of ptyonnx that brings them.
    *packages : str
        Import names.

    Raises
    ------
    MissingDependencyError
        Names the first that is missing and the command that installs it.
    """
    disable_telemetry()  # exporters load onnxruntime, too
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"exporting needs {package}, which is not installed", remedy=f"pip install 'ptyonnx[{extra}]'"
            )


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence what exporters say to each other; errors are still logged and still raised.

    Their warnings speak of deprecations inside their own code. What matters about the result
    is proved afterwards, so nothing is lost.

    Parameters
    ----------
    *loggers : str
        Names of the loggers that keep to errors meanwhile.
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
