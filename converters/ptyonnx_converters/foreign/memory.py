"""Estimate the memory that an untrusted graph needs before it is run, and refuse too much.

The size of every value is inferred, node by node, from the size of the input; only the small arrays that
determine shapes are computed. A size that cannot be inferred is refused: an image network has no need of
sizes that depend on the measured data. The estimate includes the workspace of onnxruntime's kernels
(`kernel_workspace.py`), but not the weights, whose size is that of the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.kernel_workspace import Layouts, workspace_bytes
from ptyonnx_converters.foreign.shape_inference import Value, constant_value, infer_outputs
from ptyonnx_converters.foreign.simplify import required_nodes

__all__ = ["check_memory"]

# The widest layer of a U-Net with 64 channels holds 384 MiB at N = 512 and 1.5 GiB at N = 1024.
_LARGEST_PER_PATTERN = 2**29  # bytes
_LARGEST_PER_PIXEL = 2**12  # bytes; the larger limit of the two if N > 362
_LARGEST = 2**32  # bytes, of the whole fixed batch of a file
_COPIES = 6  # of the input in float32, while it is prepared in float64


def check_memory(
    model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]], N: int, batch: int, file: str | None
) -> None:
    """Refuse a graph that needs too much memory to run, or an amount that cannot be inferred.

    Parameters
    ----------
    model : ModelProto
        Valid, without control flow, functions and external data.
    inputs : mapping of str to tuple of int
        The shape of every input.
    N, batch : int
        Width of a pattern in pixels, and number of patterns in these shapes.
    file : str, optional
        Named in errors. None: the graph is the one that was made from the file.

    Raises
    ------
    ConversionError
        Some step needs more than 512 MiB per pattern (4 KiB per pixel if N > 362) or 4 GiB in all, or the
        size of a value does not follow from the size of the input.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    known = {tensor.name: constant_value(tensor) for tensor in model.graph.initializer}
    known |= {name: Value(types[name], tuple(shape)) for name, shape in inputs.items()}
    held = sum(known[name].size_bytes for name in inputs)
    allowed = min(_LARGEST, batch * max(_LARGEST_PER_PATTERN, N**2 * _LARGEST_PER_PIXEL))
    if _COPIES * held > allowed:
        raise _too_large("the input", _COPIES * held, allowed, batch, file)
    nodes = required_nodes(model.graph.node, [value.name for value in model.graph.output])
    last = {name: index for index, node in enumerate(nodes) for name in node.input}
    last |= {value.name: len(nodes) for value in model.graph.output}
    varying = set(inputs)
    layouts = Layouts(nodes, inputs, [value.name for value in model.graph.output], known.keys() - varying)
    held = sum(layouts.held_bytes(name, known[name]) for name in inputs)
    opset = next(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"})
    for index, node in enumerate(nodes):
        new = infer_outputs(node, known, opset)
        for name in node.output:
            if name in last and name not in new:
                raise ConversionError(
                    f"a size that is only known when the network runs ({node.op_type})", file=file, key=name,
                    expected="sizes that follow from the size of the input",
                    remedy="export the network with fixed shapes" if file else "export the network with a dynamic batch",
                )  # fmt: skip
        known |= new
        # onnxruntime computes constants when it opens the graph, and keeps them; weights count with the file.
        held += 0 if node.op_type == "Constant" else sum(layouts.held_bytes(name, known[name]) for name in new)
        needed = held + workspace_bytes(node, known)
        if needed > allowed:
            raise _too_large(node.output[0], needed, allowed, batch, file)
        if not varying.isdisjoint(node.input):
            varying.update(new)
        done = {name for name in {*node.input, *new} & varying if last.get(name, index) <= index}
        held -= sum(layouts.held_bytes(name, known[name]) for name in done)


def _too_large(name: str, found: int, allowed: int, batch: int, file: str | None) -> ConversionError:
    return ConversionError(
        "needs too much memory; it was not run", file=file, key=name,
        found=f"{found / 2**20:.4g} MiB for {batch} pattern(s)", expected=f"at most {allowed // 2**20}",
        remedy="export the network with a smaller batch" if batch > 1 else None,
    )  # fmt: skip
