"""Convert a model to the operator set of bundles, 18, which every supported onnxruntime reads.

onnx does the work: its inliner expands operators that ONNX defines by functions, and its version
converter rewrites the others. This file only fills the converter's gaps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from onnx import helper, numpy_helper

from ptyonnx_bundles import FOREIGN_OPERATORS, IR_VERSION, OPSET
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.onnxruntime_session import first_line

__all__ = ["convert_opset", "expand_functions"]

# The version converter cannot downgrade these, although only names and permitted types have changed.
_UNCHANGED = frozenset({"ConstantOfShape", "GridSample"})
_OLD_MODES = {b"linear": b"bilinear", b"cubic": b"bicubic"}  # of GridSample, before operator set 20
_RESIZE_CHANGED = 11  # the first operator set whose Resize states its coordinate transformation
_ASIDE = "aside"  # a domain of its own: the version converter skips nodes of other domains
_FAILURES = (RuntimeError, ValueError, onnx.version_converter.ConvertError, onnx.shape_inference.InferenceError)


def expand_functions(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Replace operators that a bundle may not contain, such as Gelu or Attention, by the functions that define them.

    Parameters
    ----------
    model : ModelProto
        Valid, without control flow and functions.
    file : str
        Named in errors.

    Raises
    ------
    ConversionError
        onnx's inliner fails.
    """
    version = model.opset_import[0].version
    names = {node.op_type for node in model.graph.node} - FOREIGN_OPERATORS
    composed = [("", name) for name in sorted(names) if _is_composed(name, version)]
    if not composed:
        return model
    try:
        typed = onnx.shape_inference.infer_shapes(model)
        described = {value.name for value in (*typed.graph.value_info, *typed.graph.input)}
        typed.graph.value_info.extend(  # the definition may depend on the types of the inputs
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            for tensor in typed.graph.initializer
            if tensor.name not in described
        )
        result = onnx.inliner.inline_selected_functions(typed, composed, inline_schema_functions=True)
    except _FAILURES as error:
        raise _inconvertible(version, error, file) from None
    result.graph.ClearField("value_info")
    _make_finite(result, {name for node in model.graph.node for name in node.output})
    return result


def _make_finite(model: onnx.ModelProto, given: set[str]) -> None:
    """Replace infinities that a definition introduces, as Attention does in masks, by the largest finite number."""
    for node in model.graph.node:
        if node.op_type != "Constant" or node.output[0] in given or node.attribute[0].name != "value":
            continue
        array = numpy_helper.to_array(node.attribute[0].t)
        if array.dtype == np.float32 and np.isinf(array).any():
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.asarray(np.nan_to_num(array))))


def convert_opset(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Convert to operator set 18 and IR version 10.

    Parameters
    ----------
    model : ModelProto
        From :func:`expand_functions`.
    file : str
        Named in errors.

    Raises
    ------
    ConversionError
        onnx's version converter fails.
    """
    version = model.opset_import[0].version
    try:
        result = model if version == OPSET else _other_version(model)
    except _FAILURES as error:
        raise _inconvertible(version, error, file) from None
    if version < _RESIZE_CHANGED:
        _keep_coordinates(result.graph)
    result.ir_version = IR_VERSION
    del result.opset_import[:]
    result.opset_import.append(helper.make_opsetid("", OPSET))
    return result


def _inconvertible(version: int, error: Exception, file: str) -> ConversionError:
    return ConversionError(
        f"cannot be converted from operator set {version} to {OPSET} ({first_line(error)})", file=file,
        remedy=f"export the network again with operator set {OPSET}",
    )  # fmt: skip


def _is_composed(name: str, version: int) -> bool:
    """Whether ONNX defines an operator by a function of others, without control flow."""
    schema: Any = onnx.defs.get_schema(name, version)
    if schema.has_function:
        return not any(attribute.HasField("g") for node in schema.function_body.node for attribute in node.attribute)
    return bool(schema.has_context_dependent_function)


def _other_version(model: onnx.ModelProto) -> onnx.ModelProto:
    """Run the version converter on all operators that it can convert."""
    given = onnx.ModelProto()
    given.CopyFrom(model)
    if given.opset_import[0].version > OPSET:
        given.opset_import.append(helper.make_opsetid(_ASIDE, 1))
        for node in given.graph.node:
            if node.op_type in _UNCHANGED:
                node.domain = _ASIDE
                _rename_mode(node)
    result = onnx.version_converter.convert_version(given, OPSET)
    for node in result.graph.node:
        if node.domain == _ASIDE:
            node.ClearField("domain")
    return result


def _rename_mode(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name == "mode":
            attribute.s = _OLD_MODES.get(attribute.s, attribute.s)


def _keep_coordinates(graph: onnx.GraphProto) -> None:
    """Give every Resize the coordinates of Upsample and of Resize before operator set 11.

    The version converter omits this. Before operator set 11, pixel i of the output lay at i / scale, and
    "nearest" rounded down along an enlarged axis and up along a reduced one, as onnxruntime implements it.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type != "Resize":
            graph.node.append(node)
            continue
        given = constants.get(node.input[2])
        factors = np.ones(1, np.float32) if given is None else numpy_helper.to_array(given)
        grows, shrinks = bool((factors > 1).any()), bool((factors < 1).any())
        mode = next((each.s for each in node.attribute if each.name == "mode"), b"nearest")
        if mode != b"nearest" or not (grows and shrinks):
            graph.node.append(_resize(node, mode, "ceil" if shrinks else "floor"))
            continue
        first, second = _resize(node, mode, "floor"), _resize(node, mode, "ceil")
        first.name, second.input[0] = f"{node.name or node.output[0]}.grown", f"{node.output[0]}.grown"
        first.output[0] = second.input[0]
        for step, part in ((first, np.maximum(factors, 1)), (second, np.minimum(factors, 1))):
            step.input[2] = f"{step.output[0]}.factors"
            graph.initializer.append(numpy_helper.from_array(part, step.input[2]))
        graph.node.extend([first, second])


def _resize(node: onnx.NodeProto, mode: bytes, nearest: str) -> onnx.NodeProto:
    """Copy the node with explicit coordinates."""
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    attributes |= {"nearest_mode": nearest} if mode == b"nearest" else {}
    return helper.make_node("Resize", list(node.input), list(node.output), node.name, **attributes)
