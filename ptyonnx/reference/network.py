"""The recipe's network in float64 NumPy: every activation of the forward pass, every gradient of the backward pass.

The nodes of `Recipe.nodes()` are computed in order, each under its canonical name. The reference therefore follows the
published graph and no implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.reference import layers
from ptyonnx.reference.gradient_rounding import sum_error
from ptyonnx.reference.simulated_rounding import EXACT, Rounding
from ptyonnx_bundles import Node, Recipe
from ptyonnx_bundles.recipe import KERNEL

__all__ = ["FUNCTION_TERMS", "ForwardPass", "Network", "branches_of", "compute", "fan_in"]

Array = NDArray[np.float64]

FUNCTION_TERMS = 16  # sqrt(16) u is the error of vectorised float32 tanh, sigmoid, sine and cosine
_ONE_ROUNDING = 1
_RECTIFIERS = frozenset({"Relu", "LeakyRelu"})
# These select, copy, or multiply by a power of two, without rounding.
_EXACT_OPERATORS = frozenset({"Relu", "LeakyRelu", "MaxPool", "Resize", "Unsqueeze", "Concat"})


@dataclass
class ForwardPass:
    """One forward pass.

    Attributes
    ----------
    values : dict of str to ndarray
        `diffraction` and every node's value by canonical name, in order of computation.
    """

    values: dict[str, Array] = field(default_factory=dict)

    @property
    def object(self) -> NDArray[np.complex128]:
        """(B, C, N, N): the complex transmission."""
        return self.values["real"] + 1j * self.values["imaginary"]


class Network:
    """The network of a recipe with given weights.

    Parameters
    ----------
    recipe : Recipe
    weights : mapping of str to ndarray
        Canonical name -> array, whitening included; converted to float64.
    """

    def __init__(self, recipe: Recipe, weights: Mapping[str, NDArray[Any]]) -> None:
        self.recipe = recipe
        self.nodes = recipe.nodes()
        self.constants = {
            name: np.asarray(array, np.float64) for name, array in {**recipe.graph_constants(), **weights}.items()
        }

    def forward(self, diffraction: NDArray[Any], rounding: Rounding = EXACT) -> ForwardPass:
        """Compute the object and all activations.

        Parameters
        ----------
        diffraction : (B, C, N, N)
            Amplitude.
        rounding : Rounding
        """
        done = ForwardPass({"diffraction": np.asarray(diffraction, np.float64)})
        for node in self.nodes:
            inputs = [done.values.get(name, self.constants.get(name)) for name in node.inputs]
            value = compute(node, inputs)
            if node.operator not in _EXACT_OPERATORS:
                spread = None if node.operator == "Conv" else 0.0
                value = rounding.result(value, fan_in(node, inputs), spread)
            done.values[node.name] = value
        return done

    def backward(
        self,
        done: ForwardPass,
        slope: NDArray[np.complex128],
        rounding: Rounding = EXACT,
        branches: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, Array]:
        """Gradient of every trained weight.

        Parameters
        ----------
        done : ForwardPass
            From :meth:`forward`.
        slope : (B, C, N, N) complex128
            Derivative of the loss by the object's real part, plus i times that by its imaginary part.
        rounding : Rounding
        branches : mapping of str to ndarray, optional
            Branches of every ReLU and pooling, see :func:`branches_of`; by default those of `done`.

        Returns
        -------
        dict of str to ndarray
            Canonical name of the weight -> gradient, in the order of the backward pass.
        """
        values = done.values
        of_amplitude = slope.real * values["phase.cos"] + slope.imag * values["phase.sin"]
        of_phase = values["amplitude"] * (slope.imag * values["phase.cos"] - slope.real * values["phase.sin"])
        sigmoid, tanh = values["amplitude.squashed"], values["phase.squashed"]
        of_logits = {
            "amplitude": of_amplitude * self.constants["amplitude.maximum"] * sigmoid * (1 - sigmoid),
            "phase": of_phase * self.constants["phase.maximum"] * (1 - tanh**2),
        }
        gradients: dict[str, Array] = {}
        slopes: dict[str, Array] = {
            f"decoder.{head}.output": rounding.result(logits, FUNCTION_TERMS, 0.0) for head, logits in of_logits.items()
        }
        selected = branches or branches_of(self.recipe, values)
        for node in reversed(self.nodes):
            if node.name not in slopes:
                continue
            steepness, source = slopes.pop(node.name), node.inputs[0]
            if node.operator in _RECTIFIERS:
                steepness = steepness * np.where(selected[node.name], 1.0, self.recipe.leak)
            elif node.operator == "MaxPool":
                steepness = layers.pool_backwards(steepness, selected[node.name])
            else:
                steepness = self._backward(node, steepness, values[source], gradients, rounding)
            if source.startswith(("encoder.", "decoder.")):
                slopes[source] = slopes[source] + steepness if source in slopes else steepness
        return gradients

    def _backward(
        self, node: Node, slope: Array, value: Array, gradients: dict[str, Array], rounding: Rounding
    ) -> Array:
        """Gradient by the input of an upsampling or a convolution; adds the gradients by its weights."""
        if node.operator == "Resize":
            return rounding.result(layers.upsample_backwards(slope), 4)
        kernel = self.constants[node.inputs[1]]
        into, of_kernel, of_bias = layers.convolution_backwards(slope, value, kernel)
        gradients[node.inputs[1]] = rounding.pixel_sum(of_kernel, lambda: sum_error(of_kernel, slope, value))
        gradients[node.inputs[2]] = rounding.pixel_sum(of_bias, lambda: sum_error(of_bias, slope, None))
        return rounding.result(into, KERNEL * KERNEL * len(kernel))


def branches_of(recipe: Recipe, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Branches of a forward pass: which ReLU inputs are positive, and which pixel each pooling selects.

    Parameters
    ----------
    recipe : Recipe
    values : mapping of str to ndarray
        Canonical name -> value, of any implementation.

    Returns
    -------
    dict of str to ndarray
        For a ReLU bool; for a pooling the index of the selected pixel in its block, the first of equal ones.
    """
    selected: dict[str, NDArray[Any]] = {}
    for node in recipe.nodes():
        if node.operator in _RECTIFIERS:
            selected[node.name] = values[node.name] > 0
        elif node.operator == "MaxPool":
            selected[node.name] = layers.pooled_pixel(values[node.inputs[0]])
    return selected


def compute(node: Node, inputs: list[Any]) -> Array:
    """Compute one node of the canonical graph in float64."""
    value = inputs[0]
    operators: dict[str, Callable[[], Array]] = {
        "Conv": lambda: layers.convolution(*inputs),
        "MaxPool": lambda: layers.pool(value),
        "Sub": lambda: value - inputs[1],
        "Mul": lambda: value * inputs[1],
        "Relu": lambda: np.maximum(value, 0),
        "LeakyRelu": lambda: np.where(value > 0, value, dict(node.attributes)["alpha"] * value),
        "Resize": lambda: layers.upsample(value),
        "Sigmoid": lambda: 1 / (1 + np.exp(-value)),
        "Tanh": lambda: np.tanh(value),
        "Cos": lambda: np.cos(value),
        "Sin": lambda: np.sin(value),
        "Unsqueeze": lambda: value[..., np.newaxis],
        "Concat": lambda: np.concatenate(inputs, axis=-1),
    }
    return operators[node.operator]()


def fan_in(node: Node, inputs: list[Any]) -> int:
    """Number of products that are summed for each element of a node's value."""
    if node.operator == "Conv":
        return int(np.prod(inputs[1].shape[1:])) + 1
    return FUNCTION_TERMS if node.operator in {"Sigmoid", "Tanh", "Cos", "Sin"} else _ONE_ROUNDING
