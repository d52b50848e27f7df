"""How much memory a stranger's graph takes, found out before it is run.

The size of every value is inferred, node by node, from the size of the input. Nothing of the graph
is computed but the few numbers that shapes are made of. A size that is not known this way is
refused: a network of images has no need of sizes that depend on what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.plain import leading_to

__all__ = ["check_memory"]

# A U-Net of 64 channels holds 384 MiB at N = 512, where it is widest, and 1.5 GiB at N = 1024.
_LARGEST_PER_PATTERN = 2**29  # bytes
_LARGEST_PER_PIXEL = 2**12  # bytes; more than the above where N > 362
_LARGEST = 2**32  # bytes, of the whole batch that a file may fix
_COPIES = 6  # of the input in float32, while it is prepared in float64
_FEW = 256  # elements; what has more is no shape
# What shapes are computed with, where they and what they are made of are few numbers.
_ARITHMETIC = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor"}
    | {"Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Range"}
    | {"ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "ScatterND", "Shape", "Size", "Slice", "Sqrt"}
    | {"Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"}
)
_NOT_COMPUTED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


class _Value(NamedTuple):
    """What is known about a value before anything is run."""

    dtype: int
    shape: tuple[int, ...]
    numbers: NDArray[Any] | None = None  # where the value is constant and has few of them

    @property
    def size_bytes(self) -> int:
        try:
            element = np.dtype(helper.tensor_dtype_to_np_dtype(self.dtype)).itemsize
        except KeyError:  # no tensor; onnxruntime will say what it is
            element = 8
        return math.prod(self.shape) * element


def check_memory(
    model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]], N: int, batch: int, file: str | None
) -> None:
    """Refuse a graph that takes too much memory to run, or nobody knows how much.

    Parameters
    ----------
    model : ModelProto
        Valid, without control flow, functions and external data.
    inputs : mapping of str to tuple of int
        The shape of every input.
    N, batch : int
        Width of a pattern, pixels, and how many these shapes hold.
    file : str, optional
        Named in errors.

    Raises
    ------
    ConversionError
        At some step more than 512 MiB for each pattern (where N > 362: 4 KiB for each of its pixels) or
        4 GiB for all of them, or a value whose size does not follow from the size of the input.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    known = {tensor.name: _weight(tensor) for tensor in model.graph.initializer}
    known |= {name: _Value(types[name], tuple(shape)) for name, shape in inputs.items()}
    held = sum(known[name].size_bytes for name in inputs)
    allowed = min(_LARGEST, batch * max(_LARGEST_PER_PATTERN, N**2 * _LARGEST_PER_PIXEL))
    if _COPIES * held > allowed:
        raise _too_large("the input", _COPIES * held, allowed, batch, file)
    nodes = leading_to(model.graph.node, [value.name for value in model.graph.output])
    last = {name: index for index, node in enumerate(nodes) for name in node.input}
    last |= {value.name: len(nodes) for value in model.graph.output}
    varying = set(inputs)
    opset = next(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"})
    for index, node in enumerate(nodes):
        made = _made(node, known, opset)
        for name in node.output:
            if name in last and name not in made:
                raise ConversionError(
                    f"a size that only shows when the network is run ({node.op_type})", file=file, key=name,
                    expected="sizes that follow from the size of the input", remedy="export the network with fixed shapes",
                )  # fmt: skip
        known |= made
        # Opening a graph computes what is constant in it, and keeps it; its weights are in the file already.
        held += 0 if node.op_type == "Constant" else sum(value.size_bytes for value in made.values())
        if held + _workspace(node, known) > allowed:
            raise _too_large(node.output[0], held + _workspace(node, known), allowed, batch, file)
        if not varying.isdisjoint(node.input):
            varying.update(made)
        held -= sum(known[name].size_bytes for name in {*node.input, *made} & varying if last.get(name, index) <= index)


def _too_large(name: str, found: int, allowed: int, batch: int, file: str | None) -> ConversionError:
    return ConversionError(
        "takes too much memory; it was not run", file=file, key=name,
        found=f"{found / 2**20:.4g} MiB for {batch} pattern(s)", expected=f"at most {allowed // 2**20}",
        remedy="export the network with a smaller batch" if batch > 1 else None,
    )  # fmt: skip


def _weight(tensor: onnx.TensorProto) -> _Value:
    few = math.prod(tensor.dims) <= _FEW
    return _Value(tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor) if few else None)


def _made(node: onnx.NodeProto, known: Mapping[str, _Value], opset: int) -> dict[str, _Value]:
    """What is known about the outputs of a node: all of it, or the output is missing."""
    names = [name for name in dict.fromkeys(node.input) if name]
    graph = onnx.GraphProto(name="node", node=[node])
    for name in names:
        value = known[name]
        if value.numbers is None:
            graph.input.append(helper.make_tensor_value_info(name, value.dtype, list(value.shape)))
        else:
            graph.initializer.append(numpy_helper.from_array(value.numbers, name))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    made = {value.name: shaped for value in inferred.output if (shaped := _static(value.type)) is not None}
    constant = all(known[name].numbers is not None for name in names) or node.op_type in {"Shape", "Size"}
    small = node.op_type == "NonZero" or (
        len(made) == len(graph.output) and all(math.prod(value.shape) <= _FEW for value in made.values())
    )
    if constant and small and node.op_type in _ARITHMETIC:
        made |= _computed(graph, {name: known[name] for name in names}, opset)
    return made


def _static(kind: TypeProto) -> _Value | None:
    tensor = kind.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    sizes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]
    return None if any(size < 0 for size in sizes) else _Value(tensor.elem_type, tuple(sizes))


def _computed(graph: onnx.GraphProto, inputs: Mapping[str, _Value], opset: int) -> dict[str, _Value]:
    """Compute a node on few numbers; what only has its shape asked for needs none."""
    names = [value.name for value in graph.output]
    try:
        feeds = {
            name: np.broadcast_to(np.zeros((), np.float32), value.shape) if value.numbers is None else value.numbers
            for name, value in inputs.items()
        }
        with np.errstate(all="ignore"):
            found: Any = ReferenceEvaluator(graph, opsets={"": opset}).run(names, feeds)
        arrays = {name: np.asarray(array) for name, array in zip(names, found, strict=True)}
        return {
            name: _Value(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array)
            for name, array in arrays.items()
            if array.size <= _FEW
        }
    except _NOT_COMPUTED:
        return {}


def _workspace(node: onnx.NodeProto, known: Mapping[str, _Value]) -> int:
    """What a transposed convolution takes beside its result: every pixel times every element of its kernel."""
    if node.op_type != "ConvTranspose":
        return 0
    image, kernel = (known[name] for name in node.input[:2])
    return image.size_bytes * math.prod(kernel.shape[1:])
