"""Read ONNX models without the `onnx` package: wire format, limits of a file, and checks of its graph."""
