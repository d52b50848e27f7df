"""Read an untrusted ONNX file: limit its size, and refuse external data, custom operators and control flow.

`opset.py` then converts it to the bundles' operator set, and `from_onnx.py` checks what it computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, Message
from onnx import numpy_helper

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.onnxruntime_session import first_line

__all__ = ["EVALUATION_REMEDY", "LARGEST_FILE_BYTES", "load_untrusted", "read_bounded"]

LARGEST_FILE_BYTES = 2**30  # as for a bundle
_STANDARD = ("", "ai.onnx")
_NUMBERS = frozenset(  # large fields of tensors, which contain no text
    {
        "raw_data",
        "float_data",
        "int32_data",
        "int64_data",
        "double_data",
        "uint64_data",
        "string_data",
        "floats",
        "ints",
    }
)
_TEXTS = frozenset({"s", "strings"})  # fields of attributes that hold text, although their type is bytes
_SHOWN = 40  # bytes of a text
EVALUATION_REMEDY = (
    "export the network in evaluation: call model.eval() before (PyTorch), or give training=False (Keras)"
)
_OLDEST_OPSET = 7  # older operators differ in meaning, and the version converter has gaps there


def read_bounded(path: Path) -> bytes:
    """Read a file of at most 1 GiB.

    Raises
    ------
    ConversionError
        The file is missing, too large or not a regular file.
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
        Valid, in its own operator set; its local functions are expanded.

    Raises
    ------
    ConversionError
        Not ONNX, external data, unknown operators, control flow, sparse tensors, training information.
    """
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise ConversionError(
            "not an ONNX model", file=file, remedy="the file is damaged or has another format"
        ) from None
    if not model.HasField("graph") or not model.opset_import:
        raise ConversionError("not an ONNX model", file=file, remedy="the file is damaged or has another format")
    _refuse_bytes(model, file)
    _refuse_external(model, file)
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except (RuntimeError, ValueError) as error:
            raise ConversionError(f"functions that cannot be expanded ({first_line(error)})", file=file) from None
    _refuse_unusual(model, file)
    _free_unsized(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ConversionError(f"not a valid ONNX model ({first_line(error)})", file=file) from None
    return model


def _refuse_bytes(message: Message, file: str) -> None:
    """Refuse names and other text that are not UTF-8: protobuf returns them as bytes, which later code cannot handle."""
    for field, value in message.ListFields():
        if field.name in _NUMBERS:
            continue
        for part in value if field.is_repeated else (value,):
            if isinstance(part, Message):
                _refuse_bytes(part, file)
            elif (
                isinstance(part, bytes)
                and (field.type == field.TYPE_STRING or field.name in _TEXTS)
                and not _is_utf8(part)
            ):
                raise ConversionError(
                    "text that is not UTF-8", file=file, key=f"{message.DESCRIPTOR.name}.{field.name}",
                    found=ascii(part[:_SHOWN]), remedy="the file is damaged, or export the network again",
                )  # fmt: skip


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _refuse_external(model: onnx.ModelProto, file: str) -> None:
    for name, tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ConversionError(
                "the weights are in another file (external data)", file=file, key=name,
                remedy="save the model as a single file: onnx.save(onnx.load(FILE), NEW)",
            )  # fmt: skip


def _free_unsized(graph: onnx.GraphProto) -> None:
    """Clear axes of size -1, which older exporters write for a free axis."""
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
    _refuse_training(model.graph, file)
    used = [opset for opset in model.opset_import if opset.domain in _STANDARD]
    del model.opset_import[:]
    model.opset_import.extend(used)
    if len(used) != 1:
        raise ConversionError(
            "not exactly one standard operator set", file=file, expected="one operator set of the standard domain"
        )
    if used[0].version < _OLDEST_OPSET:
        raise ConversionError(
            "the operator set is too old", file=file, found=used[0].version, expected=f"{_OLDEST_OPSET} or newer",
            remedy="export the network again",
        )  # fmt: skip


def _refuse_training(graph: onnx.GraphProto, file: str) -> None:
    """Refuse a graph that was exported in training mode: it uses batch statistics or random numbers."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            flagged = any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
            training = flagged or any(node.output[1:])  # before operator set 14 the statistics are outputs
        elif node.op_type == "Dropout" and len(node.input) > 2:
            flag = constants.get(node.input[2])
            training = flag is not None and bool(numpy_helper.to_array(flag).any())
        else:
            continue
        if training:
            raise ConversionError(
                f"{node.op_type} in training mode: a pattern's object depends on the others of its batch, or on chance",
                file=file, key=node.name or node.output[0], remedy=EVALUATION_REMEDY,
            )  # fmt: skip
