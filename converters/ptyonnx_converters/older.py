"""Bring a model into this project's operator set, the older one that every reader knows.

onnx does it: its own definitions say what newer operators consist of, and its version converter
rewrites the others. Only its gaps are filled here.
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
from ptyonnx_converters.running import reason

__all__ = ["converted", "written_out"]

# What the version converter has no way down for, though nothing but names and permitted types has changed.
_UNCHANGED = frozenset({"ConstantOfShape", "GridSample"})
_OLD_MODES = {b"linear": b"bilinear", b"cubic": b"bicubic"}  # of GridSample, before operator set 20
_ASIDE = "aside"  # a domain: what is in none of its own the version converter leaves alone
_FAILURES = (RuntimeError, ValueError, onnx.version_converter.ConvertError, onnx.shape_inference.InferenceError)


def written_out(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Replace operators that a bundle does not hold, such as Gelu, GroupNormalization or Attention, by their definition.

    Parameters
    ----------
    model : ModelProto
        Valid, without control flow and functions.
    file : str
        Named in errors.

    Raises
    ------
    ConversionError
        onnx's inliner cannot.
    """
    version = model.opset_import[0].version
    names = {node.op_type for node in model.graph.node} - FOREIGN_OPERATORS
    composed = [("", name) for name in sorted(names) if _is_composed(name, version)]
    if not composed:
        return model
    try:
        typed = onnx.shape_inference.infer_shapes(model)
        described = {value.name for value in (*typed.graph.value_info, *typed.graph.input)}
        typed.graph.value_info.extend(  # definitions may depend on the types of what goes in
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
    """Where a definition brings an infinity with it, as Attention for its masks, the largest number does as well."""
    for node in model.graph.node:
        if node.op_type != "Constant" or node.output[0] in given or node.attribute[0].name != "value":
            continue
        array = numpy_helper.to_array(node.attribute[0].t)
        if array.dtype == np.float32 and np.isinf(array).any():
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.asarray(np.nan_to_num(array))))


def converted(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Convert to operator set 18 and IR version 10.

    Parameters
    ----------
    model : ModelProto
        As :func:`written_out` gives it.
    file : str
        Named in errors.

    Raises
    ------
    ConversionError
        onnx's version converter cannot.
    """
    version = model.opset_import[0].version
    try:
        result = model if version == OPSET else _other_version(model)
    except _FAILURES as error:
        raise _inconvertible(version, error, file) from None
    result.ir_version = IR_VERSION
    del result.opset_import[:]
    result.opset_import.append(helper.make_opsetid("", OPSET))
    return result


def _inconvertible(version: int, error: Exception, file: str) -> ConversionError:
    return ConversionError(
        f"cannot be converted from operator set {version} to {OPSET} ({reason(error)})", file=file,
        remedy=f"export the network again with operator set {OPSET}",
    )  # fmt: skip


def _is_composed(name: str, version: int) -> bool:
    """Whether ONNX defines an operator by others, without control flow."""
    schema: Any = onnx.defs.get_schema(name, version)
    if schema.has_function:
        return not any(attribute.HasField("g") for node in schema.function_body.node for attribute in node.attribute)
    return bool(schema.has_context_dependent_function)


def _other_version(model: onnx.ModelProto) -> onnx.ModelProto:
    """Run the version converter on all that it knows."""
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
