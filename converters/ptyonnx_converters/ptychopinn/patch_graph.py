"""Building blocks for writing a patch network as ONNX, node by node.

Every node has the name of its one output. `keras_network.py` and `torch_network.py` combine the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ptyonnx_bundles import IR_VERSION, OPSET
from ptyonnx_bundles.errors import ConversionError

__all__ = ["PatchGraph", "checked_weight"]

Weights = NDArray[np.float32]


class PatchGraph:
    """A graph under construction, from its input to its output.

    All values have the shape (batch, channel, y, x). A method appends nodes and returns the name
    of its result, which is the name that it was given.
    """

    INPUT = "diffraction"

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, NDArray[Any]] = {}
        self._names = {self.INPUT}

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an array under a name; a second array of the same name must be equal."""
        kept = self._arrays.setdefault(name, array)
        if kept is not array and not np.array_equal(kept, array):
            raise ConversionError("two weights of one name", key=name)
        return name

    def add(self, operator: str, inputs: tuple[str, ...], name: str, **attributes: Any) -> str:
        """Append one node; its name must be new."""
        if name in self._names:
            raise ConversionError("two layers of one name", key=name)
        self._names.add(name)
        self._nodes.append(onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def conv(self, value: str, kernel: Weights, bias: Weights | None, name: str) -> str:
        """Convolve with stride 1 and the output size of the input.

        Parameters
        ----------
        value : str
        kernel : (out, in, y, x) float32
            Of odd height and width.
        bias : (out,) float32 or None
        name : str
        """
        _, _, height, width = kernel.shape
        pads = [height // 2, width // 2, height // 2, width // 2]
        inputs = [value, self.constant(f"{name}.weight", kernel)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        return self.add("Conv", tuple(inputs), name, kernel_shape=[height, width], pads=pads)

    def activate(self, value: str, activation: str, name: str, scale: float = 1.0) -> str:
        """Apply relu, sigmoid, silu, softplus or tanh, then multiply by a scale."""
        if activation == "silu":
            result = self.add("Mul", (value, self.add("Sigmoid", (value,), f"{name}.gate")), name)
        else:
            operator = {"relu": "Relu", "sigmoid": "Sigmoid", "softplus": "Softplus", "tanh": "Tanh"}[activation]
            result = self.add(operator, (value,), name if scale == 1 else f"{name}.squashed")
        if scale == 1:
            return result
        factor = self.constant(f"{name}.scale", np.asarray(scale, np.float32))
        return self.add("Mul", (result, factor), name)

    def pool(self, value: str, name: str) -> str:
        """Pool the maximum of every 2 x 2 pixels."""
        return self.add("MaxPool", (value,), name, kernel_shape=[2, 2], strides=[2, 2])

    def upsample(self, value: str, name: str) -> str:
        """Repeat every pixel 2 x 2 times."""
        scales = self.constant("upsample.scales", np.array([1, 1, 2, 2], np.float32))
        return self.add(
            "Resize", (value, "", scales), name, mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def channels(self, value: str, first: int, last: int, name: str) -> str:
        """Take channels `first` to `last - 1`."""
        bounds = [self.constant(f"index.{index}", np.array([index], np.int64)) for index in (first, last, 1)]
        return self.add("Slice", (value, *bounds), name)

    def pad(self, value: str, before: tuple[int, int], after: tuple[int, int], name: str) -> str:
        """Surround with zeros; (y, x) pixels before and after."""
        widths = np.array([0, 0, *before, 0, 0, *after], np.int64)
        return self.add("Pad", (value, self.constant(f"{name}.widths", widths)), name, mode="constant")

    def to_object(self, amplitude: str, phase: str, copies: int = 1) -> None:
        """Combine `amplitude` and `phase` into the output `object`; one of them may have a single channel.

        Parameters
        ----------
        amplitude, phase : str
        copies : int
            Number of repetitions of a single channel, so that every pattern has a patch.
        """
        amplitude, phase = (
            value if value == name else self.add("Identity", (value,), name)
            for value, name in ((amplitude, "amplitude"), (phase, "phase"))
        )
        cos, sin = self.add("Cos", (phase,), "phase.cos"), self.add("Sin", (phase,), "phase.sin")
        axis = self.constant("complex.axis", np.array([-1], np.int64))
        parts = []
        for name, factor in (("real", cos), ("imaginary", sin)):
            part = self.add("Mul", (amplitude, factor), name)
            if copies > 1:
                part = self.add("Concat", (part,) * copies, f"{name}.repeated", axis=1)
            parts.append(self.add("Unsqueeze", (part, axis), f"{name}.last"))
        self.add("Concat", tuple(parts), "object", axis=-1)

    def finish(self, N: int, channels: int, name: str) -> bytes:
        """Check operators, types and shapes with onnx, and serialise.

        Parameters
        ----------
        N : int
        channels : int
            Patterns per group, and patches.
        name : str
            Of the graph.

        Raises
        ------
        ConversionError
            The layers do not fit each other or the bundle's interface.
        """
        used = {value for node in self._nodes for value in node.input}
        shape: list[str | int | None] = ["batch", channels, N, N]
        graph = onnx.helper.make_graph(
            self._nodes,
            name,
            [onnx.helper.make_tensor_value_info(self.INPUT, onnx.TensorProto.FLOAT, shape)],
            [onnx.helper.make_tensor_value_info("object", onnx.TensorProto.FLOAT, [*shape, 2])],
            [_tensor(name, array) for name, array in self._arrays.items() if name in used],
        )
        opsets = [onnx.helper.make_opsetid("", OPSET)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ptyonnx")
        try:
            onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
            raise ConversionError(f"the layers do not fit each other: {error}", key=name) from error
        serialised: bytes = model.SerializeToString(deterministic=True)
        return serialised


def _tensor(name: str, array: NDArray[Any]) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)


def checked_weight(
    weights: Mapping[str, NDArray[Any]], name: str, shape: tuple[int | None, ...], file: Path, *, empty: bool = False
) -> Weights:
    """Return one weight after checking that its shape fits the neighbouring layers.

    Parameters
    ----------
    weights : mapping of str to ndarray
    name : str
    shape : tuple of int or None
        None stands for any length.
    file : Path
        Named in errors.
    empty : bool
        Whether an axis may have length 0.

    Returns
    -------
    ndarray of float32

    Raises
    ------
    ConversionError
        Missing, of another shape or dtype, or not finite.
    """
    array = weights.get(name)
    if array is None:
        raise ConversionError("a weight is missing", file=file, key=name)
    fits = array.ndim == len(shape) and all(
        wanted in {None, length} for wanted, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != np.float32 or not fits:
        expected = ", ".join("?" if length is None else str(length) for length in shape)
        raise ConversionError(
            "a weight of the wrong shape or dtype", file=file, key=name,
            found=f"{array.dtype} {array.shape}", expected=f"float32 ({expected})",
        )  # fmt: skip
    if 0 in array.shape and not empty:
        raise ConversionError("an empty weight", file=file, key=name, found=array.shape)
    if not np.isfinite(array).all():
        raise ConversionError("NaN or infinity in a weight", file=file, key=name, remedy="train the network again")
    return array
