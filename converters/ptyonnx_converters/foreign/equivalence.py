"""Verify numerically that an adopted graph computes the same as its original, and make a self-test of the result."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from ptyonnx_bundles import SelfTest
from ptyonnx_bundles.confinement import Confinement
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_bundles.selftest import LARGEST_COARSE_TOLERANCE, LARGEST_TOLERANCE
from ptyonnx_converters.foreign.memory import check_memory
from ptyonnx_converters.foreign.network import ForeignNetwork
from ptyonnx_converters.foreign.safe_load import EVALUATION_REMEDY
from ptyonnx_converters.foreign.tolerance import (
    is_coarse,
    is_quantised,
    relative_tolerance,
    rounding_sensitivity,
    shift_quantised_outputs,
)
from ptyonnx_converters.onnxruntime_session import Graph, first_line, onnxruntime_errors, open_confined

__all__ = ["verify_equivalence"]

_SELFTEST_GROUPS = 2  # groups of patterns in the self-test
_CONFINEMENT = Confinement()


def verify_equivalence(
    network: ForeignNetwork, diffraction: NDArray[np.float32], file: str, confinement: Confinement = _CONFINEMENT
) -> SelfTest:
    """Compare the original and the adopted graph on the same patterns, as one batch and one by one.

    Parameters
    ----------
    network : ForeignNetwork
    diffraction : (B, C, N, N) float32, amplitude
        At least three groups.
    file : str
        The file of the original, named in errors.
    confinement : Confinement
        Limits on the time and memory of the graph.

    Returns
    -------
    SelfTest
        Some of the patterns, the original's outputs for them, and the tolerance.

    Raises
    ------
    ConversionError
        The graph is invalid, accepts only one number of patterns, mixes patterns, or computes another object.
    WorkerError
        The graph crashed its process or exceeded the time limit.
    """
    model = onnx.load_model_from_string(network.model)
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _batch_error(f"the graph is not valid once its batch is free ({first_line(error)})") from None
    check_memory(model, {"diffraction": (1, *diffraction.shape[1:])}, diffraction.shape[-1], 1, None)
    with _opened(network.model, file, confinement) as graph:
        batched, separate = _run_batched_and_separately(graph, diffraction)
    if network.native:
        expected = network.native(diffraction)
    else:
        with _opened(network.model, file, confinement, optimize=False) as graph:
            expected = _run(graph, diffraction)
    if not np.isfinite(expected).all():
        raise ConversionError(
            "the original computes NaN or infinity from test patterns",
            remedy="check the declaration of scale, limit and transform",
        )
    if batched.shape != expected.shape or batched.shape != diffraction.shape:
        raise ConversionError(
            "the graph's output has another shape than the original's", found=batched.shape, expected=expected.shape
        )
    tolerance = relative_tolerance(model) * max(1.0, float(np.abs(expected).max()))
    if is_quantised(model):
        tolerance = max(tolerance, _quantisation(model, diffraction, batched, file, confinement))
    if is_coarse(model) and not tolerance <= LARGEST_COARSE_TOLERANCE:
        raise ConversionError(
            "rounding alone changes the object too much for a self-test", found=f"{tolerance:.2g}",
            expected=f"at most {LARGEST_COARSE_TOLERANCE}",
            remedy="quantise the network more finely, or adopt it in float32",
        )  # fmt: skip
    tolerance = min(LARGEST_COARSE_TOLERANCE if is_coarse(model) else LARGEST_TOLERANCE, tolerance)
    mixed = float(np.abs(batched - separate).max())
    if not mixed <= tolerance:
        raise ConversionError(
            f"a pattern's object depends on the others of its batch (by {mixed:.2g})", key="batch",
            remedy=f"if it normalises over the batch, {EVALUATION_REMEDY}",
        )  # fmt: skip
    difference = float(np.abs(separate - expected).max())
    if not difference <= tolerance:
        raise ConversionError(
            "the adopted graph computes another object than the original", found=f"a difference of {difference:.2g}",
            expected=f"at most {tolerance:.2g}", remedy="no bundle was written; report this with the file",
        )  # fmt: skip
    return SelfTest(diffraction[:_SELFTEST_GROUPS], expected[:_SELFTEST_GROUPS], tolerance)


def _run_batched_and_separately(
    graph: Graph, diffraction: NDArray[np.float32]
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Run the graph on all patterns at once, and on each alone."""
    try:
        batched = _run(graph, diffraction)
        separate = np.concatenate([_run(graph, diffraction[index : index + 1]) for index in range(len(diffraction))])
    except onnxruntime_errors() as error:
        raise _batch_error(f"the graph accepts only one number of patterns ({first_line(error)})") from None
    if batched.shape != separate.shape:
        raise _batch_error("the graph computes the same number of patches for every number of patterns")
    return batched, separate


def _quantisation(
    model: onnx.ModelProto,
    diffraction: NDArray[np.float32],
    found: NDArray[np.complex64],
    file: str,
    confinement: Confinement,
) -> float:
    """Return the tolerance of an 8-bit graph: twice the difference seen here plus two steps of its last values.

    One step is for the rounding of the value itself, the other for the values that it was computed from.
    """
    content = model.SerializeToString()
    with _opened(content, file, confinement) as graph:
        seen = rounding_sensitivity(diffraction, partial(_run, graph), found)
    with _opened(content, file, confinement, optimize=False) as graph:
        unoptimised = _run(graph, diffraction)
    with _opened(shift_quantised_outputs(model).SerializeToString(), file, confinement, optimize=False) as graph:
        step = float(np.abs(_run(graph, diffraction) - unoptimised).max())
    return 2 * max(seen, float(np.abs(unoptimised - found).max())) + 2 * step


def _batch_error(problem: str) -> ConversionError:
    return ConversionError(
        problem, key="batch", remedy="export the network with a dynamic batch (dynamic_axes or dynamic_shapes)"
    )


def _opened(model: bytes, file: str, confinement: Confinement, *, optimize: bool = True) -> Graph:
    try:
        return open_confined(model, file, confinement, optimize=optimize)
    except onnxruntime_errors() as error:
        raise _batch_error(f"onnxruntime does not open the graph ({first_line(error)})") from None


def _run(graph: Graph, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
    (result,) = graph.run(["object"], {"diffraction": diffraction})
    patches: NDArray[np.complex64] = result.view(np.complex64)[..., 0]
    return patches
