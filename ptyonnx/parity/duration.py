"""Estimate how long a parity check takes, before and while it runs.

Most of the time goes into two things: loading and compiling the frameworks, which takes about the same time for every
network, and the float64 reference, whose cost follows from the recipe. The reference is calibrated by a few short
passes of the same network at a small N. While the check runs, the remaining time is scaled by the ratio of the elapsed
to the estimated time, separately for both kinds of work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ptyonnx.parity.monte_carlo_tolerances import SAMPLES, TRUSTED_LOSSES
from ptyonnx.parity.shared_inputs import PATTERNS, REGION_SIZE
from ptyonnx.reference.network import Network
from ptyonnx.reference.simulated_rounding import EXACT, Rounding, SimulatedFloat32
from ptyonnx_bundles import Recipe

__all__ = ["Duration", "Work", "estimated_work"]

# Seconds to load, compile and export, measured with one thread on a 2.5 GHz server processor.
_STARTUP_s = {"pytorch": 7.0, "tensorflow": 8.0, "onnxruntime": 0.5}
_FLOAT32_SHARE = 0.3  # of the time of the same passes in float64 NumPy: frameworks are faster
_BACKWARD = 2  # cost of a backward pass in forward passes: gradients by inputs and by kernels
_CALIBRATION_N = 32
_CALIBRATION_GROUPS = 2
_LEAST_s = 0.3  # of finished work, before its ratio to the estimate is used

Clock = Callable[[], float]


@dataclass(frozen=True)
class Work:
    """A part of a parity check.

    Attributes
    ----------
    implementation : str
    kind : {"framework", "float64"}
    seconds : float
        Estimated.
    """

    implementation: str
    kind: str
    seconds: float


def estimated_work(
    recipe: Recipe, backends: Sequence[str], steps: int, *, reference: str, clock: Clock = perf_counter
) -> list[Work]:
    """Estimate the parts of a check in the order in which they run; takes a fraction of a second.

    Parameters
    ----------
    recipe : Recipe
    backends : sequence of str
    steps : int
        Points of the loss curve.
    reference : str
        Name under which the float64 reference reports its progress.
    clock : callable
        Returns seconds.
    """
    exact_s, rounded_s = (_seconds_per_forward(recipe, rounding, clock) for rounding in (EXACT, SimulatedFloat32(0)))
    groups = max(1, REGION_SIZE // recipe.channels)
    gradient = (1 + _BACKWARD) * groups

    def training(count: int) -> int:
        return count * groups + (count - 1) * _BACKWARD * groups

    frameworks = [
        Work(name, "framework", _STARTUP_s[name] + _FLOAT32_SHARE * exact_s * (PATTERNS + gradient * (1 + steps)))
        for name in backends
    ]
    sample = PATTERNS + gradient + training(min(TRUSTED_LOSSES, steps))
    return [
        *frameworks,
        Work("onnxruntime", "framework", _STARTUP_s["onnxruntime"] + _FLOAT32_SHARE * exact_s * PATTERNS),
        Work(reference, "float64", exact_s * (PATTERNS + gradient + training(steps))),
        *[Work(reference, "float64", rounded_s * sample)] * SAMPLES,
        *[Work(reference, "float64", exact_s * (2 * PATTERNS + gradient))] * len(backends),
        Work(reference, "float64", exact_s * 2 * PATTERNS),
    ]


def _seconds_per_forward(recipe: Recipe, rounding: Rounding, clock: Clock) -> float:
    """Time of a forward pass of one group, from forward and backward passes at a small N."""
    small = recipe.model_copy(update={"N": min(recipe.N, max(_CALIBRATION_N, 2 ** (recipe.depth + 1)))})
    constants = {name: np.ones(shape, np.float32) for name, shape in small.constant_shapes().items()}
    network = Network(small, {**constants, **small.initial_weights(0)})
    diffraction = np.random.default_rng(0).random((_CALIBRATION_GROUPS, small.channels, small.N, small.N))
    fastest = np.inf
    for _ in range(2):  # the first pass also starts the threads of the BLAS
        started = clock()
        done = network.forward(diffraction, rounding)
        network.backward(done, done.object, rounding)
        fastest = min(fastest, clock() - started)
    return float(fastest) / (_CALIBRATION_GROUPS * (1 + _BACKWARD)) * (recipe.N / small.N) ** 2


class Duration:
    """The remaining time of a running check.

    Parameters
    ----------
    work : sequence of Work
        In the order in which it runs.
    clock : callable
        Returns seconds.
    """

    def __init__(self, work: Sequence[Work], clock: Clock = perf_counter) -> None:
        self._left = list(work)
        self._clock = clock
        self._estimated_s: dict[str, float] = {}
        self._elapsed_s: dict[str, float] = {}
        self._current: tuple[str, str] | None = None
        self._started = clock()

    def begin(self, implementation: str, part: str = "") -> None:
        """Begin a part: the one before it is finished, and parts of other implementations before this are skipped."""
        if (implementation, part) == self._current:
            return
        now = self._clock()
        if self._current is not None and self._left:
            finished = self._left.pop(0)
            kind = finished.kind
            self._estimated_s[kind] = self._estimated_s.get(kind, 0.0) + finished.seconds
            self._elapsed_s[kind] = self._elapsed_s.get(kind, 0.0) + now - self._started
        while self._left and self._left[0].implementation != implementation:
            self._left.pop(0)
        self._current, self._started = (implementation, part), now

    @property
    def remaining_s(self) -> float:
        """Estimated remaining time, seconds."""
        expected = [work.seconds * self._ratio(work.kind) for work in self._left]
        if self._current is not None and expected:
            expected[0] = max(0.0, expected[0] - (self._clock() - self._started))
        return sum(expected)

    def _ratio(self, kind: str) -> float:
        """Elapsed time of finished work of a kind in units of its estimate."""
        estimated_s = self._estimated_s.get(kind, 0.0)
        return self._elapsed_s[kind] / estimated_s if estimated_s >= _LEAST_s else 1.0
