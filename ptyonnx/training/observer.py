"""Who watches a training: the command line shows bars, a library user may show nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["Observer", "Unobserved"]


class Observer(Protocol):
    """Is told what happens while a network trains."""

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:
        """Training begins after `epoch` epochs that an earlier run completed."""

    def step(self, loss: float, r_factor: float) -> None:
        """One optimiser step is done."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """One epoch is done; `row` is its line of the history."""

    def note(self, text: str) -> None:
        """Something the user should know, such as a scaled probe."""


class Unobserved:
    """An observer that keeps silent."""

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:
        """Say nothing."""

    def step(self, loss: float, r_factor: float) -> None:
        """Say nothing."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""
