"""Free the batch of a graph that was exported for a fixed number of patterns.

What an exporter wrote for eight patterns holds the eight in shapes: of the input, of Reshape, Expand
and Resize, of tokens. The graph is walked through once, from the input on, for eight patterns and for
sixteen side by side, and it is known of every value where in it the batch lies (`batch_place.py`).
Where a shape has to follow the batch and does not, it is made to. Whether that was right is not
argued but measured afterwards (`proof.py`): the freed graph runs on other numbers of patterns and
must give each pattern what the original gives.
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
from ptyonnx_converters.foreign.batch_constants import BROADCASTING, fold, once, spread
from ptyonnx_converters.foreign.shape_inference import Value, constant_value, infer_outputs
from ptyonnx_converters.foreign.simplify import ORIGINAL_PREFIX

__all__ = ["free_batch"]


def free_batch(model: onnx.ModelProto, batch: int, file: str) -> onnx.ModelProto:
    """Make the first axis of the one input free, and every shape that follows from it.

    Parameters
    ----------
    model : ModelProto
        As `plain` leaves it, with one input, all of whose axes have a size.
    batch : int
        The number of patterns that it was exported for.
    file : str
        Named in errors.

    Raises
    ------
    ConversionError
        An operator that holds the batch and something else, inseparably.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    fold(result)
    walk = _Walk(result.graph, batch, file)
    nodes = list(result.graph.node)
    del result.graph.node[:]
    for node in nodes:
        result.graph.node.extend(walk.freed(node))
    first = result.graph.input[0].type.tensor_type.shape.dim[0]
    first.Clear()
    first.dim_param = "batch"
    for value in result.graph.output:
        value.type.tensor_type.ClearField("shape")
    return result


class _Walk:
    """What is known about every value so far, for the batch of the file and for twice as many patterns."""

    def __init__(self, graph: onnx.GraphProto, batch: int, file: str) -> None:
        self._graph, self._batch, self._file = graph, batch, file
        self._source = graph.input[0].name
        kind = graph.input[0].type.tensor_type
        shape = tuple(axis.dim_value for axis in kind.shape.dim)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._few = {name: constant_value(tensor) for name, tensor in self._constants.items()}
        self._many = dict(self._few)
        self._places = {self._source: BatchAxis(0)}
        self._few[self._source] = Value(kind.elem_type, shape)
        self._many[self._source] = Value(kind.elem_type, BatchAxis(0).many(shape))

    def freed(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The node as it is for any number of patterns, and what it needs in front of it."""
        few = self._made(node, self._few)
        added = []
        if any(name in self._places for name in node.input):
            added = list(self._rows(node))
            if node.op_type == "Reshape":
                self._free_reshape(node, few[node.output[0]])
            elif node.op_type == "Expand":
                self._free_expand(node)
            elif node.op_type == "Resize":
                self._free_resize(node)
        self._few |= few
        many = self._made(node, self._many)
        self._many |= many
        for name, value in few.items():
            place = self._place(node, value.shape, many[name].shape)
            if place is not None:
                self._places[name] = place
        return [*added, node]

    def _made(self, node: onnx.NodeProto, known: Mapping[str, Value]) -> dict[str, Value]:
        found = infer_outputs(node, known, OPSET)
        if any(name and name not in found for name in node.output):
            raise self._fixed(node, "takes no other number of patterns")
        return found

    def _place(self, node: onnx.NodeProto, few: Shape, many: Shape) -> BatchAxis | None:
        """Where the batch lies in what a node gives."""
        if few == many:
            return None
        if len(few) != len(many):
            raise self._fixed(node, "takes no other number of patterns")
        value = node.input[0]
        if node.op_type in ("Flatten", "Reshape") and value in self._places:
            place = propagate_reshape(self._few[value].shape, self._places[value], few, self._batch)
            if place is not None and place.many(few) == many:
                return place
        inputs = [(self._few[name].shape, self._places[name]) for name in node.input if name in self._places]
        return propagate(few, many, inputs, self._batch)

    def _free_reshape(self, node: onnx.NodeProto, target: Value) -> None:
        """Give a shape of fixed numbers a free axis where the batch comes to lie."""
        value, wanted = node.input[:2]
        if not np.array_equal(self._numbers(self._few[wanted]), self._numbers(self._many[wanted])):
            return  # it is computed from the number of patterns already
        place = propagate_reshape(self._few[value].shape, self._places[value], target.shape, self._batch)
        if place is None:
            raise self._fixed(node, "mixes it with other axes", f"{self._few[value].shape} to {target.shape}")
        found = infer_outputs(node, self._many, OPSET).get(node.output[0])
        if found is not None and found.shape == place.many(target.shape):
            return
        self._replace(node, 1, np.array(place.free(target.shape), np.int64))
        for attribute in [attribute for attribute in node.attribute if attribute.name == "allowzero"]:
            node.attribute.remove(attribute)

    def _free_expand(self, node: onnx.NodeProto) -> None:
        """What has the batch already need not be given it."""
        value, wanted = node.input[:2]
        numbers, shape = self._numbers(self._few[wanted]), self._few[value].shape
        axis = self._places[value].axis - len(shape) + len(numbers) if value in self._places else -1
        if axis >= 0 and numbers[axis] == shape[self._places[value].axis]:
            self._replace(node, 1, np.array([1 if index == axis else size for index, size in enumerate(numbers)]))

    def _free_resize(self, node: onnx.NodeProto) -> None:
        """Sizes are given of all axes; the batch keeps its own."""
        if len(node.input) < 4 or any(attribute.name == "axes" for attribute in node.attribute):
            return
        numbers, place = self._numbers(self._few[node.input[3]]), self._places.get(node.input[0])
        if place is None or not len(numbers) or (node.input[1] and self._few[node.input[1]].shape != (0,)):
            return
        axes = [axis for axis in range(len(numbers)) if axis != place.axis]
        self._replace(node, 3, np.array([numbers[axis] for axis in axes], np.int64))
        node.attribute.append(helper.make_attribute("axes", axes))

    def _rows(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Keep once what a constant beside the patterns holds for each of them."""
        like = next(name for name in node.input if name in self._places)
        shape, place = self._few[like].shape, self._places[like]
        for position, name in enumerate(node.input):
            if name not in self._constants:
                continue
            array = numpy_helper.to_array(self._constants[name])
            own = BatchAxis(place.axis - len(shape) + array.ndim, place.inner)
            if own.axis < 0 or array.shape[own.axis] != shape[place.axis]:
                continue
            joined = node.op_type == "Concat" and helper.get_node_attr_value(node, "axis") % array.ndim != own.axis
            if node.op_type not in BROADCASTING and not joined and (node.op_type != "GridSample" or own.axis):
                continue
            if array.shape[own.axis] == 1 and not joined and node.op_type in BROADCASTING:
                continue  # it spreads by itself
            part = once(array, own, self._batch)
            if part is None:
                continue  # every pattern has its own; the walk, or the proof, says so
            if node.op_type in BROADCASTING and array.shape[own.axis] == self._batch:
                self._replace(
                    node,
                    position,
                    part.reshape([1 if axis == own.axis else size for axis, size in enumerate(array.shape)]),
                )
                continue
            nodes, arrays = spread(f"{node.name}.row{position}", part, array.shape, own, self._source)
            for key, each in arrays.items():
                self._add(key, each)
            for each in nodes:
                self._few |= self._made(each, self._few)
                self._many |= self._made(each, self._many)
                yield each
            node.input[position] = nodes[-1].output[0]

    def _numbers(self, value: Value) -> NDArray[Any]:
        return np.zeros(0, np.int64) if value.numbers is None else value.numbers

    def _add(self, name: str, array: NDArray[Any]) -> None:
        tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
        self._graph.initializer.append(tensor)
        self._constants[name] = tensor
        self._few[name] = self._many[name] = constant_value(tensor)

    def _replace(self, node: onnx.NodeProto, position: int, array: NDArray[Any]) -> None:
        """Give a node a constant of its own; `add_io_adapters` drops the old one if nobody uses it."""
        name = f"{node.name}.constant{position}"
        self._add(name, array)
        node.input[position] = name

    def _fixed(self, node: onnx.NodeProto, problem: str, found: object = None) -> ConversionError:
        article = "an" if node.op_type[0] in "AEIOU" else "a"
        return ConversionError(
            f"the batch is fixed at {self._batch}: {article} {node.op_type} {problem}", file=self._file,
            key=node.name.removeprefix(ORIGINAL_PREFIX), found=found, remedy="export the network with a dynamic batch",
        )  # fmt: skip
