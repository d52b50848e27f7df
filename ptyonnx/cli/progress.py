"""Progress on stderr: bars in a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from ptyonnx.cli.output import safe, say_aside

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["TrainingBars", "bar"]


class TrainingBars:
    """Shows a training: a bar for the running epoch, a line for each one that is done.

    Implements :class:`ptyonnx.training.Observer`. Close it, or use it as a context.
    """

    def __init__(self) -> None:
        self._epochs = 0
        self._epoch = 0
        self._steps = 0
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:
        """Begin after `epoch` complete epochs."""
        self._epochs, self._steps, self._epoch = epochs, steps_per_epoch, epoch
        self._say(
            f"{epochs} epoch{'s' if epochs > 1 else ''} of {steps_per_epoch} steps"
            + (f", {epoch} of them done earlier" if epoch else "")
        )

    def step(self, loss: float, r_factor: float) -> None:
        """Advance the bar by one optimiser step."""
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = _bar(self._steps, f"epoch {self._epoch + 1}/{self._epochs}", "step")
        self._bar.set_postfix_str(f"loss {loss:.4f}, R {r_factor:.3f}", refresh=False)
        self._bar.update()

    def epoch(self, row: Mapping[str, float]) -> None:
        """Write the line of an epoch."""
        self._close()
        self._epoch = int(row["epoch"])
        width = len(str(self._epochs))
        self._say(
            f"epoch {self._epoch:{width}d}/{self._epochs}  loss {row['loss']:.4f}  R {row['r_factor']:.3f}"
            f"  validation: loss {row['val_loss']:.4f}  R {row['val_r_factor']:.3f}"
            f"  rate {row['rate']:.1e}  {row['seconds']:.1f} s"
        )

    def note(self, text: str) -> None:
        """Say something aloud, above the bar."""
        self._say(f"note: {text}")

    def _say(self, line: str) -> None:
        if self._bar is None:
            say_aside(line)
        else:
            self._bar.write(safe(line), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar that is told how much is done, of how much; nothing where there is no terminal."""
    shown: tqdm[Any] | None = None

    def report(done: int, total: int) -> None:
        nonlocal shown
        if not sys.stderr.isatty():
            return
        if shown is None:
            shown = _bar(total, description, unit)
        shown.update(done - shown.n)

    try:
        yield report
    finally:
        if shown is not None:
            shown.close()


def _bar(total: int, description: str, unit: str) -> tqdm[Any]:
    from tqdm import tqdm

    shown: tqdm[Any] = tqdm(
        total=total,
        desc=description,
        unit=unit,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
        file=sys.stderr,
    )
    return shown
