"""Free the batch of a graph that was exported for a fixed number of patterns.

A graph that was exported for eight patterns contains the number eight in the shape of its input, in
Reshape, Expand and Resize, and in tokens. One pass over the nodes infers every shape for eight and for
sixteen patterns and finds the batch axis of every value (`batch_axis.py`). A constant shape that should
scale with the batch is replaced by one that does. `equivalence.py` then checks the result numerically:
the freed graph runs on other numbers of patterns and must compute the same as the original.

Why not leave the batch fixed and pad, as `reference_run.py` does? The bundle's interface has a free
batch, so every reader of the format would have to pad. Padding also delays single patterns: on 2 cores a
network of PtychoNN's architecture (N = 64) takes 110 ms for a batch of 64 and 1.7 ms for one pattern, so
that a pattern in a file with a fixed batch of 64 would take 66 times as long. In a file with a fixed batch
of 1, a long scan costs this network nothing more (1.9 ms per pattern either way), and a vision transformer
(6 blocks, width 256) 26 % more (2.57 instead of 2.04 ms per pattern).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ptyonnx_bundles import OPSET
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.batch_axis import BatchAxis, Shape, propagate, propagate_reshape
from ptyonnx_converters.foreign.batch_constants import BROADCASTING, fold_constants, repeat_over_batch, shared_part
from ptyonnx_converters.foreign.shape_inference import Value, constant_value, infer_outputs
from ptyonnx_converters.foreign.simplify import ORIGINAL_PREFIX

__all__ = ["free_batch"]


def free_batch(model: onnx.ModelProto, batch: int, file: str) -> onnx.ModelProto:
    """Make the first axis of the one input free, and every shape that follows from it.

    Parameters
    ----------
    model : ModelProto
        From `simplify`, with one input of known size along every axis.
    batch : int
        The number of patterns for which it was exported.
    file : str
        Named in errors.

    Raises
    ------
    ConversionError
        The batch cannot be separated from another axis at some operator.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    fold_constants(result)
    walk = _Walk(result.graph, batch, file)
    nodes = list(result.graph.node)
    del result.graph.node[:]
    for node in nodes:
        result.graph.node.extend(walk.free_node(node))
    first = result.graph.input[0].type.tensor_type.shape.dim[0]
    first.Clear()
    first.dim_param = "batch"
    for value in result.graph.output:
        value.type.tensor_type.ClearField("shape")
    return result


class _Walk:
    """What is known about every value so far, for the batch of the file and for twice that batch."""

    def __init__(self, graph: onnx.GraphProto, batch: int, file: str) -> None:
        self._graph, self._batch, self._file = graph, batch, file
        self._source = graph.input[0].name
        kind = graph.input[0].type.tensor_type
        shape = tuple(axis.dim_value for axis in kind.shape.dim)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._single = {name: constant_value(tensor) for name, tensor in self._constants.items()}
        self._double = dict(self._single)
        self._axes = {self._source: BatchAxis(0)}
        self._single[self._source] = Value(kind.elem_type, shape)
        self._double[self._source] = Value(kind.elem_type, BatchAxis(0).double_shape(shape))

    def free_node(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the node, valid for any number of patterns, preceded by the nodes that it needs."""
        single = self._infer(node, self._single)
        added = []
        if any(name in self._axes for name in node.input):
            added = list(self._share_constants(node))
            if node.op_type == "Reshape":
                self._free_reshape(node, single[node.output[0]])
            elif node.op_type == "Expand":
                self._free_expand(node)
            elif node.op_type == "Resize":
                self._free_resize(node)
        self._single |= single
        double = self._infer(node, self._double)
        self._double |= double
        for name, value in single.items():
            batch_axis = self._batch_axis(node, value.shape, double[name].shape)
            if batch_axis is not None:
                self._axes[name] = batch_axis
        return [*added, node]

    def _infer(self, node: onnx.NodeProto, known: Mapping[str, Value]) -> dict[str, Value]:
        found = infer_outputs(node, known, OPSET)
        if any(name and name not in found for name in node.output):
            raise self._fixed(node, "accepts no other number of patterns")
        return found

    def _batch_axis(self, node: onnx.NodeProto, single: Shape, double: Shape) -> BatchAxis | None:
        """Find the batch axis of an output of a node."""
        if single == double:
            return None
        if len(single) != len(double):
            raise self._fixed(node, "accepts no other number of patterns")
        value = node.input[0]
        if node.op_type in ("Flatten", "Reshape") and value in self._axes:
            batch_axis = propagate_reshape(self._single[value].shape, self._axes[value], single, self._batch)
            if batch_axis is not None and batch_axis.double_shape(single) == double:
                return batch_axis
        inputs = [(self._single[name].shape, self._axes[name]) for name in node.input if name in self._axes]
        return propagate(single, double, inputs, self._batch)

    def _free_reshape(self, node: onnx.NodeProto, target: Value) -> None:
        """Make the batch axis of a constant target shape free."""
        value, wanted = node.input[:2]
        if not np.array_equal(self._numbers(self._single[wanted]), self._numbers(self._double[wanted])):
            return  # the target shape already depends on the number of patterns
        batch_axis = propagate_reshape(self._single[value].shape, self._axes[value], target.shape, self._batch)
        if batch_axis is None:
            raise self._fixed(node, "mixes it with other axes", f"{self._single[value].shape} to {target.shape}")
        found = infer_outputs(node, self._double, OPSET).get(node.output[0])
        if found is not None and found.shape == batch_axis.double_shape(target.shape):
            return
        self._replace(node, 1, np.array(batch_axis.free_shape(target.shape), np.int64))
        for attribute in [attribute for attribute in node.attribute if attribute.name == "allowzero"]:
            node.attribute.remove(attribute)

    def _free_expand(self, node: onnx.NodeProto) -> None:
        """Do not expand the batch axis of a value that already has the full batch."""
        value, wanted = node.input[:2]
        numbers, shape = self._numbers(self._single[wanted]), self._single[value].shape
        axis = self._axes[value].axis - len(shape) + len(numbers) if value in self._axes else -1
        if axis >= 0 and numbers[axis] == shape[self._axes[value].axis]:
            self._replace(node, 1, np.array([1 if index == axis else size for index, size in enumerate(numbers)]))

    def _free_resize(self, node: onnx.NodeProto) -> None:
        """Resize only the other axes; the batch keeps its size."""
        if len(node.input) < 4 or any(attribute.name == "axes" for attribute in node.attribute):
            return
        numbers, batch_axis = self._numbers(self._single[node.input[3]]), self._axes.get(node.input[0])
        if batch_axis is None or not len(numbers) or (node.input[1] and self._single[node.input[1]].shape != (0,)):
            return
        axes = [axis for axis in range(len(numbers)) if axis != batch_axis.axis]
        self._replace(node, 3, np.array([numbers[axis] for axis in axes], np.int64))
        node.attribute.append(helper.make_attribute("axes", axes))

    def _share_constants(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Replace constants that repeat one part for every pattern by that part, repeated at run time."""
        like = next(name for name in node.input if name in self._axes)
        shape, batch_axis = self._single[like].shape, self._axes[like]
        for position, name in enumerate(node.input):
            if name not in self._constants:
                continue
            array = numpy_helper.to_array(self._constants[name])
            own = BatchAxis(batch_axis.axis - len(shape) + array.ndim, batch_axis.inner)
            if own.axis < 0 or array.shape[own.axis] != shape[batch_axis.axis]:
                continue
            joined = node.op_type == "Concat" and helper.get_node_attr_value(node, "axis") % array.ndim != own.axis
            if node.op_type not in BROADCASTING and not joined and (node.op_type != "GridSample" or own.axis):
                continue
            if array.shape[own.axis] == 1 and not joined and node.op_type in BROADCASTING:
                continue  # broadcasting repeats it
            part = shared_part(array, own, self._batch)
            if part is None:
                continue  # patterns have different parts; a later check refuses the graph
            if node.op_type in BROADCASTING and array.shape[own.axis] == self._batch:
                self._replace(
                    node,
                    position,
                    part.reshape([1 if axis == own.axis else size for axis, size in enumerate(array.shape)]),
                )
                continue
            nodes, arrays = repeat_over_batch(f"{node.name}.row{position}", part, array.shape, own, self._source)
            for key, each in arrays.items():
                self._add(key, each)
            for each in nodes:
                self._single |= self._infer(each, self._single)
                self._double |= self._infer(each, self._double)
                yield each
            node.input[position] = nodes[-1].output[0]

    def _numbers(self, value: Value) -> NDArray[Any]:
        return np.zeros(0, np.int64) if value.numbers is None else value.numbers

    def _add(self, name: str, array: NDArray[Any]) -> None:
        tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
        self._graph.initializer.append(tensor)
        self._constants[name] = tensor
        self._single[name] = self._double[name] = constant_value(tensor)

    def _replace(self, node: onnx.NodeProto, position: int, array: NDArray[Any]) -> None:
        """Replace one input of a node by a new constant; `add_io_adapters` drops the old one if it is unused."""
        name = f"{node.name}.constant{position}"
        self._add(name, array)
        node.input[position] = name

    def _fixed(self, node: onnx.NodeProto, problem: str, found: object = None) -> ConversionError:
        article = "an" if node.op_type[0] in "AEIOU" else "a"
        return ConversionError(
            f"the batch is fixed at {self._batch}: {article} {node.op_type} {problem}", file=self._file,
            key=node.name.removeprefix(ORIGINAL_PREFIX), found=found, remedy="export the network with a dynamic batch",
        )  # fmt: skip
