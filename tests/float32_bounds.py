"""How far correct float32 implementations may be from the exact value: one derivation for all numerical tests.

Which kernel runs depends on the processor: it decides in which order products are summed, whether a product and a sum
are fused, how a sine is approximated, and, near a rectifier's threshold or a pooling tie, which branch is taken. A
tolerance that was measured on one processor holds on that one. These follow from depth, number of terms and dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ptyonnx.comparison.rounding import MARGIN, UNIT_ROUNDOFF
from ptyonnx_bundles import Recipe

_SUMS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
FUNCTION_UNITS = 16  # units of roundoff: what vectorised tanh, sigmoid, sine, cosine and exponential are off by


def of_sums(*terms: int, size: float = 1.0) -> float:
    """Tolerance of a value behind sums of so many products each, one layer after the other.

    The n roundings of a sum wander like a random walk, errors of independent layers add in squares:
    ``MARGIN u sqrt(sum(n + 1)) size``, see :mod:`ptyonnx.comparison.rounding`.

    Parameters
    ----------
    terms : int
        Of each sum: fan-in of a convolution, 2 N for a Fourier transform as a matrix product along one axis.
    size : float
        Largest magnitude of the partial sums.
    """
    return MARGIN * UNIT_ROUNDOFF * math.sqrt(sum(count + 1 for count in terms)) * size


def of_functions(size: float = 1.0) -> float:
    """Tolerance of a function of the mathematical library times a factor, of magnitude `size`: no statistics, a bound."""
    return (FUNCTION_UNITS + 1) * UNIT_ROUNDOFF * size


def of_network(
    recipe: Recipe, weights: Mapping[str, NDArray[Any]], diffraction: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Exact value of every layer, and how far float32 may be from it, absolutely.

    As `ptyonnx parity` derives it: the network runs in float64, and again with the errors that float32 makes at each
    operator; how far these runs scatter, times 4, is the tolerance.

    Parameters
    ----------
    recipe : Recipe
    weights : mapping of str to ndarray
        Canonical names, whitening included.
    diffraction : (B, C, N, N) float32

    Returns
    -------
    dict of str to ndarray
        Canonical name -> value in float64.
    dict of str to float
        Canonical name -> largest difference.
    """
    from ptyonnx.comparison.parity.network import Network
    from ptyonnx.comparison.parity.rounding import Float32
    from ptyonnx.comparison.parity.tolerances import SAFETY, SAMPLES

    network = Network(recipe, weights)
    exact = network.forward(diffraction).values
    allowed = {name: 2 * UNIT_ROUNDOFF * float(np.abs(value).max(initial=0)) for name, value in exact.items()}
    for seed in range(SAMPLES):
        for name, value in network.forward(diffraction, Float32(seed)).values.items():
            allowed[name] = max(allowed[name], SAFETY * float(np.abs(value - exact[name]).max(initial=0)))
    return exact, allowed


def of_model(
    run: Callable[[bytes], Mapping[str, NDArray[Any]]], model: bytes
) -> tuple[Mapping[str, NDArray[Any]], dict[str, float]]:
    """What an ONNX network without a recipe gives, and how far float32 may be from it, absolutely.

    Rounding the n products and sums of a layer errs by as much, on average, as weights that are each off by
    ``u sqrt(n / 6)`` of their value (see `ptyonnx.comparison.parity.rounding`). The network runs with such weights, and
    how far its outputs scatter, times 4, is the tolerance; it follows from depth, fan-in, and how the network
    amplifies errors. What a sigmoid or tanh errs at the end comes on top (`of_functions`).

    Parameters
    ----------
    run : callable
        ONNX model -> name of an output -> value.
    model : bytes

    Returns
    -------
    mapping of str to ndarray
        The outputs of the model as it is.
    dict of str to float
        Name of an output -> largest difference from the exact value.
    """
    from ptyonnx.comparison.parity.rounding import deviation
    from ptyonnx.comparison.parity.tolerances import SAFETY, SAMPLES

    found = run(model)
    allowed = dict.fromkeys(found, 0.0)
    for seed in range(SAMPLES):
        generator, rounded = np.random.default_rng(seed), onnx.load_from_string(model)
        readers = {name: node.op_type for node in rounded.graph.node for name in node.input}
        for weight in rounded.graph.initializer:
            operator = readers.get(weight.name, "")
            if operator in _SUMS and weight.data_type == onnx.TensorProto.FLOAT:
                array = numpy_helper.to_array(weight).astype(np.float64)
                error = deviation(_terms(operator, array.shape))
                array = array * (1 + error * generator.standard_normal(array.shape))
                weight.CopyFrom(numpy_helper.from_array(array.astype(np.float32), weight.name))
        for name, value in run(rounded.SerializeToString()).items():
            allowed[name] = max(allowed[name], SAFETY * float(np.abs(value - found[name]).max()))
    return found, allowed


def _terms(operator: str, shape: tuple[int, ...]) -> int:
    """How many products a layer sums with a weight of this shape, and its bias."""
    if operator == "ConvTranspose":
        return shape[0] * math.prod(shape[2:]) + 1
    return max(shape) + 1 if operator in {"MatMul", "Gemm"} else math.prod(shape[1:]) + 1
