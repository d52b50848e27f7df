"""Convert native networks to the ONNX graph of their recipe, and networks of other systems to and from bundles.

Importing this package loads neither a framework nor onnx. Each framework has one file with the same function:

    from_pytorch.convert(network, recipe) -> bytes
    from_tensorflow.convert(network, recipe) -> bytes
    selftest.make_selftest(native, model, diffraction) -> SelfTest
"""
