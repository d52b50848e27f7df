"""How far a correct float32 implementation may be from float64, for everything that is compared.

Nothing is guessed and nothing is fitted to a framework: the arbiter is run several times with
the errors that float32 makes at every operator (see `rounding`), and how far these runs scatter
around the exact one is measured. So the tolerance follows from the recipe (depth, fan-in), from
the dtype, and from the weights and patterns at hand, which decide how much errors grow.
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

SAFETY = 4  # times the scatter: four standard deviations, were the runs' errors normal
SAMPLES = 3  # runs
TRUSTED_LOSSES = 3  # before the first step, after one, after two: later ones have no tolerance

Key = tuple[str, str]  # stage, and layer, weight or step


def monte_carlo_tolerances(
    inputs: SharedInputs, exact: ComputedValues, progress: Callable[[str], None]
) -> dict[Key, float]:
    """Largest allowed difference from float64, relative to the largest value of each quantity.

    The kernel and the bias of a layer share one, as they share a scale: of the one number of a bias, a few
    runs say nothing about how far another may scatter.

    Parameters
    ----------
    inputs : SharedInputs
    exact : ComputedValues
        The arbiter's.
    progress : callable
        Is told which run is at work.
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


def quantities(evidence: ComputedValues) -> Iterator[tuple[Key, NDArray[Any]]]:
    """All that is compared, in order of computation."""
    for name, value in evidence.activations.items():
        yield ("forward", name), value
    if evidence.object is not None:
        yield ("object", ""), evidence.object
    if evidence.intensity is not None:
        yield ("physics", "intensity"), evidence.intensity
    losses = [] if evidence.losses is None else list(evidence.losses)
    if losses:
        yield ("loss", ""), np.asarray(losses[0])
    for name, value in evidence.gradients.items():
        yield ("gradient", name), value
    for step, loss in enumerate(losses[1:], start=1):
        yield ("step" if step == 1 else "curve", f"after {step} step{'s' if step > 1 else ''}"), np.asarray(loss)


def scales(references: Mapping[Key, NDArray[Any]]) -> dict[Key, float]:
    """What a difference of each quantity is relative to.

    The largest value; of gradients the largest in the layer, kernel and bias together, since a sum
    over all pixels may cancel to nothing, or in the probe; for a loss, which may be zero, at least 1.

    Parameters
    ----------
    references : mapping
        The arbiter's.
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
