"""PtychoPINN bundles: read the archives of both backends without a framework, and write their networks as ONNX."""
