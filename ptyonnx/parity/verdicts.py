"""From what everybody computed to rows, agreements and verdicts."""

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
RUNTIME_STAGES = ("weights", "forward", "object")  # it does not train
RUN = "run"  # key of an export that a runtime could not run


def rows(
    inputs: SharedInputs,
    exact: ComputedValues,
    found: ComputedValues,
    allowed: Mapping[Key, float],
    *,
    stages: Sequence[str],
) -> list[Row]:
    """Everything that one implementation must compute beside float64, in order of computation.

    Parameters
    ----------
    inputs : SharedInputs
    exact : ComputedValues
        The arbiter's.
    found : ComputedValues
        The implementation's.
    allowed : mapping
        See :func:`ptyonnx.parity.monte_carlo_tolerances.monte_carlo_tolerances`.
    stages : sequence of str
        What it must compute, :data:`BACKEND_STAGES` or :data:`RUNTIME_STAGES`; what is missing is a row
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
    """What an implementation exported, if it is the recipe's graph.

    Raises
    ------
    BundleError
        It exported nothing, or another graph, or what is not a graph at all.
    """
    file = f"the export of {found.implementation}"
    if found.model is None:
        raise BundleError(found.refusal or "missing")
    model = read_onnx(found.model, file)
    check_graph(model, inputs.recipe, file)
    return model


def _export(inputs: SharedInputs, found: ComputedValues) -> Iterator[Row]:
    """Whether what was exported is the recipe's graph with the given weights, bit for bit."""
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
    """Every pair, in everything that both computed."""
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
    """At how many pixels of the first batch a rectifier or pooling went another way than in float64."""
    return sum(
        int(np.count_nonzero(taken != exact.branches[name]))
        for name, taken in found.branches.items()
        if taken.shape == exact.branches[name].shape
    )


def verdict(implementation: str, compared: Sequence[Row]) -> ImplementationVerdict:
    """Name the first thing that is beyond its tolerance, in one sentence.

    Among layers, one that errs on its own input comes before one that only inherits a difference.
    """
    failed = [row for row in compared if not row.passed]
    failed.sort(key=lambda row: (STAGES.index(row.stage), row.local_error is not None and row.local_error <= 1))
    if not failed:
        return ImplementationVerdict(
            implementation, "", "", f"{implementation} computes what float64 does, as closely as float32 can"
        )
    first = failed[0]
    return ImplementationVerdict(implementation, first.stage, first.key, _sentence(first))


def _sentence(row: Row) -> str:
    name = row.implementation
    by = f"by {row.relative:.2g} of the largest value" + (f", {row.tolerance:.2g} allowed" if row.tolerance else "")
    if row.problem:
        by = f"which is {row.problem}"
    if row.stage == "forward":
        alone = row.local_error is not None and row.local_error > 1 and not row.problem
        return f"{name} parts at {row.key}" + ("" if alone else f", {by}")
    sentences = {
        "weights": f"{name} holds another {row.key} than it was given: {row.problem}",
        "object": f"{name} parts in its output, {by}: the values on the way to it agree",
        "physics": f"{name} parts in the physics, at the intensity, {by}",
        "loss": f"{name} parts in the loss, {by}: patch and intensity agree",
        "gradient": f"{name} parts at the gradient of {row.key}, {by}",
        "step": f"{name} parts in the optimiser: loss and gradients agree, but not the loss {row.key}, {by}",
        "curve": f"{name} parts in the loss curve at the loss {row.key}, {by}",
        "export": f"{name} parts in its exporter at {row.key}: {row.problem}",
    }
    return f"{name} does not run the export: {row.problem}" if row.key == RUN else sentences[row.stage]


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
    """What can be computed with: the arbiter has it, too, and in this shape."""
    return {name for name, array in found.items() if name in exact and array.shape == exact[name].shape}


def _bits(array: NDArray[Any]) -> bytes:
    return np.asarray(array).tobytes()


def _distance(a: NDArray[Any] | None, b: NDArray[Any]) -> tuple[float, str]:
    """Largest difference; infinite, and why, where there is nothing to subtract or anything is not finite."""
    if a is None:
        return math.inf, "missing"
    if a.shape != b.shape:
        return math.inf, f"of shape {a.shape} instead of {b.shape}"
    wide = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    absolute = float(np.abs(np.asarray(a, wide) - np.asarray(b, wide)).max(initial=0))
    return (absolute, "") if math.isfinite(absolute) else (math.inf, "not finite")
