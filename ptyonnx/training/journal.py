"""The journal of a training: completed epochs, checkpoints, and whether training continues.

Both backends report to it, so that the same rules for checkpoints, early stopping, divergence and collapse apply.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ptyonnx.runs.checkpoints import Snapshot, save_epoch
from ptyonnx.runs.history import best_epoch
from ptyonnx.settings import Settings
from ptyonnx.training.health import HeadSpread, check_heads
from ptyonnx.training.observer import Observer
from ptyonnx_bundles.errors import DivergenceError

__all__ = ["Journal", "Metrics"]


class Metrics(NamedTuple):
    """Metrics of a step, or means over an epoch."""

    loss: float
    r_factor: float


class Journal:
    """History and checkpoints of a training.

    Parameters
    ----------
    directory : Path
        Of the run, where history and checkpoints are written.
    settings : Settings
    observer : Observer
    rows : sequence of mappings
        The history of completed epochs.
    """

    def __init__(
        self, directory: Path, settings: Settings, observer: Observer, rows: Sequence[Mapping[str, float]] = ()
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.observer = observer
        self.rows = [dict(row) for row in rows]
        self._steps: list[Metrics] = []
        self._started = time.monotonic()

    @property
    def epochs_done(self) -> int:
        """Number of complete epochs."""
        return len(self.rows)

    @property
    def finished(self) -> bool:
        """Whether training is finished: all epochs are complete, or the loss has not improved for `patience` epochs."""
        patience = self.settings.patience
        since_best = self.epochs_done - 1 - best_epoch(self.rows)
        return self.epochs_done >= self.settings.epochs or (
            bool(self.rows) and patience is not None and since_best >= patience
        )

    def begin(self, steps_per_epoch: int) -> None:
        """Start the clock, and inform the observer."""
        self._started = time.monotonic()
        self.observer.started(self.settings.epochs, steps_per_epoch, self.epochs_done)

    def step(self, loss: float, r_factor: float) -> None:
        """Record an optimiser step.

        Raises
        ------
        DivergenceError
            The loss is NaN or infinite.
        """
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss became {loss} in epoch {self.epochs_done + 1}, step {len(self._steps) + 1}",
                remedy=f"lower the learning rate (rate={self.settings.rate / 4:g}), check the scale of the probe "
                '(probe_photons="patterns") and the patterns for hot pixels',
            )
        self._steps.append(Metrics(loss, r_factor))
        self.observer.step(loss, r_factor)

    def epoch(self, validation: Metrics, rate: float, spread: HeadSpread, snapshot: Snapshot) -> bool:
        """Record and save an epoch, and decide whether training continues.

        Parameters
        ----------
        validation : Metrics
            Of the held-out patterns.
        rate : float
            Learning rate of the last step.
        spread : HeadSpread
            Of both heads over patterns.
        snapshot : Snapshot
            The network as it is now.

        Returns
        -------
        bool
            Whether training ends.

        Raises
        ------
        CollapseError, DivergenceError, OutputError
        """
        if not math.isfinite(validation.loss):
            raise DivergenceError(
                f"the validation loss became {validation.loss} in epoch {self.epochs_done + 1}",
                remedy=f"lower the learning rate (rate={self.settings.rate / 4:g})",
            )
        row = {
            "epoch": self.epochs_done + 1,
            "loss": sum(step.loss for step in self._steps) / max(1, len(self._steps)),
            "r_factor": sum(step.r_factor for step in self._steps) / max(1, len(self._steps)),
            "val_loss": validation.loss,
            "val_r_factor": validation.r_factor,
            "rate": rate,
            "amplitude_spread": spread.amplitude,
            "phase_spread": spread.phase_rad,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        self._steps = []
        self._started = time.monotonic()
        self.rows.append(row)
        save_epoch(self.directory, self.rows, snapshot)
        self.observer.epoch(row)
        self.check_heads()
        return self.finished

    def check_heads(self) -> None:
        """Stop if the network collapsed in the last epoch.

        Raises
        ------
        CollapseError
        """
        if not self.rows:
            return
        row = self.rows[-1]
        spread = HeadSpread(*(row.get(name, math.inf) for name in ("amplitude_spread", "phase_spread")))
        check_heads(spread, epoch=self.epochs_done, rate=self.settings.rate)
