"""Reconstruct with a bundle: physics, onnxruntime, stitching, residual. No training framework.

Import from the modules: ``ptyonnx_runtime.reconstruct``, ``.scan``, ``.session``, ``.verify`` …
"""
