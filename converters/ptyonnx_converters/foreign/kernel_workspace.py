"""Memory that onnxruntime's CPU kernels need beside the values of a graph.

Measured on networks of many kinds (`tests/ptyonnx/test_adopt_memory_measured.py`): values and workspace
together are an upper bound of what a run takes, and not many times more than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import onnx
from onnx import TensorProto

from ptyonnx_converters.foreign.shape_inference import Value

__all__ = ["Layouts", "workspace_bytes"]

_BLOCK = 16  # channels per block of a convolution on AVX-512; 8 on AVX2
_FEWEST = 8  # smallest number of channels that is converted to blocks
_BLOCKING = frozenset({"AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
# Operators that keep the blocked layout if all their inputs have it.
_FOLLOWING = frozenset(
    {"Add", "BatchNormalization", "Clip", "Concat", "HardSigmoid", "LeakyRelu", "Mul", "Relu", "Resize", "Sigmoid"}
    | {"Sum", "Tanh"}
)
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOAT_BYTES = 4

Known = Mapping[str, Value]


class Layouts:
    """Sizes in bytes of the values of a graph in the layouts that onnxruntime uses.

    Convolutions read and write channels in blocks and pad the last block. A value that convolutions and
    other operators use is stored in both layouts. Most processors have no kernels for half precision: such
    values are stored in single precision as well.

    Parameters
    ----------
    nodes : sequence of NodeProto
        In order of computation.
    inputs, outputs : collection of str
        Names of the graph's inputs and outputs.
    constants : collection of str
        Names of the weights, which do not determine a layout.
    """

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Collection[str],
        outputs: Collection[str],
        constants: Collection[str],
    ) -> None:
        self._default, self._blocked_outputs, self._blocked_inputs = {*inputs, *outputs}, set[str](), set[str]()
        for node in nodes:
            varying = [name for name in node.input if name and name not in constants]
            following = node.op_type in _FOLLOWING and varying and self._blocked_outputs.issuperset(varying)
            blocked = node.op_type in _BLOCKING or (following and not _is_cubic(node))
            (self._blocked_outputs if blocked else self._default).update(node.output)
            if node.op_type in _BLOCKING:
                self._blocked_inputs.update(node.input[:1])
            elif not blocked:
                self._default.update(node.input)

    def held_bytes(self, name: str, value: Value) -> int:
        """Size of a value in bytes, in all layouts in which it is stored."""
        size = value.size_bytes
        if value.dtype in _HALVES:
            return size + math.prod(value.shape) * _FLOAT_BYTES
        if value.dtype != TensorProto.FLOAT or len(value.shape) != 4 or not value.shape[1]:
            return size
        filled = size // value.shape[1] * -(-value.shape[1] // _BLOCK) * _BLOCK
        blocked = name in self._blocked_outputs or (name in self._blocked_inputs and value.shape[1] >= _FEWEST)
        return (size if name in self._default else 0) + (filled if blocked else 0)


def _is_cubic(node: onnx.NodeProto) -> bool:
    return any(each.name == "mode" and each.s == b"cubic" for each in node.attribute)


def workspace_bytes(node: onnx.NodeProto, known: Known) -> int:
    """Bytes that a node needs while it runs, beside its inputs and outputs.

    Parameters
    ----------
    node : NodeProto
    known : mapping of str to Value
        At least its inputs and outputs.
    """
    count = _COUNTED.get(node.op_type)
    return 0 if count is None else count(node, known)


def _transposed(node: onnx.NodeProto, known: Known) -> int:
    """Unfolded columns of one image and group: each pixel times each kernel element of each output channel."""
    image, kernel = (known[name].shape for name in node.input[:2])
    return math.prod(image[2:]) * math.prod(kernel[1:]) * _FLOAT_BYTES


def _convolved(node: onnx.NodeProto, known: Known) -> int:
    """Unfolded columns of one image, if the output has fewer pixels than channels."""
    kernel, result = known[node.input[1]].shape, known[node.output[0]].shape
    pixels = math.prod(result[2:])
    if pixels >= kernel[0] and len(kernel) < 5:
        return 0
    return pixels * math.prod(kernel[1:]) * _FLOAT_BYTES


def _convolved_integers(node: onnx.NodeProto, known: Known) -> int:
    """Unfolded columns in bytes, and input and output with channels last."""
    image, kernel = known[node.input[0]], known[node.input[3 if node.op_type == "QLinearConv" else 1]].shape
    result = known[node.output[0]]
    pixels = math.prod(result.shape[2:])
    return pixels * (math.prod(kernel[1:]) + 8 * math.prod(kernel[2:])) + image.size_bytes + result.size_bytes


def _recurrent(node: onnx.NodeProto, known: Known) -> int:
    """All gates of all steps, and transposed copies of input and output."""
    sequence, weights = known[node.input[0]], known[node.input[1]].shape
    steps = math.prod(sequence.shape[:2])
    written = sum(known[name].size_bytes for name in node.output if name)
    return steps * math.prod(weights[:2]) * _FLOAT_BYTES + sequence.size_bytes + written


def _copied(node: onnx.NodeProto, known: Known) -> int:
    """Transposed copies of inputs and outputs."""
    return sum(known[name].size_bytes for name in {*node.input, *node.output} if name in known)


def _along_axis(node: onnx.NodeProto, known: Known) -> int:
    """Transposed copies of input and output, unless the axis is the last one."""
    rank = len(known[node.input[0]].shape)
    axis = next((each.i for each in node.attribute if each.name == "axis"), -1)
    return 0 if axis in {-1, rank - 1} else _copied(node, known)


def _spectral(node: onnx.NodeProto, known: Known) -> int:
    """Complex buffers before and after, of twice the length if it is not a power of two."""
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
