"""Canonicalize an exported graph: prove that it is the recipe's function, then write the recipe's own graph.

Two exporters write the same network differently: other names, explicit defaults, redundant reshapes,
merged layers, dropped biases. Instead of undoing each of these, the recipe's graph is built with the
native weights, both graphs are brought into a normal form, and their outputs must be the same expression,
down to the last bit of every weight. Only then is the recipe's graph written. Nothing in the exported
graph is ignored: an operator, an attribute or a weight that differs from the recipe is an error that
names it.
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
    """Return the recipe's graph after proving that the exported graph is the same function.

    Parameters
    ----------
    exported : ModelProto
        From an exporter.
    recipe : Recipe
        Of the network.
    weights : mapping of str to ndarray
        Of the native network: canonical name -> float32, whitening included.

    Returns
    -------
    bytes
        The serialised model; equal recipes and weights give equal bytes.

    Raises
    ------
    ConversionError
        The graphs differ; the error names the first operator that does.
    """
    canonical = build_model(recipe, weights)
    prove_equal(exported, canonical)
    serialised: bytes = canonical.SerializeToString(deterministic=True)
    return serialised


def build_model(recipe: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Build the recipe's graph with these weights as raw data and without metadata."""
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
        They are not, or the exported model contains something outside the normal form.
    """
    for model in (canonical, exported):
        _check_valid(model)
    _check_single_graph(exported)
    for side in ("input", "output"):
        found, expected = _interface(exported, side), _interface(canonical, side)
        if found != expected:
            raise ConversionError(
                f"the exported graph has another {side}", key=expected[0][0], found=found, expected=expected
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
            "the exported graph ends before the recipe's", key=last and last.name,
            found=last and last.operator, expected=wanted.steps[-1].name,
        )  # fmt: skip


def _build_node(node: Node) -> onnx.NodeProto:
    attributes: dict[str, Any] = dict(node.attributes)
    return onnx.helper.make_node(node.operator, node.inputs, [node.name], node.name, **attributes)


def _checked(recipe: Recipe, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Check names, dtypes and shapes of the weights, and return them in the recipe's order."""
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
    """Run onnx's own check of operators, attributes, types, shapes and order of computation."""
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"not a valid ONNX model: {error}") from error


def _check_single_graph(model: onnx.ModelProto) -> None:
    """Refuse another operator set, functions, sparse tensors, training information and external data."""
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("", opsets.get("ai.onnx")) != OPSET:
        raise ConversionError("the exported graph has another operator set", found=opsets, expected=OPSET)
    if model.functions or model.graph.sparse_initializer or model.training_info:
        raise ConversionError(
            "the exported model has functions, sparse tensors or training information", expected="a single graph"
        )
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ConversionError("the exporter stored a weight in another file", key=tensor.name)


def _interface(model: onnx.ModelProto, side: str) -> list[tuple[str, str, tuple[int | str, ...]]]:
    """List name, type and shape of inputs or outputs; the name of the batch axis is ignored."""
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
    """Check that the output depends on every operator and every initializer."""
    needed = {value.name for value in graph.output}
    for node in reversed(graph.node):  # the checker has verified the order of computation
        if needed.isdisjoint(node.output):
            raise ConversionError(
                "the exported graph has an operator whose result is not used",
                key=node.name or node.output[0], found=node.op_type, expected="only the recipe's operators",
            )  # fmt: skip
        needed.update(node.input)
    unused = [tensor.name for tensor in graph.initializer if tensor.name not in needed]
    if unused:
        raise ConversionError("the exported graph has an unused constant", key=unused[0])


def _difference(step: Step, wanted: NumberedGraph, numbering: Numbering) -> ConversionError:
    """Make the error that names the first differing operator and the recipe's operator in its place."""
    data = {number for number in step.inputs if numbering.value(number) is None}
    candidates = [candidate for candidate in wanted.steps if data & set(candidate.inputs)]
    alike = [candidate for candidate in candidates if candidate.operator == step.operator] or candidates
    expected = [_describe_difference(candidate, step) for candidate in alike[:_SHOWN_DIFFERENCES]]
    return ConversionError(
        "the exported graph is not that of the recipe",
        key=step.name, found=_describe_difference(step, alike[0]) if alike else step.operator,
        expected=" or ".join(expected) if expected else "no further operator",
    )  # fmt: skip


def _describe_difference(step: Step, other: Step) -> str:
    """Describe how an operator differs from another one."""
    if step.operator != other.operator:
        return f"{step.operator} ({step.name})"
    attributes = [f"{name} {value}" for name, value in step.attributes if (name, value) not in other.attributes]
    if attributes:
        return f"{step.operator} ({step.name}) with {', '.join(attributes)}"
    others = {number for _, number in other.named_inputs}
    inputs = [name for name, number in step.named_inputs if number not in others]
    return f"{step.operator} ({step.name}) of {', '.join(inputs) or 'nothing else'}"
