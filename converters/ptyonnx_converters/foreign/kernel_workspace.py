"""What onnxruntime's CPU kernels take beside the values of a graph.

Measured on networks of every kind (`tests/ptyonnx/test_adopt_memory_measured.py`): together with the
values this is at least what a run takes, and not many times more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import onnx
from onnx import TensorProto

from ptyonnx_converters.foreign.shape_inference import Value

__all__ = ["Layouts", "workspace_bytes"]

_BLOCK = 16  # channels that convolutions take together on AVX-512; 8 on AVX2
_FEWEST = 8  # channels that are taken in blocks
_BLOCKING = frozenset({"AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
# What takes and gives blocks where all that goes in has them.
_FOLLOWING = frozenset(
    {"Add", "BatchNormalization", "Clip", "Concat", "HardSigmoid", "LeakyRelu", "Mul", "Relu", "Resize", "Sigmoid"}
    | {"Sum", "Tanh"}
)
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOAT_BYTES = 4

Known = Mapping[str, Value]


class Layouts:
    """How many bytes the values of a graph take as onnxruntime keeps them.

    Convolutions take and write their channels in blocks, and fill the last one up. What is used by them
    and by others is there twice. Half precision has no kernels on most processors and is computed
    in single precision, beside the halves.

    Parameters
    ----------
    nodes : sequence of NodeProto
        In order of computation.
    inputs, outputs : collection of str
        Of the graph.
    constants : collection of str
        Names of the weights, which come in any layout.
    """

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Collection[str],
        outputs: Collection[str],
        constants: Collection[str],
    ) -> None:
        self._plain, self._given, self._taken = {*inputs, *outputs}, set[str](), set[str]()
        for node in nodes:
            varying = [name for name in node.input if name and name not in constants]
            following = node.op_type in _FOLLOWING and varying and self._given.issuperset(varying)
            blocked = node.op_type in _BLOCKING or (following and not _is_cubic(node))
            (self._given if blocked else self._plain).update(node.output)
            if node.op_type in _BLOCKING:
                self._taken.update(node.input[:1])
            elif not blocked:
                self._plain.update(node.input)

    def held_bytes(self, name: str, value: Value) -> int:
        """Size of a value while it is held."""
        size = value.size_bytes
        if value.dtype in _HALVES:
            return size + math.prod(value.shape) * _FLOAT_BYTES
        if value.dtype != TensorProto.FLOAT or len(value.shape) != 4 or not value.shape[1]:
            return size
        filled = size // value.shape[1] * -(-value.shape[1] // _BLOCK) * _BLOCK
        blocked = name in self._given or (name in self._taken and value.shape[1] >= _FEWEST)
        return (size if name in self._plain else 0) + (filled if blocked else 0)


def _is_cubic(node: onnx.NodeProto) -> bool:
    return any(each.name == "mode" and each.s == b"cubic" for each in node.attribute)


def workspace_bytes(node: onnx.NodeProto, known: Known) -> int:
    """Bytes that a node takes while it runs, beside its inputs and outputs.

    Parameters
    ----------
    node : NodeProto
    known : mapping of str to Value
        Its inputs and outputs, at least.
    """
    count = _COUNTED.get(node.op_type)
    return 0 if count is None else count(node, known)


def _transposed(node: onnx.NodeProto, known: Known) -> int:
    """Of one image and one group: every pixel times every element of the kernel of each output channel."""
    image, kernel = (known[name].shape for name in node.input[:2])
    return math.prod(image[2:]) * math.prod(kernel[1:]) * _FLOAT_BYTES


def _convolved(node: onnx.NodeProto, known: Known) -> int:
    """Where an image has fewer pixels than channels, all that every pixel of the result sees, of one image."""
    kernel, result = known[node.input[1]].shape, known[node.output[0]].shape
    pixels = math.prod(result[2:])
    if pixels >= kernel[0] and len(kernel) < 5:
        return 0
    return pixels * math.prod(kernel[1:]) * _FLOAT_BYTES


def _convolved_integers(node: onnx.NodeProto, known: Known) -> int:
    """The same for every image, in bytes, and both sides with channels last."""
    image, kernel = known[node.input[0]], known[node.input[3 if node.op_type == "QLinearConv" else 1]].shape
    result = known[node.output[0]]
    pixels = math.prod(result.shape[2:])
    return pixels * (math.prod(kernel[1:]) + 8 * math.prod(kernel[2:])) + image.size_bytes + result.size_bytes


def _recurrent(node: onnx.NodeProto, known: Known) -> int:
    """All gates of all steps, and input and output turned round."""
    sequence, weights = known[node.input[0]], known[node.input[1]].shape
    steps = math.prod(sequence.shape[:2])
    made = sum(known[name].size_bytes for name in node.output if name)
    return steps * math.prod(weights[:2]) * _FLOAT_BYTES + sequence.size_bytes + made


def _copied(node: onnx.NodeProto, known: Known) -> int:
    """Inputs and outputs in another order."""
    return sum(known[name].size_bytes for name in {*node.input, *node.output} if name in known)


def _along_axis(node: onnx.NodeProto, known: Known) -> int:
    """Both sides in another order, where the axis is not the last one."""
    rank = len(known[node.input[0]].shape)
    axis = next((each.i for each in node.attribute if each.name == "axis"), -1)
    return 0 if axis in {-1, rank - 1} else _copied(node, known)


def _spectral(node: onnx.NodeProto, known: Known) -> int:
    """Complex numbers before and after, in double the length where it is no power of two."""
    return 4 * max(known[name].size_bytes for name in (node.input[0], node.output[0]))


_COUNTED: Mapping[str, Callable[[onnx.NodeProto, Known], int]] = {
    "Conv": _convolved,
    "ConvInteger": _convolved_integers,
    "ConvTranspose": _transposed,
    "DFT": _spectral,
    "Einsum": _copied,
    "GRU": _recurrent,
    "LRN": _copied,
    "LSTM": _recurrent,
    "LogSoftmax": _along_axis,
    "QLinearConv": _convolved_integers,
    "RNN": _recurrent,
    "STFT": _spectral,
    "Softmax": _along_axis,
    "TopK": _copied,
}
