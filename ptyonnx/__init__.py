"""Train a ptychography network, export it as one ONNX bundle, reconstruct anywhere.

The public names of the project: ``from ptyonnx import load_scan, open_bundle, reconstruct``. They are imported at
first use (PEP 562), so that ``import ptyonnx`` loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptyonnx.comparison.comparison import Comparison, compare
    from ptyonnx.exchange.adopting import adopt
    from ptyonnx.exchange.exporting import export
    from ptyonnx.exchange.importing import import_bundle
    from ptyonnx.exchange.training import train
    from ptyonnx.exchange.verifying import Verification, verify
    from ptyonnx.formats import load_scan
    from ptyonnx.opening import open_bundle
    from ptyonnx.parity import Parity, check_parity
    from ptyonnx.results.reconstruction import Reconstruction, reconstruct
    from ptyonnx.runs.run import Run
    from ptyonnx.settings import Settings
    from ptyonnx.simulation import simulate
    from ptyonnx_bundles import Bundle
    from ptyonnx_bundles.errors import PtyonnxError
    from ptyonnx_runtime.scan import Scan

__all__ = [
    "Bundle",
    "Comparison",
    "Parity",
    "PtyonnxError",
    "Reconstruction",
    "Run",
    "Scan",
    "Settings",
    "Verification",
    "__version__",
    "adopt",
    "check_parity",
    "compare",
    "export",
    "import_bundle",
    "load_scan",
    "open_bundle",
    "reconstruct",
    "simulate",
    "train",
    "verify",
]

_ORIGINS = {
    "Bundle": ("ptyonnx_bundles", "Bundle"),
    "Comparison": ("ptyonnx.comparison.comparison", "Comparison"),
    "Parity": ("ptyonnx.parity", "Parity"),
    "PtyonnxError": ("ptyonnx_bundles.errors", "PtyonnxError"),
    "Reconstruction": ("ptyonnx.results.reconstruction", "Reconstruction"),
    "Run": ("ptyonnx.runs.run", "Run"),
    "Scan": ("ptyonnx_runtime.scan", "Scan"),
    "Settings": ("ptyonnx.settings", "Settings"),
    "Verification": ("ptyonnx.exchange.verifying", "Verification"),
    "adopt": ("ptyonnx.exchange.adopting", "adopt"),
    "check_parity": ("ptyonnx.parity", "check_parity"),
    "compare": ("ptyonnx.comparison.comparison", "compare"),
    "export": ("ptyonnx.exchange.exporting", "export"),
    "import_bundle": ("ptyonnx.exchange.importing", "import_bundle"),
    "load_scan": ("ptyonnx.formats", "load_scan"),
    "open_bundle": ("ptyonnx.opening", "open_bundle"),
    "reconstruct": ("ptyonnx.results.reconstruction", "reconstruct"),
    "simulate": ("ptyonnx.simulation", "simulate"),
    "train": ("ptyonnx.exchange.training", "train"),
    "verify": ("ptyonnx.exchange.verifying", "verify"),
}
_PACKAGES = (
    "backends",
    "comparison",
    "exchange",
    "formats",
    "parity",
    "reference",
    "report",
    "results",
    "runs",
    "settings",
    "simulation",
    "training",
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ptyonnx")
    if name in _PACKAGES:
        return import_module(f"ptyonnx.{name}")
    try:
        module, attribute = _ORIGINS[name]
    except KeyError:
        raise AttributeError(f"module 'ptyonnx' has no attribute '{name}'") from None
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
