"""Observers of a training. The command line shows its progress with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Observer", "Unobserved"]


class Observer(Protocol):
    """Receives the events of a training."""

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:
        """Training starts, after `epoch` epochs that are already complete."""

    def step(self, loss: float, r_factor: float) -> None:
        """An optimiser step is complete."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is complete; `row` is its row of the history."""

    def note(self, text: str) -> None:
        """A message for the user, for example that the probe was scaled."""


class Unobserved:
    """An observer that ignores all events."""

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:
        """Do nothing."""

    def step(self, loss: float, r_factor: float) -> None:
        """Do nothing."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
