"""The float64 reference: the whole computation in NumPy, from a pattern to the loss after several steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.shared_inputs import PROBE, SharedInputs
from ptyonnx.reference.network import ForwardPass, Network, branches_of
from ptyonnx.reference.physics import Evaluation, Objective
from ptyonnx.reference.simulated_rounding import EXACT, Rounding
from ptyonnx.training.regions import Batch

__all__ = ["NAME", "compute_reference", "gradients_on_branches"]

NAME = "float64"
_DECAYS = (0.9, 0.999)  # decay rates of Adam; these and epsilon equal those of both backends
_EPSILON = 1e-10

Array = NDArray[np.float64]


def compute_reference(
    inputs: SharedInputs,
    rounding: Rounding = EXACT,
    *,
    steps: int | None = None,
    branches: Mapping[str, NDArray[Any]] | None = None,
) -> ComputedValues:
    """Compute every quantity that is compared.

    Parameters
    ----------
    inputs : SharedInputs
    rounding : Rounding
        Exact for the comparison; :class:`~ptyonnx.reference.simulated_rounding.SimulatedFloat32` for tolerances.
    steps : int, optional
        Steps of the loss curve; all by default.
    branches : mapping of str to ndarray, optional
        Branches of ReLUs and poolings to use for the gradients.
    """
    task, batch = inputs.task, inputs.batches[0]
    objective = Objective(task.probe, task.mean_counts, task.settings.loss)
    done = Network(inputs.recipe, inputs.weights).forward(inputs.patterns, rounding)
    patch = inputs.patch
    scored = objective.evaluate(
        patch.astype(np.complex128), batch.offset_px, batch.diffraction.reshape(patch.shape), rounding
    )
    gradients, taken = _gradients(inputs, objective, rounding, branches)
    return ComputedValues(
        NAME,
        versions={"numpy": np.__version__},
        weights=dict(inputs.weights),
        activations={name: value for name, value in done.values.items() if name != "diffraction"},
        object=done.object,
        intensity=scored.intensity,
        gradients=gradients,
        branches=taken,
        losses=_train(inputs, objective, rounding, steps or inputs.steps),
    )


def gradients_on_branches(inputs: SharedInputs, branches: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """Exact gradients of the first batch's loss on the branches that an implementation took.

    Near a ReLU threshold or a pooling tie, float32 and float64 may take different branches. Both are correct, but
    their gradients differ by the contribution of that pixel.
    """
    task = inputs.task
    objective = Objective(task.probe, task.mean_counts, task.settings.loss)
    return _gradients(inputs, objective, EXACT, branches)[0]


def _gradients(
    inputs: SharedInputs, objective: Objective, rounding: Rounding, branches: Mapping[str, NDArray[Any]] | None
) -> tuple[dict[str, Array], dict[str, NDArray[Any]]]:
    """Gradients of the first batch, and the branches of its forward pass."""
    network = Network(inputs.recipe, inputs.weights)
    done, scored = _forward(network, objective, inputs.batches[0], rounding)
    taken = branches_of(inputs.recipe, done.values)
    of_weights = network.backward(done, scored.slope.reshape(done.object.shape), rounding, branches or taken)
    return {**_of_probe(inputs, scored), **of_weights}, taken


def _of_probe(inputs: SharedInputs, scored: Evaluation) -> dict[str, Array]:
    """Gradients by real and imaginary part of the probe refinement, in its steps; empty without refinement."""
    if not inputs.task.settings.train_probe:
        return {}
    slope = inputs.task.probe_step * scored.probe_slope
    return dict(zip(PROBE, (slope.real, slope.imag), strict=True))


def _train(inputs: SharedInputs, objective: Objective, rounding: Rounding, steps: int) -> Array:
    """Losses before each of the first steps."""
    weights: dict[str, Array] = {name: np.asarray(array, np.float64) for name, array in inputs.weights.items()}
    shift: dict[str, Array] = {name: np.zeros(inputs.task.probe.shape) for name in PROBE}
    optimiser = _Adam(inputs.task.settings.clip)
    losses: list[float] = []
    for batch, rate in zip(inputs.batches[:steps], inputs.task.rates, strict=False):
        network = Network(inputs.recipe, weights)
        step = inputs.task.probe_step * (shift[PROBE[0]] + 1j * shift[PROBE[1]])
        done, scored = _forward(network, objective.refined(step), batch, rounding)
        losses.append(scored.loss)
        if len(losses) == steps:
            break
        of_weights = network.backward(done, scored.slope.reshape(done.object.shape), rounding)
        for name, change in optimiser.step({**_of_probe(inputs, scored), **of_weights}, float(rate)).items():
            trained = shift if name in shift else weights
            trained[name] = rounding.result(trained[name] - change, 1, 0.0)
    return np.array(losses)


def _forward(
    network: Network, objective: Objective, batch: Batch, rounding: Rounding
) -> tuple[ForwardPass, Evaluation]:
    """Forward pass and loss of a batch."""
    done = network.forward(batch.diffraction, rounding)
    shape = (*batch.offset_px.shape[:2], *batch.diffraction.shape[-2:])
    return done, objective.evaluate(
        done.object.reshape(shape), batch.offset_px, batch.diffraction.reshape(shape), rounding
    )


class _Adam:
    """Adam [Kingma & Ba, ICLR 2015] with clipping of the global gradient norm."""

    def __init__(self, clip: float) -> None:
        self._clip = clip
        self._means: dict[str, Any] = {}
        self._squares: dict[str, Any] = {}
        self._done = 0

    def step(self, gradients: Mapping[str, Array], rate: float) -> dict[str, Array]:
        """The decrease of every weight."""
        self._done += 1
        norm = np.sqrt(sum(float(np.sum(gradient**2)) for gradient in gradients.values()))
        shrink = min(1.0, self._clip / norm) if norm > 0 else 1.0
        changes = {}
        for name, gradient in gradients.items():
            clipped = gradient * shrink
            mean = _DECAYS[0] * self._means.get(name, 0.0) + (1 - _DECAYS[0]) * clipped
            square = _DECAYS[1] * self._squares.get(name, 0.0) + (1 - _DECAYS[1]) * clipped**2
            self._means[name], self._squares[name] = mean, square
            root = np.sqrt(square / (1 - _DECAYS[1] ** self._done))
            changes[name] = rate * mean / (1 - _DECAYS[0] ** self._done) / (root + _EPSILON)
        return changes
