"""Add input and output adapters to a foreign graph, so that it has the bundle's interface.

The input adapter turns measured amplitudes, zero frequency in the centre, into the network's input; the
output adapter turns the network's output into the complex object. `reference_run.py` implements both
independently in NumPy, and the self-test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles import IR_VERSION, OPSET
from ptyonnx_converters.foreign.declaration import Declaration, Limit, Scale
from ptyonnx_converters.foreign.simplify import ORIGINAL_PREFIX, required_nodes

__all__ = ["FIRST", "FIRST_PARTS", "LAST", "LAST_PARTS", "PLANES", "Layout", "add_io_adapters"]

# Order of the axes of an array: (batch, channel, y, x), (batch, y, x, channel) or (batch, y, x).
FIRST, LAST, PLANES = "channels first", "channels last", "no channels"
# The same with a last axis for the parts of the object, which the adapter moves before the channels.
FIRST_PARTS, LAST_PARTS = "channels first, parts last", "channels last, parts last"
_PARTS_FIRST = {FIRST_PARTS: [0, 4, 1, 2, 3], LAST_PARTS: [0, 4, 3, 1, 2]}  # (batch, part, channel, y, x)
_LEAST = np.float32(np.finfo(np.float32).tiny)  # divisor for a pattern without photons, whose maximum is 0


class Layout(NamedTuple):
    """Axis order and dtype of an input or output.

    Attributes
    ----------
    axes : str
        :data:`FIRST`, :data:`LAST` or :data:`PLANES`; of an output also :data:`FIRST_PARTS` or :data:`LAST_PARTS`.
    dtype : int
        TensorProto.DataType.
    """

    axes: str
    dtype: int


class _Chain:
    """A list of new nodes; their constants go into the graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.nodes: list[onnx.NodeProto] = []

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        if all(tensor.name != name for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def scalar(self, name: str, number: float) -> str:
        return self.constant(name, np.float32(number))

    def axes(self, name: str, *axes: int) -> str:
        return self.constant(name, np.array(axes, np.int64))


def add_io_adapters(
    model: onnx.ModelProto,
    declaration: Declaration,
    size: tuple[int, int],
    layout: Layout,
    outputs: Mapping[str, Layout],
) -> bytes:
    """Add input and output adapters to a graph.

    Parameters
    ----------
    model : ModelProto
        From `simplify`, with a free batch and one input.
    declaration : Declaration
        Complete.
    size : (int, int)
        N and C.
    layout : Layout
        Of the original's input.
    outputs : mapping of str to Layout
        Of the declared outputs, by their names in the original.

    Returns
    -------
    bytes
        A serialised model with the bundle's interface, operator set and IR version.
    """
    N, channels = size
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    own, inner = list(graph.node), graph.input[0].name
    front, back = _Chain(result), _Chain(result)
    value = _scale(front, _limit_counts(front, declaration), declaration)
    value = _to_layout(front, _shift_zero_frequency(front, value, declaration, N), layout)
    renamed = {inner: value}
    for node in own:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    parts = {}
    for part, source in declaration.sources().items():
        value = renamed.get(ORIGINAL_PREFIX + source.tensor, ORIGINAL_PREFIX + source.tensor)
        value = _to_channels_first(back, part, value, outputs[source.tensor], N)
        parts[part] = value if source.channel is None else _channel_block(back, part, value, source.channel, channels)
    _complex_object(back, parts)
    nodes = required_nodes([*front.nodes, *own, *back.nodes], ["object"])
    used = {name for node in nodes for name in node.input}
    shape: list[str | int | None] = ["batch", channels, N, N]
    arranged = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("diffraction", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("object", TensorProto.FLOAT, [*shape, 2])],
        [tensor for tensor in graph.initializer if tensor.name in used],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    complete = helper.make_model(arranged, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ptyonnx")
    serialised: bytes = complete.SerializeToString(deterministic=True)
    return serialised


def _limit_counts(chain: _Chain, declaration: Declaration) -> str:
    """Apply the declared limit on counts, then square the amplitudes if the network takes intensities.

    Amplitudes are compared with the root of the limit: the square of a rounded root may exceed the count
    that was measured.
    """
    limit = declaration.limit or Limit("none")
    value = "diffraction"
    if limit.kind != "none":
        largest = chain.scalar("input.largest", math.sqrt(limit.counts))
        if limit.kind == "clip":
            value = chain.add("Min", [value, largest], "input.limited")
        else:
            fits = chain.add("LessOrEqual", [value, largest], "input.fits")
            value = chain.add("Where", [fits, value, chain.scalar("input.zero", 0)], "input.limited")
    return chain.add("Mul", [value, value], "input.intensity") if declaration.values == "intensity" else value


def _scale(chain: _Chain, value: str, declaration: Declaration) -> str:
    scale = declaration.scale or Scale("factor")
    if scale.kind == "maximum":
        axes = chain.axes("input.axes", 2, 3)
        largest = chain.add("ReduceMax", [value, axes], "input.maximum", keepdims=1)
        largest = chain.add("Max", [largest, chain.constant("input.least", _LEAST)], "input.divisor")
        value = chain.add("Div", [value, largest], "input.scaled")
    else:
        factor = scale.number
        if scale.kind == "norm":
            factor = scale.times / scale.number
            factor = math.sqrt(factor) if declaration.values == "amplitude" else factor
        if factor != 1:
            value = chain.add("Mul", [value, chain.scalar("input.factor", factor)], "input.scaled")
    if declaration.transform in ("log1p", "log10p"):
        more = chain.add("Add", [value, chain.scalar("input.one", 1)], "input.more")
        value = chain.add("Log", [more], "input.log")
        if declaration.transform == "log10p":
            value = chain.add("Mul", [value, chain.scalar("input.decade", 1 / math.log(10))], "input.log10")
    return value


def _shift_zero_frequency(chain: _Chain, value: str, declaration: Declaration, N: int) -> str:
    """Move the zero frequency from the centre to the corner if the network was trained so."""
    if declaration.zero_frequency != "corner":
        return value
    index = chain.constant("input.corner", np.roll(np.arange(N), N // 2))
    rows = chain.add("Gather", [value, index], "input.rows", axis=2)
    return chain.add("Gather", [rows, index], "input.placed", axis=3)


def _to_layout(chain: _Chain, value: str, layout: Layout) -> str:
    if layout.axes == PLANES:
        value = chain.add("Squeeze", [value, chain.axes("input.channel", 1)], "input.planes")
    elif layout.axes == LAST:
        value = chain.add("Transpose", [value], "input.last", perm=[0, 2, 3, 1])
    if layout.dtype != TensorProto.FLOAT:
        value = chain.add("Cast", [value], "input.cast", to=layout.dtype)
    return value


def _to_channels_first(chain: _Chain, part: str, value: str, layout: Layout, N: int) -> str:
    """Convert an output to float32 (batch, channel, y, x)."""
    if layout.dtype != TensorProto.FLOAT:
        value = chain.add("Cast", [value], f"{part}.cast", to=TensorProto.FLOAT)
    if layout.axes == PLANES:
        value = chain.add("Unsqueeze", [value, chain.axes("output.channel", 1)], f"{part}.first")
    elif layout.axes == LAST:
        value = chain.add("Transpose", [value], f"{part}.first", perm=[0, 3, 1, 2])
    elif layout.axes in _PARTS_FIRST:
        value = chain.add("Transpose", [value], f"{part}.split", perm=_PARTS_FIRST[layout.axes])
        value = chain.add("Reshape", [value, chain.axes("output.blocks", 0, -1, N, N)], f"{part}.first")
    return value


def _channel_block(chain: _Chain, part: str, value: str, channel: int, channels: int) -> str:
    """Take one block of C channels."""
    start = chain.axes(f"{part}.from", channel * channels)
    end = chain.axes(f"{part}.to", (channel + 1) * channels)
    return chain.add("Slice", [value, start, end, chain.axes("output.channel", 1)], part)


def _complex_object(chain: _Chain, parts: Mapping[str, str]) -> None:
    """Combine the parts into real and imaginary part along a last axis."""
    if "phase" in parts:
        real = chain.add("Cos", [parts["phase"]], "phase.cos")
        imaginary = chain.add("Sin", [parts["phase"]], "phase.sin")
        if "amplitude" in parts:
            real = chain.add("Mul", [parts["amplitude"], real], "object.real")
            imaginary = chain.add("Mul", [parts["amplitude"], imaginary], "object.imaginary")
    elif "amplitude" in parts:
        real = parts["amplitude"]
        imaginary = chain.add("Mul", [real, chain.scalar("phase.none", 0)], "object.imaginary")
    else:
        real, imaginary = parts["real"], parts["imaginary"]
    last = chain.axes("complex.axis", -1)
    halves = [
        chain.add("Unsqueeze", [half, last], f"{name}.last")
        for name, half in (("real", real), ("imaginary", imaginary))
    ]
    chain.add("Concat", halves, "object", axis=-1)
