"""Show that a foreign graph computes what its original computes, pattern by pattern; keep that as self-test."""

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

_KEPT = 2  # groups in the bundle's self-test
_CONFINEMENT = Confinement()


def verify_equivalence(
    network: ForeignNetwork, diffraction: NDArray[np.float32], file: str, confinement: Confinement = _CONFINEMENT
) -> SelfTest:
    """Run original and graph on the same patterns, together and one by one.

    Parameters
    ----------
    network : ForeignNetwork
    diffraction : (B, C, N, N) float32, amplitude
        At least three groups.
    file : str
        Where the network came from.
    confinement : Confinement
        What the graph may take.

    Returns
    -------
    SelfTest
        Some of the patterns, what the original made of them, and the tolerance.

    Raises
    ------
    ConversionError
        The graph is not valid, fixed to a number of patterns, mixes patterns, or computes something else.
    WorkerError
        The graph killed the process that ran it, or took too long.
    """
    model = onnx.load_model_from_string(network.model)
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _unfit(f"the graph is not valid once its batch is free ({first_line(error)})") from None
    check_memory(model, {"diffraction": (1, *diffraction.shape[1:])}, diffraction.shape[-1], 1, None)
    with _opened(network.model, file, confinement) as graph:
        together, apart = _both(graph, diffraction)
    if network.native:
        expected = network.native(diffraction)
    else:
        with _opened(network.model, file, confinement, optimize=False) as graph:
            expected = _run(graph, diffraction)
    if not np.isfinite(expected).all():
        raise ConversionError(
            "the original gives NaN or infinity on test patterns",
            remedy="check the declaration of scale, limit and transform",
        )
    if together.shape != expected.shape or together.shape != diffraction.shape:
        raise ConversionError(
            "the graph gives another shape than the original", found=together.shape, expected=expected.shape
        )
    tolerance = relative_tolerance(model) * max(1.0, float(np.abs(expected).max()))
    if is_quantised(model):
        tolerance = max(tolerance, _quantisation(model, diffraction, together, file, confinement))
    if is_coarse(model) and not tolerance <= LARGEST_COARSE_TOLERANCE:
        raise ConversionError(
            "rounding alone moves the object too far for a self-test", found=f"{tolerance:.2g}",
            expected=f"at most {LARGEST_COARSE_TOLERANCE}",
            remedy="quantise the network more finely, or adopt it in float32",
        )  # fmt: skip
    tolerance = min(LARGEST_COARSE_TOLERANCE if is_coarse(model) else LARGEST_TOLERANCE, tolerance)
    mixed = float(np.abs(together - apart).max())
    if not mixed <= tolerance:
        raise ConversionError(
            f"a pattern's object depends on the others of its batch (by {mixed:.2g})", key="batch",
            remedy=f"if it normalises over the batch, {EVALUATION_REMEDY}",
        )  # fmt: skip
    difference = float(np.abs(apart - expected).max())
    if not difference <= tolerance:
        raise ConversionError(
            "the adopted graph computes another object than the original", found=f"a difference of {difference:.2g}",
            expected=f"at most {tolerance:.2g}", remedy="no bundle was written; report this with the file",
        )  # fmt: skip
    return SelfTest(diffraction[:_KEPT], expected[:_KEPT], tolerance)


def _both(graph: Graph, diffraction: NDArray[np.float32]) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """All patterns at once, and one after the other."""
    try:
        together = _run(graph, diffraction)
        apart = np.concatenate([_run(graph, diffraction[index : index + 1]) for index in range(len(diffraction))])
    except onnxruntime_errors() as error:
        raise _unfit(f"the graph runs on one number of patterns only ({first_line(error)})") from None
    if together.shape != apart.shape:
        raise _unfit("the graph gives the same number of patches for every number of patterns")
    return together, apart


def _quantisation(
    model: onnx.ModelProto,
    diffraction: NDArray[np.float32],
    found: NDArray[np.complex64],
    file: str,
    confinement: Confinement,
) -> float:
    """How far a graph in 8 bits may be from itself elsewhere: twice what was seen here, and two steps of its last values.

    Of these steps one is a value's own rounding, the other what it was computed from.
    """
    content = model.SerializeToString()
    with _opened(content, file, confinement) as graph:
        seen = rounding_sensitivity(diffraction, partial(_run, graph), found)
    with _opened(content, file, confinement, optimize=False) as graph:
        unoptimised = _run(graph, diffraction)
    with _opened(shift_quantised_outputs(model).SerializeToString(), file, confinement, optimize=False) as graph:
        step = float(np.abs(_run(graph, diffraction) - unoptimised).max())
    return 2 * max(seen, float(np.abs(unoptimised - found).max())) + 2 * step


def _unfit(problem: str) -> ConversionError:
    return ConversionError(
        problem, key="batch", remedy="export the network with a dynamic batch (dynamic_axes or dynamic_shapes)"
    )


def _opened(model: bytes, file: str, confinement: Confinement, *, optimize: bool = True) -> Graph:
    try:
        return open_confined(model, file, confinement, optimize=optimize)
    except onnxruntime_errors() as error:
        raise _unfit(f"onnxruntime does not open the graph ({first_line(error)})") from None


def _run(graph: Graph, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
    (result,) = graph.run(["object"], {"diffraction": diffraction})
    patches: NDArray[np.complex64] = result.view(np.complex64)[..., 0]
    return patches
