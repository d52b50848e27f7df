"""Monte Carlo tolerances: the allowed distance of a float32 implementation from float64, for every compared quantity.

The tolerances are derived, not fitted to a framework. The float64 reference runs several times with simulated float32
errors at every operator (:mod:`ptyonnx.reference.simulated_rounding`), and the scatter of these runs around the exact
one is measured. The tolerance therefore follows from the recipe (depth, fan-in), the data type, and the weights and
patterns, which determine how errors grow.

:mod:`ptyonnx.reference.analytic_tolerances` derives tolerances for the comparison of two engines in closed form. Both
exist because the closed form needs only the graph and takes no time, but covers only the forward pass; gradients, the
forward model and training steps require a simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.float64_reference import compute_reference
from ptyonnx.parity.shared_inputs import SharedInputs
from ptyonnx.reference.analytic_tolerances import UNIT_ROUNDOFF
from ptyonnx.reference.simulated_rounding import SimulatedFloat32

__all__ = ["SAFETY", "TRUSTED_LOSSES", "Key", "monte_carlo_tolerances", "quantities", "scales"]

SAFETY = 4  # times the scatter: four standard deviations of normally distributed errors
SAMPLES = 3  # simulated runs
TRUSTED_LOSSES = 3  # losses before the first step and after one and two steps; later ones have no tolerance

Key = tuple[str, str]  # stage, and layer, weight or step


def monte_carlo_tolerances(
    inputs: SharedInputs, exact: ComputedValues, progress: Callable[[str], None]
) -> dict[Key, float]:
    """Largest allowed difference from float64, relative to the largest value of each quantity.

    The kernel and the bias of a layer share a tolerance, as they share a scale: the scatter of a single bias cannot
    be estimated from a few runs.

    Parameters
    ----------
    inputs : SharedInputs
    exact : ComputedValues
        The float64 reference.
    progress : callable
        Receives the stage at the beginning of each run.
    """
    scatter: dict[Key, float] = {}
    references = dict(quantities(exact))
    sizes = scales(references)
    for seed in range(SAMPLES):
        progress(f"tolerances, {seed + 1} of {SAMPLES}")
        sample = compute_reference(
            inputs, SimulatedFloat32(seed), steps=min(TRUSTED_LOSSES, inputs.steps), branches=exact.branches
        )
        for key, value in quantities(sample):
            distance = float(np.abs(value - references[key]).max()) / sizes[key]
            scatter[key] = max(scatter.get(key, 0.0), distance)
    of_layers: dict[str, float] = {}
    for (stage, name), distance in scatter.items():
        if stage == "gradient":
            of_layers[_layer(name)] = max(of_layers.get(_layer(name), 0.0), distance)
    return {
        (stage, name): max(SAFETY * (of_layers[_layer(name)] if stage == "gradient" else distance), 2 * UNIT_ROUNDOFF)
        for (stage, name), distance in scatter.items()
    }


def quantities(values: ComputedValues) -> Iterator[tuple[Key, NDArray[Any]]]:
    """Every compared quantity, in order of computation."""
    for name, value in values.activations.items():
        yield ("forward", name), value
    if values.object is not None:
        yield ("object", ""), values.object
    if values.intensity is not None:
        yield ("physics", "intensity"), values.intensity
    losses = [] if values.losses is None else list(values.losses)
    if losses:
        yield ("loss", ""), np.asarray(losses[0])
    for name, value in values.gradients.items():
        yield ("gradient", name), value
    for step, loss in enumerate(losses[1:], start=1):
        yield ("step" if step == 1 else "curve", f"after {step} step{'s' if step > 1 else ''}"), np.asarray(loss)


def scales(references: Mapping[Key, NDArray[Any]]) -> dict[Key, float]:
    """The magnitude to which the difference of each quantity is relative.

    It is the largest value of the quantity. For gradients it is the largest in the layer (kernel and bias together),
    since a sum over all pixels may cancel, or in the probe. For a loss, which may be zero, it is at least 1.

    Parameters
    ----------
    references : mapping
        The float64 reference.
    """
    sizes: dict[Key, float] = {}
    of_layers: dict[str, float] = {}
    for (stage, name), value in references.items():
        if stage == "gradient":
            layer = _layer(name)
            of_layers[layer] = max(of_layers.get(layer, 0.0), float(np.abs(value).max(initial=0)))
    for (stage, name), value in references.items():
        largest = of_layers[_layer(name)] if stage == "gradient" else float(np.abs(value).max(initial=0))
        sizes[stage, name] = max(largest, 1.0) if stage in {"loss", "step", "curve"} else largest or 1.0
    return sizes


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0]
