"""Bundles of PtychoPINN: archives of both backends, read without either, and their networks as ONNX graphs."""
