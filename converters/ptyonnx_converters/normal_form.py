"""Number the values of a graph so that equal numbers mean equal computations.

Every value is an expression: an operator with attributes applied to other values, a constant with its
bits, or the input. Expressions are brought into a normal form and numbered through one shared table, so
that two values, of one graph or of two, have the same number exactly if they are the same expression. Two
graphs are the same function if their outputs have the same number (value numbering, as in compilers).

The normal form ignores only what cannot change a result: names, the order of independent operators,
merged duplicates, explicit defaults, negative axes, the order of factors, `Constant` nodes instead of
initializers, `Identity`, a `Reshape` to the same shape, and an all-zero bias of a convolution. An operator
or attribute that is not listed here has no normal form and is an error.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ConversionError

__all__ = ["OPERATORS", "NumberedGraph", "Numbering", "Step", "number_graph"]

Attribute = float | int | str | tuple[float | int | str, ...]

# Every attribute at opset 18 with its default; None: it has no default.
OPERATORS: dict[str, dict[str, Attribute | None]] = {
    "Concat": {"axis": None},
    "Conv": {
        "auto_pad": "NOTSET",
        "dilations": (1, 1),
        "group": 1,
        "kernel_shape": None,
        "pads": (0, 0, 0, 0),
        "strides": (1, 1),
    },
    "Cos": {},
    "Identity": {},
    "LeakyRelu": {"alpha": 0.01},
    "MaxPool": {
        "auto_pad": "NOTSET",
        "ceil_mode": 0,
        "dilations": (1, 1),
        "kernel_shape": None,
        "pads": (0, 0, 0, 0),
        "storage_order": 0,
        "strides": (1, 1),
    },
    "Mul": {},
    "Relu": {},
    "Reshape": {"allowzero": 0},
    "Resize": {
        "antialias": 0,
        "axes": None,
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "extrapolation_value": 0.0,
        "keep_aspect_ratio_policy": "stretch",
        "mode": "nearest",
        "nearest_mode": "round_prefer_floor",
    },
    "Sigmoid": {},
    "Sin": {},
    "Sub": {},
    "Tanh": {},
    "Unsqueeze": {},
}
_CONSTANT_DTYPES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
_NOTHING = -1  # number of an absent optional input


class Step(NamedTuple):
    """One operator in normal form; `named_inputs` keeps the original inputs for error messages."""

    name: str
    operator: str
    attributes: tuple[tuple[str, Attribute | None], ...]
    inputs: tuple[int, ...]
    named_inputs: tuple[tuple[str, int], ...]
    number: int


class NumberedGraph(NamedTuple):
    """The operators in order of computation, and the number of the output."""

    steps: tuple[Step, ...]
    output: int


class Numbering:
    """The shared table, in which equal expressions have the same number."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._constants: dict[int, NDArray[np.generic]] = {}

    def expression(self, *parts: Hashable) -> int:
        """Number an expression."""
        return self._numbers.setdefault(parts, len(self._numbers))

    def constant(self, array: NDArray[np.generic]) -> int:
        """Number a constant by dtype, shape and every bit."""
        number = self.expression("constant", array.dtype.str, array.shape, array.tobytes())
        self._constants[number] = array
        return number

    def value(self, number: int) -> NDArray[np.generic] | None:
        """Return the constant with this number; None if the number is not that of a constant."""
        return self._constants.get(number)


def number_graph(model: onnx.ModelProto, numbering: Numbering) -> NumberedGraph:
    """Number every value of a graph with one input and one output.

    Parameters
    ----------
    model : ModelProto
        Checked, operators in order of computation.
    numbering : Numbering
        Shared by the graphs to be compared.

    Raises
    ------
    ConversionError
        An operator, or one of its attributes, has no normal form; the error names it.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {
        value.name: tuple(axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    walk = _Walk(numbering, shapes)
    for value in graph.input:
        walk.numbers[value.name] = numbering.expression("input", value.name)
    for tensor in graph.initializer:
        walk.numbers[tensor.name] = numbering.constant(onnx.numpy_helper.to_array(tensor))
    for node in graph.node:
        walk.add(node)
    return NumberedGraph(tuple(walk.steps), walk.numbers[graph.output[0].name])


class _Walk:
    """One pass over the nodes of one graph."""

    def __init__(self, numbering: Numbering, shapes: dict[str, tuple[int | str, ...]]) -> None:
        self.numbering = numbering
        self.shapes = shapes
        self.numbers: dict[str, int] = {"": _NOTHING}
        self.steps: list[Step] = []

    def add(self, node: onnx.NodeProto) -> None:
        if node.domain not in {"", "ai.onnx"} or len(node.output) != 1:
            raise _unsupported(node, f"{node.domain}::{node.op_type} with {len(node.output)} outputs")
        if node.op_type == "Constant":
            self.numbers[node.output[0]] = self.numbering.constant(_constant(node))
            return
        attributes = _attributes(node)
        inputs = tuple(self.numbers[name] for name in node.input)
        if node.op_type == "Identity" or (node.op_type == "Reshape" and self._keeps_shape(node, attributes, inputs)):
            self.numbers[node.output[0]] = inputs[0]
            return
        named = tuple((name, self.numbers[name]) for name in node.input if name)
        inputs, attributes = self._normal(node, inputs, attributes)
        described = tuple(sorted(attributes.items()))
        number = self.numbering.expression(node.op_type, described, inputs)
        self.numbers[node.output[0]] = number
        name = node.name or node.output[0]
        self.steps.append(Step(name, node.op_type, described, inputs, named, number))

    def _normal(
        self, node: onnx.NodeProto, inputs: tuple[int, ...], attributes: dict[str, Attribute | None]
    ) -> tuple[tuple[int, ...], dict[str, Attribute | None]]:
        """Inputs and attributes in normal form."""
        if node.op_type == "Mul":
            inputs = tuple(sorted(inputs))
        elif node.op_type == "Conv" and len(inputs) == 3 and self._is_zero(inputs[2]):
            inputs = inputs[:2]
        elif node.op_type == "Resize" and len(inputs) > 1 and self._is_empty(inputs[1]):
            inputs = (inputs[0], _NOTHING, *inputs[2:])
        elif node.op_type == "Unsqueeze":
            axes, rank = self.numbering.value(inputs[1]), self._rank(node) + 1
            if axes is None:
                raise _unsupported(node, "Unsqueeze along computed axes")
            inputs = (inputs[0], self.numbering.constant(np.asarray(axes, np.int64) % rank))
        elif node.op_type == "Concat":
            axis = attributes["axis"]
            assert isinstance(axis, int)  # verified by the checker
            attributes = {"axis": axis % self._rank(node)}
        return inputs, attributes

    def _keeps_shape(
        self, node: onnx.NodeProto, attributes: dict[str, Attribute | None], inputs: tuple[int, ...]
    ) -> bool:
        """Whether the target of a Reshape equals the shape of its input.

        Only the batch has no fixed size. If all other sizes are equal, a -1 in its place means the batch.
        """
        target, shape = self.numbering.value(inputs[1]), self.shapes.get(node.input[0])
        if target is None or shape is None or attributes["allowzero"]:
            return False
        return tuple(target.tolist()) == tuple(size if isinstance(size, int) else -1 for size in shape)

    def _rank(self, node: onnx.NodeProto) -> int:
        shape = self.shapes.get(node.input[0])
        if shape is None:
            raise _unsupported(node, f"{node.op_type} of a value without a shape")
        return len(shape)

    def _is_zero(self, number: int) -> bool:
        value = self.numbering.value(number)
        return value is not None and not np.any(value)

    def _is_empty(self, number: int) -> bool:
        value = self.numbering.value(number)
        return value is not None and value.size == 0


def _attributes(node: onnx.NodeProto) -> dict[str, Attribute | None]:
    """Return all attributes of a node, including defaults."""
    if node.op_type not in OPERATORS:
        raise _unsupported(node, node.op_type)
    attributes = dict(OPERATORS[node.op_type])
    for attribute in node.attribute:
        if attribute.name not in attributes:
            raise _unsupported(node, f"{node.op_type} with the attribute '{attribute.name}'")
        attributes[attribute.name] = _attribute_value(onnx.helper.get_attribute_value(attribute))
    return attributes


def _attribute_value(value: float | bytes | list[float] | list[bytes]) -> Attribute:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float | int):
        return value
    return tuple(part.decode() if isinstance(part, bytes) else part for part in value)


def _constant(node: onnx.NodeProto) -> NDArray[np.generic]:
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return onnx.numpy_helper.to_array(value)
    if attribute.name not in _CONSTANT_DTYPES:
        raise _unsupported(node, f"Constant with the attribute '{attribute.name}'")
    return np.asarray(value, _CONSTANT_DTYPES[attribute.name])


def _unsupported(node: onnx.NodeProto, found: str) -> ConversionError:
    return ConversionError(
        "the exported graph has an operator that the recipe does not have",
        key=node.name or node.output[0], found=found, expected=f"one of {', '.join(OPERATORS)}, with standard attributes",
    )  # fmt: skip
