"""Networks of the field in every kind of operator that takes memory, with random weights and a fixed batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["NETWORKS"]

Arrays = dict[str, NDArray[Any]]


def _node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, ["" if name == "-" else name for name in inputs.split()], [output], **attributes)


def _model(nodes: list[onnx.NodeProto], arrays: Arrays, batch: int, N: int = 64) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, N, N])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _weights(*shape: int) -> NDArray[np.float32]:
    return np.asarray(np.random.default_rng(0).standard_normal(shape) * 0.05, np.float32)


def _convolutions(batch: int, N: int = 64, width: int = 32, kernel: int = 3, group: int = 1) -> onnx.ModelProto:
    arrays: Arrays = {"w0": _weights(width, 1, kernel, kernel), "w3": _weights(1, width, 1, 1)}
    pads = [kernel // 2] * 4
    nodes = [_node("Conv", "x w0", "c0", pads=pads), _node("Relu", "c0", "r0")]
    for level in (1, 2):
        arrays[f"w{level}"] = _weights(width, width // group, kernel, kernel)
        nodes.append(_node("Conv", f"r{level - 1} w{level}", f"c{level}", pads=pads, group=group))
        nodes.append(_node("Relu", f"c{level}", f"r{level}"))
    return _model([*nodes, _node("Conv", "r2 w3", "y")], arrays, batch, N)


def _transposed(
    batch: int, sizes: tuple[int, ...] = (64, 32, 32), kernel: int = 4, stride: int = 2, group: int = 1
) -> onnx.ModelProto:
    factor = stride ** (len(sizes) - 1)
    arrays: Arrays = {"w": _weights(sizes[0], 1, factor, factor), "last": _weights(1, sizes[-1], 1, 1)}
    nodes, value = [_node("Conv", "x w", "u", strides=[factor] * 2)], "u"
    for level, (few, many) in enumerate(pairwise(sizes)):
        arrays[f"t{level}"] = _weights(few, many // group, kernel, kernel)
        pads, steps = [(kernel - stride) // 2] * 4, [stride] * 2
        nodes.append(_node("ConvTranspose", f"{value} t{level}", f"u{level}", strides=steps, pads=pads, group=group))
        value = f"u{level}"
    return _model([*nodes, _node("Conv", f"{value} last", "y")], arrays, batch)


def _unet(batch: int, widths: tuple[int, ...] = (16, 32, 64)) -> onnx.ModelProto:
    """Skip connections and transposed convolutions."""
    arrays: Arrays = {"last": _weights(2, widths[0], 1, 1)}
    nodes: list[onnx.NodeProto] = []

    def double(value: str, few: int, many: int, name: str) -> str:
        for index, count in enumerate((few, many)):
            arrays[f"{name}.w{index}"] = _weights(many, count, 3, 3)
            nodes.append(_node("Conv", f"{value} {name}.w{index}", f"{name}.c{index}", pads=[1] * 4))
            nodes.append(_node("Relu", f"{name}.c{index}", f"{name}.r{index}"))
            value = f"{name}.r{index}"
        return value

    value, few, skips = "x", 1, []
    for level, many in enumerate(widths):
        value, few = double(value, few, many, f"down{level}"), many
        if many != widths[-1]:
            skips.append((value, many))
            nodes.append(_node("MaxPool", value, f"p{level}", kernel_shape=[2, 2], strides=[2, 2]))
            value = f"p{level}"
    for level, (skip, many) in reversed(list(enumerate(skips))):
        arrays[f"t{level}"] = _weights(few, many, 2, 2)
        nodes.append(_node("ConvTranspose", f"{value} t{level}", f"u{level}", strides=[2, 2]))
        nodes.append(_node("Concat", f"u{level} {skip}", f"k{level}", axis=1))
        value, few = double(f"k{level}", 2 * many, many, f"up{level}"), many
    return _model([*nodes, _node("Conv", f"{value} last", "y")], arrays, batch)


def _attention(batch: int, N: int = 64, patch: int = 4, width: int = 32, heads: int = 4) -> onnx.ModelProto:
    tokens, part = (N // patch) ** 2, width // heads
    arrays: Arrays = {
        "embed": _weights(width, 1, patch, patch), "tokens": np.array([0, width, tokens]),
        "split": np.array([0, tokens, heads, part]), "join": np.array([0, tokens, width]), "scale": np.float32(part**-0.5),
        "head": _weights(width, patch**2), "image": np.array([0, 1, N, N]),
    }  # fmt: skip
    nodes = [_node("Conv", "x embed", "e", strides=[patch] * 2), _node("Reshape", "e tokens", "t"),
             _node("Transpose", "t", "v", perm=[0, 2, 1])]  # fmt: skip
    for name in "qkv":
        arrays[f"w{name}"] = _weights(width, width)
        order = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [_node("MatMul", f"v w{name}", f"{name}0"), _node("Reshape", f"{name}0 split", f"{name}1"),
                  _node("Transpose", f"{name}1", f"{name}2", perm=order)]  # fmt: skip
    nodes += [_node("MatMul", "q2 k2", "s0"), _node("Mul", "s0 scale", "s1"), _node("Softmax", "s1", "s2"),
              _node("MatMul", "s2 v2", "o0"), _node("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
              _node("Reshape", "o1 join", "o2"), _node("Add", "o2 v", "o3"), _node("MatMul", "o3 head", "h"),
              _node("Reshape", "h image", "y")]  # fmt: skip
    return _model(nodes, arrays, batch, N)


def _recurrent(
    batch: int, operator: str = "LSTM", directions: int = 1, N: int = 64, hidden: int = 256
) -> onnx.ModelProto:
    """Rows of a pattern, one after the other."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator] * hidden
    arrays: Arrays = {"one": np.array([1]), "w": _weights(directions, gates, N), "r": _weights(directions, gates, hidden),
                      "head": _weights(hidden * directions, N), "join": np.array([0, 0, -1])}  # fmt: skip
    direction = "bidirectional" if directions == 2 else "forward"
    nodes = [_node("Squeeze", "x one", "p"), _node("Transpose", "p", "s", perm=[1, 0, 2]),
             _node(operator, "s w r", "l0", hidden_size=hidden, direction=direction),
             _node("Transpose", "l0", "l1", perm=[0, 2, 1, 3]), _node("Reshape", "l1 join", "l2"),
             _node("MatMul", "l2 head", "o0"), _node("Transpose", "o0", "o1", perm=[1, 0, 2]),
             _node("Unsqueeze", "o1 one", "y")]  # fmt: skip
    return _model(nodes, arrays, batch, N)


def _around(
    batch: int, *middle: onnx.NodeProto, width: int = 32, stride: int = 1, **arrays: NDArray[Any]
) -> onnx.ModelProto:
    """Some operators, from `c` to `d`, between two convolutions."""
    given = {"w0": _weights(width, 1, 3, 3), "w1": _weights(1, width, 3, 3), **arrays}
    first = _node("Conv", "x w0", "c", pads=[1] * 4, strides=[stride] * 2)
    return _model([first, *middle, _node("Conv", "d w1", "y", pads=[1] * 4)], given, batch)


def _resized(batch: int, mode: str) -> onnx.ModelProto:
    attributes = {"mode": mode, "coordinate_transformation_mode": "half_pixel"}
    if mode == "nearest":
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _around(
        batch, _node("Resize", "c - twice", "d", **attributes), stride=2, twice=np.array([1, 1, 2, 2], np.float32)
    )


def _normalised(batch: int, width: int = 32) -> onnx.ModelProto:
    return _around(
        batch, _node("InstanceNormalization", "c g b", "i"), _node("LayerNormalization", "i n", "l"),
        _node("ReduceMean", "l", "m", axes=[2, 3]), _node("Sub", "l m", "s"), _node("Erf", "s", "d"),
        g=np.ones(width, np.float32), b=np.zeros(width, np.float32), n=np.ones(64, np.float32),
    )  # fmt: skip


def _half(batch: int, width: int = 32) -> onnx.ModelProto:
    arrays: Arrays = {f"w{index}": _weights(*shape, 3, 3).astype(np.float16)
                      for index, shape in enumerate(((width, 1), (width, width), (1, width)))}  # fmt: skip
    nodes = [_node("Cast", "x", "h", to=TensorProto.FLOAT16), _node("Conv", "h w0", "c0", pads=[1] * 4),
             _node("Relu", "c0", "r0"), _node("Conv", "r0 w1", "c1", pads=[1] * 4), _node("Add", "c1 r0", "a"),
             _node("Conv", "a w2", "c2", pads=[1] * 4), _node("Cast", "c2", "y", to=TensorProto.FLOAT)]  # fmt: skip
    return _model(nodes, arrays, batch)


def _quantised(batch: int, width: int = 32) -> onnx.ModelProto:
    arrays: Arrays = {"sx": np.float32(0.05), "zx": np.uint8(128), "sw": np.float32(0.01), "zw": np.int8(0)}
    nodes, value, few = [], "x", 1
    for level, many in enumerate((width, width, 1)):
        arrays[f"w{level}"] = np.random.default_rng(0).integers(-127, 127, (many, few, 3, 3)).astype(np.int8)
        nodes += [_node("QuantizeLinear", f"{value} sx zx", f"q{level}"), _node("DequantizeLinear", f"q{level} sx zx", f"a{level}"),
                  _node("DequantizeLinear", f"w{level} sw zw", f"b{level}"),
                  _node("Conv", f"a{level} b{level}", f"c{level}", pads=[1] * 4)]  # fmt: skip
        value, few = f"c{level}", many
    return _model([*nodes, _node("Identity", value, "y")], arrays, batch)


NETWORKS: dict[str, Callable[[int], onnx.ModelProto]] = {
    "convolutions": _convolutions,
    "kernels of 7": lambda batch: _convolutions(batch, kernel=7),
    "one channel": lambda batch: _convolutions(batch, N=128, width=1),
    "depthwise": lambda batch: _convolutions(batch, group=32),
    "groups": lambda batch: _convolutions(batch, group=4),
    "transposed": _transposed,
    "transposed, kernels of 2": lambda batch: _transposed(batch, kernel=2),
    "transposed by 4": lambda batch: _transposed(batch, sizes=(64, 32), kernel=8, stride=4),
    "transposed by 1": lambda batch: _transposed(batch, sizes=(32, 16), kernel=5, stride=1),
    "transposed, groups": lambda batch: _transposed(batch, group=4),
    "transposed, depthwise": lambda batch: _transposed(batch, sizes=(32, 32, 32), group=32),
    "transposed, many channels": lambda batch: _transposed(batch, sizes=(256, 64)),
    "U-Net": _unet,
    "attention": _attention,
    "LSTM": _recurrent,
    "LSTM, both ways": lambda batch: _recurrent(batch, directions=2),
    "GRU": lambda batch: _recurrent(batch, "GRU"),
    "resized, nearest": lambda batch: _resized(batch, "nearest"),
    "resized, linear": lambda batch: _resized(batch, "linear"),
    "resized, cubic": lambda batch: _resized(batch, "cubic"),
    "normalised": _normalised,
    "across channels": lambda batch: _around(
        batch, _node("LRN", "c", "l", size=5), _node("Softmax", "l", "s", axis=1), _node("Einsum", "s", "d", equation="bcyx->bcxy")
    ),
    "half precision": _half,
    "quantised": _quantised,
}  # fmt: skip
