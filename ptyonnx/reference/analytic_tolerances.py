"""Analytic tolerances: the allowed difference of two float32 implementations of one graph, for every value.

These tolerances bound the accumulated difference along the network. The error of a single layer for its own input is
bounded in `reference.local_errors`. :mod:`ptyonnx.parity.monte_carlo_tolerances` also covers gradients, the forward model
and training, at the cost of several simulated runs of the recipe; the closed form here needs only the graph and the
largest magnitude of each value.

The tolerances are derived, not fitted. Let u = 2**-24 be the unit roundoff of float32 and S the largest magnitude of
a value. A convolution sums n products, and each addition rounds once. The order of the additions depends on the
implementation, so the rounding errors of two implementations are independent. Independent errors add up like a random
walk: sqrt(n) u instead of the worst case n u [1]_. A convolution transforms incoming errors in the same way as the
signal. Relative errors are therefore passed on, and those of all layers add in quadrature:

    sigma / S = u * sqrt(sum over the convolutions so far of (fan-in + 1))

Operators that copy values (ReLU, pooling, nearest upsampling, concatenation) pass on the absolute error. Tanh, sine and
cosine have a slope of at most 1, the sigmoid of at most 1/4, and library functions are accurate to a few units in the
last place. Products and sums follow the rules of error propagation [2]_. The tolerance is :data:`MARGIN` times sigma.
`sigma` is an overestimate: it uses the largest magnitude instead of the typical one, and the largest rounding error for
every rounding. On trained and random networks (N = 32 to 256, gridsize 1 and 2), the largest of about 1e6 differences of
a layer between any two of onnxruntime, PyTorch and TensorFlow was at most 1.2 sigma, in most layers 0.1 sigma. A margin
of a factor of three or more remains. A fault that is visible in an image exceeds the tolerance by far.

References
----------
.. [1] N. J. Higham and T. Mary, "A new approach to probabilistic rounding error analysis", SIAM
   J. Sci. Comput. 41 (2019) A2815; the worst case: N. J. Higham, "Accuracy and Stability of
   Numerical Algorithms", 2nd ed. (2002), section 3.1.
.. [2] Higham (2002), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ptyonnx_bundles import OnnxFile, OnnxNode

__all__ = ["MARGIN", "UNIT_ROUNDOFF", "analytic_tolerances"]

UNIT_ROUNDOFF = 2.0**-24  # float32, rounding to nearest
MARGIN = 4.0
_FUNCTION_ULPS = 4.0  # error of tanh, sigmoid, sine and cosine in common mathematical libraries

_SLOPES = {"Tanh": 1.0, "Sin": 1.0, "Cos": 1.0, "Sigmoid": 0.25}
_COPIES = frozenset({"Relu", "MaxPool", "Resize", "Unsqueeze", "Concat"})


def analytic_tolerances(graph: OnnxFile, largest: Mapping[str, float]) -> dict[str, float]:
    """Allowed absolute difference of every value of a canonical graph.

    Parameters
    ----------
    graph : OnnxFile
    largest : mapping of str to float
        Name of a value -> its largest magnitude in either implementation.

    Returns
    -------
    dict of str to float
        Name of a value in `largest` -> tolerance, in order of computation.
    """
    sigma: dict[str, float] = {}
    for node in graph.nodes:
        for name in node.outputs:
            if name in largest:
                sigma[name] = _sigma(node, graph, sigma, largest, largest[name])
    return {name: MARGIN * error for name, error in sigma.items()}


def _sigma(
    node: OnnxNode, graph: OnnxFile, sigma: Mapping[str, float], largest: Mapping[str, float], reached: float
) -> float:
    """Expected error of a node's value from those of its inputs; the graph's input is exact."""
    computed = [name for name in node.inputs if name in sigma]
    carried = [sigma[name] for name in computed]
    operator = node.operator
    if operator in _COPIES:
        return max(carried, default=0.0)
    if operator in _SLOPES:
        return math.hypot(*(_SLOPES[operator] * error for error in carried), _FUNCTION_ULPS * UNIT_ROUNDOFF * reached)
    if operator in {"Sub", "LeakyRelu"}:
        return math.hypot(*carried, UNIT_ROUNDOFF * reached)
    if operator == "Mul":
        factors = _factors(node, graph, largest)
        return math.hypot(*(sigma[name] * factors(name) for name in computed), UNIT_ROUNDOFF * reached)
    fan_in = math.prod(graph.initializers[node.inputs[1]].shape[1:])  # the node is a convolution
    relative = [sigma[name] / largest[name] for name in computed if largest[name] > 0]
    return reached * math.hypot(*relative, UNIT_ROUNDOFF * math.sqrt(fan_in + 1))


def _factors(node: OnnxNode, graph: OnnxFile, largest: Mapping[str, float]) -> Callable[[str], float]:
    """For a product: the factor of the error of one input, which is the largest magnitude of the other."""

    def magnitude(name: str) -> float:
        constant = graph.initializers.get(name)
        return largest.get(name, 0.0) if constant is None else float(np.abs(constant).max(initial=0))

    def factor(name: str) -> float:
        return math.prod(magnitude(other) for other in node.inputs if other != name)

    return factor
