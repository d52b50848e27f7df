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

from ptyonnx.reference.analytic_tolerances import MARGIN, UNIT_ROUNDOFF
from ptyonnx_bundles import Recipe

_SUMS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
FUNCTION_UNITS = 16  # units of roundoff: what vectorised tanh, sigmoid, sine, cosine and exponential are off by


def of_sums(*terms: int, size: float = 1.0) -> float:
    """Tolerance of a value behind sums of so many products each, one layer after the other.

    The n roundings of a sum wander like a random walk, errors of independent layers add in squares:
    ``MARGIN u sqrt(sum(n + 1)) size``, see :mod:`ptyonnx.reference.analytic_tolerances`.

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


def of_roundings(count: int, size: float = 1.0) -> float:
    """Tolerance of a value of magnitude `size` behind so many roundings, one after the other: no statistics, a bound."""
    return count * UNIT_ROUNDOFF * size


def of_polar(amplitude: float = 1.0, phase_rad: float = 0.0) -> float:
    """Tolerance of amplitude times exp(i phase), computed twice: sine, cosine, and two roundings of the phase each."""
    return 2 * amplitude * (math.sqrt(2) * of_functions() + of_roundings(2, phase_rad))


def of_losses(terms: int) -> float:
    """Relative tolerance between the first losses of two implementations: that of the mean over detector pixels.

    The narrowest vectors of float32 have 4 lanes. Each adds up a quarter of the terms, partial sums grow evenly (a third
    of the squares), and errors of lanes are independent: ``of_sums(terms) / (4 sqrt(3))``, twice. What comes before the
    mean is averaged by it: float64 runs with the errors of float32 (`of_network`, then forward model and loss) scatter
    by less than 5e-7 of the loss, for every loss. While the rate warms up, Adam's steps add nothing to first order:
    only weights whose gradient is about zero may step the other way.

    Parameters
    ----------
    terms : int
        Pixels times patterns of a batch.
    """
    return 2 * of_sums(terms) / (4 * math.sqrt(3)) + 1e-6


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
    from ptyonnx.parity.monte_carlo_tolerances import SAFETY, SAMPLES
    from ptyonnx.reference.network import Network
    from ptyonnx.reference.simulated_rounding import SimulatedFloat32

    network = Network(recipe, weights)
    exact = network.forward(diffraction).values
    allowed = {name: 2 * UNIT_ROUNDOFF * float(np.abs(value).max(initial=0)) for name, value in exact.items()}
    for seed in range(SAMPLES):
        for name, value in network.forward(diffraction, SimulatedFloat32(seed)).values.items():
            allowed[name] = max(allowed[name], SAFETY * float(np.abs(value - exact[name]).max(initial=0)))
    return exact, allowed


def of_model(
    run: Callable[[bytes], Mapping[str, NDArray[Any]]], model: bytes
) -> tuple[Mapping[str, NDArray[Any]], dict[str, float]]:
    """What an ONNX network without a recipe gives, and how far float32 may be from it, absolutely.

    Rounding the n products and sums of a layer errs by as much, on average, as weights that are each off by
    ``u sqrt(n / 6)`` of their value (see `ptyonnx.reference.simulated_rounding`). The network runs with such weights, and
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
    from ptyonnx.parity.monte_carlo_tolerances import SAFETY, SAMPLES
    from ptyonnx.reference.simulated_rounding import deviation

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


def of_bundle(model: bytes, diffraction: NDArray[np.float32], roundings: int = 0) -> float:
    """How far two implementations of a bundle's graph may be apart, for these patterns, absolutely.

    Twice what `of_model` allows each, and twice again: attention and normalisation add up about as many terms as the
    layers with weights, and have none. What ends it, functions of a phase below 2 pi, comes on top.

    Parameters
    ----------
    model : bytes
        A bundle's.
    diffraction : (B, C, N, N) float32
    roundings : int, optional
        Of the patterns, in front of one implementation and not of the other.
    """
    from bundle_factory import run_model

    from ptyonnx.parity.monte_carlo_tolerances import SAFETY

    found, allowed = of_model(lambda content: {"object": run_model(content, diffraction)}, model)
    noise = 1 + of_roundings(roundings) * np.random.default_rng(0).standard_normal(diffraction.shape)
    moved = run_model(model, (diffraction * noise).astype(np.float32)) - found["object"]
    largest = float(np.abs(found["object"]).max())
    return 4 * allowed["object"] + SAFETY * float(np.abs(moved).max()) + of_polar(largest, 2 * math.pi)


def _terms(operator: str, shape: tuple[int, ...]) -> int:
    """How many products a layer sums with a weight of this shape, and its bias."""
    if operator == "ConvTranspose":
        return shape[0] * math.prod(shape[2:]) + 1
    return max(shape) + 1 if operator in {"MatMul", "Gemm"} else math.prod(shape[1:]) + 1
