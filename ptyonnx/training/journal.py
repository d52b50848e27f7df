"""What happened so far: the history on disk, the best epoch, and whether training may go on.

Both backends report here and obey the same rules for the best checkpoint, early stopping,
divergence and collapse.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import NamedTuple

from ptyonnx.history import best_epoch, read_history, write_history
from ptyonnx.settings import Settings
from ptyonnx.training.health import HeadSpread, check_heads
from ptyonnx.training.observer import Observer
from ptyonnx_bundles.errors import DivergenceError, RunError

__all__ = ["Journal", "Metrics", "Verdict"]


class Metrics(NamedTuple):
    """Figures of one pass over patterns."""

    loss: float
    r_factor: float


class Verdict(NamedTuple):
    """What to do after an epoch."""

    best: bool
    stop: bool


class Journal:
    """The memory of a training.

    Parameters
    ----------
    path : Path
        The history, a CSV file with one line per epoch.
    settings : Settings
    observer : Observer
    epochs_done : int
        Epochs in the checkpoint from which training goes on; later lines are dropped.
    """

    def __init__(self, path: Path, settings: Settings, observer: Observer, epochs_done: int = 0) -> None:
        self.path = path
        self.settings = settings
        self.observer = observer
        self.rows = read_history(path)[:epochs_done] if epochs_done else []
        if len(self.rows) != epochs_done:
            raise RunError(
                "the history is shorter than the checkpoint", file=path, found=f"{len(self.rows)} epochs",
                expected=f"{epochs_done}", remedy="train anew into another directory",
            )  # fmt: skip
        self._steps: list[Metrics] = []
        self._started = time.monotonic()

    @property
    def epochs_done(self) -> int:
        """Complete epochs."""
        return len(self.rows)

    def step(self, loss: float, r_factor: float) -> None:
        """Note one optimiser step.

        Raises
        ------
        DivergenceError
            The loss is NaN or infinite.
        """
        if not math.isfinite(loss):
            raise DivergenceError(
                f"the loss became {loss} in epoch {self.epochs_done + 1}, step {len(self._steps) + 1}",
                remedy=f"lower the learning rate (--set rate={self.settings.rate / 4:g}), check the scale of the probe "
                "(--set probe_photons=patterns) and the patterns for hot pixels",
            )
        self._steps.append(Metrics(loss, r_factor))
        self.observer.step(loss, r_factor)

    def epoch(self, validation: Metrics, rate: float, spread: HeadSpread) -> Verdict:
        """Note one epoch and judge it.

        Parameters
        ----------
        validation : Metrics
            Of the held-out patterns.
        rate : float
            Learning rate of the last step.
        spread : HeadSpread
            How much the heads depend on their input.

        Raises
        ------
        CollapseError, DivergenceError
        """
        if not math.isfinite(validation.loss):
            raise DivergenceError(
                f"the validation loss became {validation.loss} in epoch {self.epochs_done + 1}",
                remedy=f"lower the learning rate (--set rate={self.settings.rate / 4:g})",
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
        write_history(self.path, self.rows)
        self.observer.epoch(row)
        check_heads(spread, epoch=self.epochs_done, rate=self.settings.rate)
        patience = self.settings.patience
        since_best = self.epochs_done - 1 - best_epoch(self.rows)
        return Verdict(best=since_best == 0, stop=patience is not None and since_best >= patience)
