"""Which size the values of a graph have, found out node by node, before anything of it is run.

Nothing is computed but the few numbers that shapes are made of.
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

__all__ = ["Value", "constant_value", "infer_outputs"]

_FEW = 256  # elements; what has more is no shape
# What shapes are computed with, where they and what they are made of are few numbers.
_ARITHMETIC = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor"}
    | {"Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Range"}
    | {"ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "ScatterND", "Shape", "Size", "Slice", "Sqrt"}
    | {"Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"}
)
_NOT_COMPUTED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


class Value(NamedTuple):
    """What is known about a value before anything is run."""

    dtype: int
    shape: tuple[int, ...]
    numbers: NDArray[Any] | None = None  # where the value is constant and has few of them

    @property
    def size_bytes(self) -> int:
        """Of all elements."""
        try:
            element = np.dtype(helper.tensor_dtype_to_np_dtype(self.dtype)).itemsize
        except KeyError:  # no tensor; onnxruntime will say what it is
            element = 8
        return math.prod(self.shape) * element


def constant_value(tensor: onnx.TensorProto) -> Value:
    """What is known about a constant."""
    few = math.prod(tensor.dims) <= _FEW
    return Value(tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor) if few else None)


def infer_outputs(node: onnx.NodeProto, known: Mapping[str, Value], opset: int) -> dict[str, Value]:
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
    new = {value.name: shaped for value in inferred.output if (shaped := _static(value.type)) is not None}
    constant = all(known[name].numbers is not None for name in names) or node.op_type in {"Shape", "Size"}
    small = node.op_type == "NonZero" or (
        len(new) == len(graph.output) and all(math.prod(value.shape) <= _FEW for value in new.values())
    )
    if constant and small and node.op_type in _ARITHMETIC:
        new |= _computed(graph, {name: known[name] for name in names}, opset)
    return new


def _static(kind: TypeProto) -> Value | None:
    tensor = kind.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    sizes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]
    return None if any(size < 0 for size in sizes) else Value(tensor.elem_type, tuple(sizes))


def _computed(graph: onnx.GraphProto, inputs: Mapping[str, Value], opset: int) -> dict[str, Value]:
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
            name: Value(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array)
            for name, array in arrays.items()
            if array.size <= _FEW
        }
    except _NOT_COMPUTED:
        return {}
