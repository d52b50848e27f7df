"""Infer the shape of every value of a graph, node by node, before the graph is run.

Only the small integer arrays that determine shapes are computed.
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

_FEW = 256  # elements; a larger array is not a shape
# Operators that exporters use to compute shapes; they are evaluated if inputs and outputs are small.
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
    numbers: NDArray[Any] | None = None  # of a small constant

    @property
    def size_bytes(self) -> int:
        """Size of all elements in bytes."""
        try:
            element = np.dtype(helper.tensor_dtype_to_np_dtype(self.dtype)).itemsize
        except KeyError:  # not a tensor; onnxruntime will report it
            element = 8
        return math.prod(self.shape) * element


def constant_value(tensor: onnx.TensorProto) -> Value:
    """Describe a constant."""
    few = math.prod(tensor.dims) <= _FEW
    return Value(tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor) if few else None)


def infer_outputs(node: onnx.NodeProto, known: Mapping[str, Value], opset: int) -> dict[str, Value]:
    """Infer dtype and shape of the outputs of a node, and their numbers if they are small constants.

    Parameters
    ----------
    node : NodeProto
    known : mapping of str to Value
        Every input of the node.
    opset : int

    Returns
    -------
    dict of str to Value
        Without the outputs whose shape cannot be inferred.
    """
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
    """Evaluate a node on small arrays; zeros stand for inputs of which only the shape matters."""
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
