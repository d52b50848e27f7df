"""Open somebody else's ONNX file without trusting it: bounded, plain, standard.

`older.py` brings it into this project's operator set. What it computes is nobody's promise yet;
`from_onnx.py` finds out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.running import reason

__all__ = ["LARGEST_FILE_BYTES", "load_untrusted", "read_limited"]

LARGEST_FILE_BYTES = 2**30  # as for a bundle
_STANDARD = ("", "ai.onnx")
_OLDEST_OPSET = 7  # below, operators mean other things and the version converter has gaps


def read_limited(path: Path) -> bytes:
    """Read a file of at most 1 GiB.

    Raises
    ------
    ConversionError
        Missing, no ordinary file, or too large.
    """
    try:
        if not path.is_file():
            raise ConversionError("no such file", file=path, remedy="check the path")
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise ConversionError("too large for a bundle", file=path, found=f"{size} bytes", expected="at most 1 GiB")
        with path.open("rb") as stream:
            return stream.read(LARGEST_FILE_BYTES)
    except OSError as error:
        raise ConversionError(f"cannot be read ({error.strerror})", file=path, remedy="check the path") from None


def load_untrusted(content: bytes, file: str) -> onnx.ModelProto:
    """Decode and check a model.

    Parameters
    ----------
    content : bytes
    file : str
        Named in errors.

    Returns
    -------
    ModelProto
        Valid, in its own operator set; functions of its own are written out.

    Raises
    ------
    ConversionError
        Not ONNX, external data, unknown operators, control flow, sparse tensors, training information.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise ConversionError("not an ONNX model", file=file, remedy="the file is damaged or something else") from None
    if not model.HasField("graph") or not model.opset_import:
        raise ConversionError("not an ONNX model", file=file, remedy="the file is damaged or something else")
    _refuse_external(model, file)
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except (RuntimeError, ValueError) as error:
            raise ConversionError(f"functions that cannot be written out ({reason(error)})", file=file) from None
    _refuse_unusual(model, file)
    _free_unsized(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ConversionError(f"not a valid ONNX model ({reason(error)})", file=file) from None
    return model


def _refuse_external(model: onnx.ModelProto, file: str) -> None:
    for name, tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ConversionError(
                "the weights lie in another file (external data)", file=file, key=name,
                remedy="save the model as a single file: onnx.save(onnx.load(FILE), NEW)",
            )  # fmt: skip


def _free_unsized(graph: onnx.GraphProto) -> None:
    """Leave an axis of size -1 without a size: so older exporters write one that is free."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_value == -1:
                axis.Clear()


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values
        yield sparse.values.name, sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            for tensor in (attribute.t, *attribute.tensors):
                yield node.name, tensor
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _refuse_unusual(model: onnx.ModelProto, file: str) -> None:
    if model.training_info or model.graph.sparse_initializer or model.graph.quantization_annotation:
        raise ConversionError("training information, sparse or annotated tensors", file=file, expected="a plain graph")
    for node in model.graph.node:
        if node.domain not in _STANDARD:
            raise ConversionError(
                f"the operator '{node.domain}::{node.op_type}' is not a standard one", file=file, key=node.name,
                remedy="export the network with standard ONNX operators only",
            )  # fmt: skip
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ConversionError(
                f"control flow ({node.op_type})", file=file, key=node.name,
                remedy="export the network with fixed settings, without branches and loops",
            )  # fmt: skip
    used = [opset for opset in model.opset_import if opset.domain in _STANDARD]
    del model.opset_import[:]
    model.opset_import.extend(used)
    if len(used) != 1:
        raise ConversionError("no operator set, or two", file=file, expected="one of the standard domain")
    if used[0].version < _OLDEST_OPSET:
        raise ConversionError(
            "too old an operator set", file=file, found=used[0].version, expected=f"{_OLDEST_OPSET} or newer",
            remedy="export the network again",
        )  # fmt: skip
