"""How much memory a stranger's graph takes, found out before it is run.

The size of every value is inferred, node by node, from the size of the input. Nothing of the graph
is computed but the few numbers that shapes are made of. A size that is not known this way is
refused: a network of images has no need of sizes that depend on what was measured. What onnxruntime
needs beside the values is added (`workspace.py`); the weights, which are in the file, are not.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.kernel_workspace import Layouts, workspace_bytes
from ptyonnx_converters.foreign.shape_inference import Value, constant_value, infer_outputs
from ptyonnx_converters.foreign.simplify import required_nodes

__all__ = ["check_memory"]

# A U-Net of 64 channels holds 384 MiB at N = 512, where it is widest, and 1.5 GiB at N = 1024.
_LARGEST_PER_PATTERN = 2**29  # bytes
_LARGEST_PER_PIXEL = 2**12  # bytes; more than the above where N > 362
_LARGEST = 2**32  # bytes, of the whole batch that a file may fix
_COPIES = 6  # of the input in float32, while it is prepared in float64


def check_memory(
    model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]], N: int, batch: int, file: str | None
) -> None:
    """Refuse a graph that takes too much memory to run, or nobody knows how much.

    Parameters
    ----------
    model : ModelProto
        Valid, without control flow, functions and external data.
    inputs : mapping of str to tuple of int
        The shape of every input.
    N, batch : int
        Width of a pattern, pixels, and how many these shapes hold.
    file : str, optional
        Named in errors. Without it, the graph is the one that was made of the file.

    Raises
    ------
    ConversionError
        At some step more than 512 MiB for each pattern (where N > 362: 4 KiB for each of its pixels) or
        4 GiB for all of them, or a value whose size does not follow from the size of the input.
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
                    f"a size that only shows when the network is run ({node.op_type})", file=file, key=name,
                    expected="sizes that follow from the size of the input",
                    remedy="export the network with fixed shapes" if file else "export the network with a dynamic batch",
                )  # fmt: skip
        known |= new
        # Opening a graph computes what is constant in it, and keeps it; its weights are in the file already.
        held += 0 if node.op_type == "Constant" else sum(layouts.held_bytes(name, known[name]) for name in new)
        taken = held + workspace_bytes(node, known)
        if taken > allowed:
            raise _too_large(node.output[0], taken, allowed, batch, file)
        if not varying.isdisjoint(node.input):
            varying.update(new)
        done = {name for name in {*node.input, *new} & varying if last.get(name, index) <= index}
        held -= sum(layouts.held_bytes(name, known[name]) for name in done)


def _too_large(name: str, found: int, allowed: int, batch: int, file: str | None) -> ConversionError:
    return ConversionError(
        "takes too much memory; it was not run", file=file, key=name,
        found=f"{found / 2**20:.4g} MiB for {batch} pattern(s)", expected=f"at most {allowed // 2**20}",
        remedy="export the network with a smaller batch" if batch > 1 else None,
    )  # fmt: skip
