"""Compare the computed values of every implementation: rows, agreements and verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.float64_reference import gradients_on_branches
from ptyonnx.parity.monte_carlo_tolerances import Key, quantities, scales
from ptyonnx.parity.result import STAGES, Agreement, ImplementationVerdict, Row
from ptyonnx.parity.shared_inputs import SharedInputs
from ptyonnx.reference.local_errors import local_errors
from ptyonnx_bundles import OnnxFile, check_graph, read_onnx, weight_digest
from ptyonnx_bundles.errors import BundleError

__all__ = [
    "BACKEND_STAGES",
    "RUN",
    "RUNTIME_STAGES",
    "agreements",
    "exported_graph",
    "other_branches",
    "rows",
    "verdict",
]

BACKEND_STAGES = STAGES
RUNTIME_STAGES = ("weights", "forward", "object")  # a runtime does not train
RUN = "run"  # key of an export that a runtime could not run


def rows(
    inputs: SharedInputs,
    exact: ComputedValues,
    found: ComputedValues,
    allowed: Mapping[Key, float],
    *,
    stages: Sequence[str],
) -> list[Row]:
    """Compare one implementation with float64, quantity by quantity, in order of computation.

    Parameters
    ----------
    inputs : SharedInputs
    exact : ComputedValues
        The float64 reference.
    found : ComputedValues
        The values of the implementation.
    allowed : mapping
        See :func:`ptyonnx.parity.monte_carlo_tolerances.monte_carlo_tolerances`.
    stages : sequence of str
        Stages that it must compute, :data:`BACKEND_STAGES` or :data:`RUNTIME_STAGES`. A missing quantity is a row
        that does not pass.
    """
    name = found.implementation
    own = local_errors(
        inputs.recipe,
        inputs.weights,
        inputs.patterns,
        {layer: found.activations[layer] for layer in _fitting(found.activations, exact.activations)},
    )
    wanted = dict(quantities(exact))
    if found.branches and _fitting(found.branches, exact.branches) == set(exact.branches):
        along = gradients_on_branches(inputs, found.branches)
        wanted |= {("gradient", weight): gradient for weight, gradient in along.items()}
    sizes = scales(wanted)
    have = dict(quantities(found))
    compared = [*_weights(inputs, found)] if "weights" in stages else []
    for key in sorted((key for key in wanted if key[0] in stages), key=lambda key: STAGES.index(key[0])):  # stable
        absolute, problem = _distance(have.get(key), wanted[key])
        layer = own.get(key[1]) if key[0] == "forward" else None
        compared.append(Row(*key, name, absolute, absolute / sizes[key], allowed.get(key), layer, problem))
    return [*compared, *_export(inputs, found)] if "export" in stages else compared


def exported_graph(inputs: SharedInputs, found: ComputedValues) -> OnnxFile:
    """Read the export of an implementation, which must have the recipe's graph.

    Raises
    ------
    BundleError
        The export is missing, has another graph, or cannot be read.
    """
    file = f"the export of {found.implementation}"
    if found.model is None:
        raise BundleError(found.refusal or "missing")
    model = read_onnx(found.model, file)
    check_graph(model, inputs.recipe, file)
    return model


def _export(inputs: SharedInputs, found: ComputedValues) -> Iterator[Row]:
    """Rows on the graph and the weights of the export; both must equal the given ones bit for bit."""
    name = found.implementation
    try:
        model = exported_graph(inputs, found)
    except BundleError as error:
        yield Row("export", error.key or "graph", name, problem=str(error))
        return
    yield Row("export", "graph", name)
    wanted = {**inputs.weights, **inputs.recipe.graph_constants()}
    changed = [weight for weight, array in wanted.items() if _bits(array) != _bits(model.initializers[weight])]
    if changed or weight_digest(model.initializers) != weight_digest(wanted):
        yield Row("export", (changed or ["weights"])[0], name, problem=f"another {(changed or ['weights'])[0]}")
    else:
        yield Row("export", "weights", name)


def agreements(exact: ComputedValues, found: Sequence[ComputedValues]) -> list[Agreement]:
    """Compare every pair of implementations in the quantities that both computed."""
    references = dict(quantities(exact))
    sizes = scales(references)
    everybody = [(each.implementation, dict(quantities(each))) for each in (exact, *found)]
    pairs = []
    for (a, of_a), (b, of_b) in combinations(everybody, 2):
        for key, size in sizes.items():
            if key in of_a and key in of_b and key[0] != "forward":
                absolute, _ = _distance(of_a[key], of_b[key])
                pairs.append(Agreement(*key, a, b, absolute, absolute / size))
    return pairs


def other_branches(exact: ComputedValues, found: ComputedValues) -> int:
    """Number of pixels of the first batch at which a ReLU or pooling takes another branch than in float64."""
    return sum(
        int(np.count_nonzero(taken != exact.branches[name]))
        for name, taken in found.branches.items()
        if taken.shape == exact.branches[name].shape
    )


def verdict(implementation: str, compared: Sequence[Row]) -> ImplementationVerdict:
    """Name the first quantity that exceeds its tolerance.

    Layers that are wrong for their own input precede layers that inherit a difference.
    """
    failed = [row for row in compared if not row.passed]
    failed.sort(key=lambda row: (STAGES.index(row.stage), row.local_error is not None and row.local_error <= 1))
    if not failed:
        return ImplementationVerdict(
            implementation, "", "", f"{implementation} agrees with float64 to float32 rounding"
        )
    first = failed[0]
    return ImplementationVerdict(implementation, first.stage, first.key, _sentence(first))


def _sentence(row: Row) -> str:
    name = row.implementation
    by = f"by {row.relative:.2g} of the largest value" + (f", {row.tolerance:.2g} allowed" if row.tolerance else "")
    if row.problem:
        by = row.problem
    if row.stage == "forward":
        layer_is_wrong = row.local_error is not None and row.local_error > 1 and not row.problem
        return f"{name} first differs at {row.key}" + ("" if layer_is_wrong else f": {by}")
    sentences = {
        "weights": f"{name} changed the weights {row.key}: {row.problem}",
        "object": f"{name} first differs in its output: {by}; all layers agree",
        "physics": f"{name} first differs in the forward model, at the intensity: {by}",
        "loss": f"{name} first differs in the loss: {by}; object and intensity agree",
        "gradient": f"{name} first differs in the gradient of {row.key}: {by}",
        "step": f"{name} first differs in the optimiser, in the loss {row.key}: {by}; loss and gradients agree",
        "curve": f"{name} first differs in the loss curve, in the loss {row.key}: {by}",
        "export": f"{name} first differs in its export, at {row.key}: {row.problem}",
    }
    return f"{name} cannot run the export: {row.problem}" if row.key == RUN else sentences[row.stage]


def _weights(inputs: SharedInputs, found: ComputedValues) -> Iterator[Row]:
    for name, given in inputs.weights.items():
        array, problem, largest = found.weights.get(name), "", 0.0
        if array is None or array.shape != given.shape or array.dtype != given.dtype:
            problem = "missing" if array is None else f"{array.dtype} {array.shape} instead of float32 {given.shape}"
        elif _bits(array) != _bits(given):
            count = np.count_nonzero(np.asarray(array).view(np.uint32) != given.view(np.uint32))
            largest = float(np.abs(array.astype(np.float64) - given).max())
            problem = f"{count} of {given.size} element{'s' if given.size > 1 else ''} differ"
        size = float(np.abs(given).max(initial=0)) or 1.0
        yield Row("weights", name, found.implementation, largest, largest / size, problem=problem)


def _fitting(found: Mapping[str, NDArray[Any]], exact: Mapping[str, NDArray[Any]]) -> set[str]:
    """Names of the arrays that have the same shape in the float64 reference."""
    return {name for name, array in found.items() if name in exact and array.shape == exact[name].shape}


def _bits(array: NDArray[Any]) -> bytes:
    return np.asarray(array).tobytes()


def _distance(a: NDArray[Any] | None, b: NDArray[Any]) -> tuple[float, str]:
    """Largest difference, and an empty problem; infinite, and the problem, where the two cannot be subtracted."""
    if a is None:
        return math.inf, "missing"
    if a.shape != b.shape:
        return math.inf, f"of shape {a.shape} instead of {b.shape}"
    wide = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    absolute = float(np.abs(np.asarray(a, wide) - np.asarray(b, wide)).max(initial=0))
    return (absolute, "") if math.isfinite(absolute) else (math.inf, "not finite")
