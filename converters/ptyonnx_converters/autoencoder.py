"""Network and forward model as one ONNX graph: from patterns to the object and the predicted patterns.

PtychoPINN stores such a graph as the second model of its bundles. The nodes of the recipe's graph come
first, followed by the physics as products with constant matrices:

    psi_m = P_m o            exit wave of probe mode m
    Psi_m = F psi_m F        F: centred unitary DFT matrix
    amplitude = sqrt(sum_m |Psi_m|^2)

For gridsize > 1 the patches of a group are made consistent first, as in training: they are placed on a
canvas at their positions by linear interpolation, averaged with the probe's intensity as weight, and
extracted again. The positions determine the size of the canvas, so that no patch leaves it.

Complex numbers are pairs of real tensors, and every operator is a standard one. The caller provides the
probe, the DFT matrix and the weights of the average.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from ptyonnx_bundles import IR_VERSION, OPSET, Recipe
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.canonical import build_model

__all__ = ["INPUTS", "OUTPUTS", "Optics", "build_autoencoder"]

INPUTS = ("diffraction", "positions")  # the second only for gridsize > 1
OUTPUTS = ("object", "amplitude")
# `amplitude` names a head of the recipe; in this graph it names the amplitude at the detector.
_RENAMED = {"amplitude": "object.amplitude", "phase": "object.phase"}
_PRODUCER = "ptyonnx"


class Optics(NamedTuple):
    """Constants of the forward model, float32.

    Attributes
    ----------
    probe_real, probe_imag : (mode, N, N), sqrt(photons)
    dft_real, dft_imag : (N, N)
        Symmetric, so that ``F @ x @ F`` transforms both axes.
    overlap_weight : (N, N)
        Weight of each pixel of a patch in the average over a group.
    overlap_floor : float
        Added to the summed weight.
    """

    probe_real: NDArray[np.float32]
    probe_imag: NDArray[np.float32]
    dft_real: NDArray[np.float32]
    dft_imag: NDArray[np.float32]
    overlap_weight: NDArray[np.float32]
    overlap_floor: float


class _Wave(NamedTuple):
    """Names of the real and the imaginary part of a complex value."""

    real: str
    imag: str


def build_autoencoder(
    recipe: Recipe, weights: Mapping[str, NDArray[np.float32]], optics: Optics, metadata: Mapping[str, str]
) -> bytes:
    """Build the graph of network and forward model.

    Parameters
    ----------
    recipe : Recipe
    weights : mapping of str to ndarray
        Canonical name -> float32, whitening included.
    optics : Optics
    metadata : mapping of str to str
        The model's origin, for its `metadata_props`.

    Returns
    -------
    bytes
        Inputs `diffraction` (batch, C, N, N) float32, amplitude, and for gridsize > 1 `positions`
        (batch, C, 2) float32, (y, x) in object pixels; only differences within a group matter. Outputs `object` (batch, C, N, N, 2) float32, real and imaginary part, and `amplitude`
        (batch, C, N, N) float32, sqrt(photons).

    Raises
    ------
    ConversionError
        The weights are not the recipe's, or onnx rejects the graph.
    """
    model = build_model(recipe, weights)
    graph = model.graph
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [_RENAMED.get(name, name) for name in names]
        node.name = _RENAMED.get(node.name, node.name)
    physics = _Physics(graph, optics)
    agreed = _Wave("real", "imaginary")
    if recipe.gridsize > 1:
        agreed = physics.overlap_average(agreed, recipe.N)
    physics.detect(agreed)
    shape: list[str | int | None] = ["batch", recipe.channels, recipe.N, recipe.N]
    graph.name = "autoencoder"
    if recipe.gridsize > 1:
        graph.input.append(_value(INPUTS[1], ["batch", recipe.channels, 2]))
    graph.output.append(_value(OUTPUTS[1], shape))
    complete = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name=_PRODUCER
    )
    onnx.helper.set_model_props(complete, dict(metadata))
    try:
        onnx.checker.check_model(complete, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"not a valid ONNX model: {error}") from error
    serialised: bytes = complete.SerializeToString(deterministic=True)
    return serialised


def _value(name: str, shape: list[str | int | None]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


class _Physics:
    """Append the forward model to a graph; each node has the name of its one output."""

    def __init__(self, graph: onnx.GraphProto, optics: Optics) -> None:
        self.graph = graph
        self.optics = optics

    def detect(self, patch: _Wave) -> None:
        """Compute the amplitude at the detector: illuminate, propagate, sum over modes, take the root."""
        dft = _Wave(self.constant("dft.real", self.optics.dft_real), self.constant("dft.imag", self.optics.dft_imag))
        total = ""
        for mode, (real, imag) in enumerate(zip(self.optics.probe_real, self.optics.probe_imag, strict=True)):
            probe = _Wave(self.constant(f"probe.{mode}.real", real), self.constant(f"probe.{mode}.imag", imag))
            exit_wave = self.product(f"exit.{mode}", "Mul", patch, probe)
            rows = self.product(f"field.{mode}.rows", "MatMul", dft, exit_wave)
            field = self.product(f"field.{mode}", "MatMul", rows, dft)
            squares = [self.node(f"{part}.squared", "Mul", part, part) for part in field]
            intensity = self.node(f"intensity.{mode}", "Add", *squares)
            total = self.node(f"intensity.to.{mode}", "Add", total, intensity) if total else intensity
        self.node(OUTPUTS[1], "Sqrt", total)

    def overlap_average(self, patch: _Wave, N: int) -> _Wave:
        """Average the overlapping patches of each group."""
        weight = self.constant("overlap.weight", self.optics.overlap_weight)
        channel = self.constant("channel.axis", np.array([1], np.int64))
        first = self.node("positions.first", "ReduceMin", INPUTS[1], channel, keepdims=1)
        offset = self.node("offset", "Sub", INPUTS[1], first)
        place_rows, take_rows = self.shifts("rows", offset, 0, N)
        take_columns, place_columns = self.shifts("columns", offset, 1, N)

        def placed(name: str, weighted: str) -> str:
            tall = self.node(f"{name}.placed.rows", "MatMul", place_rows, weighted)
            each = self.node(f"{name}.placed", "MatMul", tall, place_columns)
            return self.node(f"{name}.sum", "ReduceSum", each, channel, keepdims=1)

        floor = self.constant("overlap.floor", np.array(self.optics.overlap_floor, np.float32))
        total = self.node("overlap.total", "Add", placed("overlap", weight), floor)

        def agreed(part: str) -> str:
            name = f"agreed.{part}"
            mean = self.node(
                f"{name}.mean", "Div", placed(name, self.node(f"{name}.weighted", "Mul", part, weight)), total
            )
            taken = self.node(f"{name}.taken.rows", "MatMul", take_rows, mean)
            return self.node(name, "MatMul", taken, take_columns)

        return _Wave(*map(agreed, patch))

    def shifts(self, name: str, offset: str, axis: int, N: int) -> tuple[str, str]:
        """Matrices that place N pixels on the canvas along one axis, (batch, C, canvas, N), and their transposes."""
        canvas = self.node(f"{name}.lattice", "Sub", self.canvas_index(offset, N), self.patch_index(N))
        index = self.constant(f"{name}.axis", np.array(axis, np.int64))
        along = self.node(f"{name}.offset", "Gather", offset, index, axis=2)
        last = self.constant("matrix.axes", np.array([2, 3], np.int64))
        wide = self.node(f"{name}.offset.wide", "Unsqueeze", along, last)
        distance = self.node(f"{name}.distance", "Abs", self.node(f"{name}.difference", "Sub", canvas, wide))
        one = self.constant("one", np.array(1, np.float32))
        hat = self.node(name, "Relu", self.node(f"{name}.height", "Sub", one, distance))
        return hat, self.node(f"{name}.transposed", "Transpose", hat, perm=[0, 1, 3, 2])

    def canvas_index(self, offset: str, N: int) -> str:
        """Index of every canvas pixel, (canvas, 1); the farthest patch determines their number."""
        if self.has("canvas.index"):
            return "canvas.index"
        extent = self.node("canvas.extent", "Ceil", self.node("offset.last", "ReduceMax", offset, keepdims=0))
        size = self.node("canvas.size", "Add", extent, self.constant("patch.size", np.array(N + 1, np.float32)))
        zero = self.constant("zero", np.array(0, np.float32))
        one = self.constant("one", np.array(1, np.float32))
        flat = self.node("canvas.range", "Range", zero, size, one)
        return self.node("canvas.index", "Unsqueeze", flat, self.constant("channel.axis", np.array([1], np.int64)))

    def patch_index(self, N: int) -> str:
        """Index of every patch pixel, (N,)."""
        return self.constant("patch.index", np.arange(N, dtype=np.float32))

    def product(self, name: str, operator: str, a: _Wave, b: _Wave) -> _Wave:
        """Complex product of two values, by Mul or MatMul."""
        parts = {
            f"{p}.{q}": self.node(f"{name}.{p}.{q}", operator, getattr(a, p), getattr(b, q))
            for p in ("real", "imag")
            for q in ("real", "imag")
        }
        real = self.node(f"{name}.real", "Sub", parts["real.real"], parts["imag.imag"])
        return _Wave(real, self.node(f"{name}.imag", "Add", parts["real.imag"], parts["imag.real"]))

    def node(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append one operator."""
        self.graph.node.append(onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, array: NDArray[np.generic]) -> str:
        """Add an initializer unless it exists."""
        if not self.has(name):
            self.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def has(self, name: str) -> bool:
        """Whether a value of this name exists."""
        return any(tensor.name == name for tensor in self.graph.initializer) or any(
            node.name == name for node in self.graph.node
        )
