"""The canonical pass: prove that an exported graph is the recipe's, then write it the recipe's way.

Two exporters spell one network in two ways: other names, spelt-out defaults, empty reshapes,
merged layers, dropped biases. Instead of mending one spelling after the other, the recipe's
graph is built with the native weights, both graphs are brought into a normal form, and
their outputs must be the same expression, down to the last bit of every weight. Only then is
the recipe's spelling written. So nothing that an exporter wrote is ignored: an operator, an
attribute or a weight that is not the recipe's ends in an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ptyonnx_bundles import IR_VERSION, OPSET, Node, Recipe
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.normal_form import NumberedGraph, Numbering, Step, number_graph

__all__ = ["build_model", "canonical_model", "prove_equal"]

_PRODUCER = "ptyonnx"
_SHOWN_DIFFERENCES = 3


def canonical_model(exported: onnx.ModelProto, recipe: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Turn an exporter's graph into the recipe's, having shown that they are one function.

    Parameters
    ----------
    exported : ModelProto
        What an exporter wrote.
    recipe : Recipe
        What the network is meant to be.
    weights : mapping of str to ndarray
        What the native network holds: canonical name -> float32, whitening included.

    Returns
    -------
    bytes
        Serialised; equal recipes and weights give equal bytes.

    Raises
    ------
    ConversionError
        The two are not the same; the first operator that differs is named.
    """
    canonical = build_model(recipe, weights)
    prove_equal(exported, canonical)
    serialised: bytes = canonical.SerializeToString(deterministic=True)
    return serialised


def build_model(recipe: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Build the recipe's graph with these weights, raw data, no metadata."""
    arrays = {**_checked(recipe, weights), **recipe.graph_constants()}
    shape: list[str | int | None] = ["batch", recipe.channels, recipe.N, recipe.N]
    graph = onnx.helper.make_graph(
        [_build_node(node) for node in recipe.nodes()],
        recipe.name,
        [onnx.helper.make_tensor_value_info("diffraction", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("object", onnx.TensorProto.FLOAT, [*shape, 2])],
        [onnx.numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in arrays.items()],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name=_PRODUCER)


def prove_equal(exported: onnx.ModelProto, canonical: onnx.ModelProto) -> None:
    """Prove that two graphs are the same function of `diffraction`.

    Raises
    ------
    ConversionError
        They are not, or the exported model holds something whose meaning is not accounted for.
    """
    for model in (canonical, exported):
        _check_valid(model)
    _check_plain(exported)
    for side in ("input", "output"):
        found, expected = _interface(exported, side), _interface(canonical, side)
        if found != expected:
            raise ConversionError(
                f"the exporter wrote another {side}", key=expected[0][0], found=found, expected=expected
            )
    _check_all_used(exported.graph)
    numbering = Numbering()
    wanted, written = (number_graph(model, numbering) for model in (canonical, exported))
    known = {step.number for step in wanted.steps}
    for step in written.steps:
        if step.number not in known:
            raise _difference(step, wanted, numbering)
    if written.output != wanted.output:
        last = written.steps[-1] if written.steps else None
        raise ConversionError(
            "the exporter's graph ends before the recipe's", key=last and last.name,
            found=last and last.operator, expected=wanted.steps[-1].name,
        )  # fmt: skip


def _build_node(node: Node) -> onnx.NodeProto:
    attributes: dict[str, Any] = dict(node.attributes)
    return onnx.helper.make_node(node.operator, node.inputs, [node.name], node.name, **attributes)


def _checked(recipe: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Weights in the recipe's order; all of them, and of its shapes."""
    shapes = {**recipe.weight_shapes(), **recipe.constant_shapes()}
    different = sorted(set(shapes) ^ set(weights))
    if different:
        raise ConversionError("the network's weights are not those of the recipe", key=different[0])
    for name, shape in shapes.items():
        array = weights[name]
        if array.dtype != np.float32 or array.shape != shape:
            raise ConversionError(
                "the network's weights are not those of the recipe", key=name,
                found=f"{array.dtype} {array.shape}", expected=f"float32 {shape}",
            )  # fmt: skip
    return {name: weights[name] for name in shapes}


def _check_valid(model: onnx.ModelProto) -> None:
    """What onnx itself demands: known operators, their attributes, types and shapes, order of computation."""
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"not a valid ONNX model: {error}") from error


def _check_plain(model: onnx.ModelProto) -> None:
    """Nothing beside one plain graph of the operator set that both exporters write."""
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("", opsets.get("ai.onnx")) != OPSET:
        raise ConversionError("the exporter wrote another operator set", found=opsets, expected=OPSET)
    if model.functions or model.graph.sparse_initializer or model.training_info:
        raise ConversionError("the exporter wrote functions, sparse tensors or training", expected="one plain graph")
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ConversionError("the exporter put a weight into another file", key=tensor.name)


def _interface(model: onnx.ModelProto, side: str) -> list[tuple[str, str, tuple[int | str, ...]]]:
    """Name, type and shape of inputs or outputs; the name of the free axis does not count."""
    values = model.graph.input if side == "input" else model.graph.output
    return [
        (
            value.name,
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            tuple(axis.dim_value or "batch" for axis in value.type.tensor_type.shape.dim),
        )
        for value in values
    ]


def _check_all_used(graph: onnx.GraphProto) -> None:
    """Every operator and every initializer leads to the output."""
    needed = {value.name for value in graph.output}
    for node in reversed(graph.node):  # in order of computation, as the checker has seen
        if needed.isdisjoint(node.output):
            raise ConversionError(
                "the exporter wrote an operator that leads nowhere",
                key=node.name or node.output[0], found=node.op_type, expected="no more than the recipe's",
            )  # fmt: skip
        needed.update(node.input)
    unused = [tensor.name for tensor in graph.initializer if tensor.name not in needed]
    if unused:
        raise ConversionError("the exporter wrote a constant that nothing uses", key=unused[0])


def _difference(step: Step, wanted: NumberedGraph, numbering: Numbering) -> ConversionError:
    """Name the first operator that is not the recipe's, and what the recipe has in its place."""
    data = {number for number in step.inputs if numbering.value(number) is None}
    rivals = [rival for rival in wanted.steps if data & set(rival.inputs)]
    alike = [rival for rival in rivals if rival.operator == step.operator] or rivals
    expected = [_contrast(rival, step) for rival in alike[:_SHOWN_DIFFERENCES]]
    return ConversionError(
        "the exporter's graph is not that of the recipe",
        key=step.name, found=_contrast(step, alike[0]) if alike else step.operator,
        expected=" or ".join(expected) if expected else "nothing more",
    )  # fmt: skip


def _contrast(step: Step, other: Step) -> str:
    """Spell an operator as far as it differs from another one."""
    if step.operator != other.operator:
        return f"{step.operator} ({step.name})"
    attributes = [f"{name} {value}" for name, value in step.attributes if (name, value) not in other.attributes]
    if attributes:
        return f"{step.operator} ({step.name}) with {', '.join(attributes)}"
    others = {number for _, number in other.named_inputs}
    inputs = [name for name, number in step.named_inputs if number not in others]
    return f"{step.operator} ({step.name}) of {', '.join(inputs) or 'nothing else'}"
