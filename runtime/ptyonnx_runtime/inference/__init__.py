"""A bundle in onnxruntime: sessions, the processes of foreign graphs, and a network run over a scan.

The names below are those that most users need; `runner` has `patches` and `predict`, `verify` the self-test.
"""

from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.onnx_session import PROVIDERS, providers
from ptyonnx_runtime.inference.session import Session

__all__ = ["PROVIDERS", "Engine", "Session", "providers"]
