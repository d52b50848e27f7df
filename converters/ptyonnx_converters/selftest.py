"""Run a network natively and in onnxruntime on the same patterns, and make a self-test of the result.

`canonical.py` has proved that the graph is the recipe's. The self-test shows that the native network and
onnxruntime compute the recipe.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import SelfTest
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.onnxruntime_session import run_once

__all__ = ["TOLERANCE", "make_selftest"]

# Largest absolute difference of the complex object. Measured over trained networks of this
# recipe, the same weights in float32: any two of TensorFlow, PyTorch and onnxruntime differ by
# up to 2.3e-6 in amplitude and 3.2e-5 rad in phase, and each by as much from float64, because they
# sum the up to 1152 products of a convolution in different orders. For an amplitude of up to 1.5 that is
# sqrt((1.5 * 3.2e-5)² + (2.3e-6)²) = 4.8e-5. A tolerance of 1e-5 would refuse correct pairs; a wrong
# pixel shift, padding or activation differs by 1e-3 and more.
TOLERANCE = 5e-5


def make_selftest(
    native: Callable[[NDArray[np.float32]], NDArray[np.complex64]], model: bytes, diffraction: NDArray[np.float32]
) -> SelfTest:
    """Compare native network and ONNX model, and return the result as the bundle's self-test.

    Parameters
    ----------
    native : callable
        The network in its framework: (B, C, N, N) float32 -> (B, C, N, N) complex64.
    model : bytes
        The ONNX model of the same network.
    diffraction : (B, C, N, N) float32, amplitude
        Patterns like those of the training.

    Returns
    -------
    SelfTest
        The patterns, the native object and the tolerance.

    Raises
    ------
    ConversionError
        They differ by more than the tolerance, or the network's output is not finite.
    """
    expected = native(diffraction)
    if not np.isfinite(expected).all():
        raise ConversionError(
            "the native network computes NaN or infinity from the self-test's patterns",
            remedy="train it again with a smaller learning rate",
        )
    computed = _run(model, diffraction)
    if computed.shape != expected.shape:
        raise ConversionError(
            "onnxruntime's output has another shape than the native network's",
            found=computed.shape,
            expected=expected.shape,
        )
    difference = float(np.abs(computed - expected).max())
    if not difference <= TOLERANCE:
        raise ConversionError(
            "onnxruntime computes another object than the native network", found=f"a difference of {difference:.2g}",
            expected=f"at most {TOLERANCE:g}", remedy="no bundle was written; report this with the versions in use",
        )  # fmt: skip
    return SelfTest(diffraction, expected, TOLERANCE)


def _run(model: bytes, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
    (result,) = run_once(model, ["object"], {"diffraction": diffraction})
    complex_object: NDArray[np.complex64] = result.view(np.complex64)[..., 0]
    return complex_object
