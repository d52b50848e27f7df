"""From a native network to the one ONNX graph that its recipe stands for.

Importing this loads neither a framework nor onnx. One file for each framework, the same
verb in each:

    from_pytorch.convert(network, recipe) -> bytes
    from_tensorflow.convert(network, recipe) -> bytes
    check.self_test(native, model, diffraction) -> SelfTest
"""
