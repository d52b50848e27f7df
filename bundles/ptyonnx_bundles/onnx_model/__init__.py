"""ONNX models read without the `onnx` package: the wire format, what a file may hold, and which graph it must be."""
