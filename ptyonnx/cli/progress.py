"""Progress on stderr: what a verb is doing now, and how far it is.

On a terminal: one line that is replaced. Elsewhere: a line for each epoch, and for each stage that takes longer than
two seconds. With ``--quiet``: nothing. With ``-v``, each stage leaves a line with its duration.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Self

import click

from ptyonnx.cli.output import StatusLine, say_aside, verbosity

__all__ = ["TrainingBars", "announce", "bar", "bars", "stage"]

_TICK_s = 0.2  # between two drawings of the line
_PATIENCE_s = 2.0  # how long a stage may take without a line, where there is no terminal
_SHOW_SECONDS_s = 1.0  # how long a stage takes before its seconds are shown
_SPINNER = "|/-\\"
_KEY = "ptyonnx.status"  # of click's `Context.meta`


@dataclass
class _Stage:
    """One thing that a verb does; with a total, also how much of it is done."""

    text: str
    begun: float = field(init=False)  # of the stage
    started: float = field(init=False)  # of the bar in it, from which its rate follows
    done: int = 0
    initial: int = 0  # done when the bar started; the rate is that of the others
    total: int = 0
    unit: str = ""
    figures: str = ""
    printed: bool = False

    def __post_init__(self) -> None:
        self.begun = self.started = monotonic()

    def line(self, columns: int) -> str:
        """One line for a terminal."""
        seconds = monotonic() - self.started
        if self.total:
            from tqdm import tqdm

            return tqdm.format_meter(
                self.done,
                self.total,
                seconds,
                ncols=columns - 1,
                prefix=self.text,
                unit=self.unit,
                postfix=self.figures,
                initial=self.initial,
            )
        turn = _SPINNER[int(seconds / _TICK_s) % len(_SPINNER)]
        return f"{turn} {self.text} …" + (f" {seconds:.0f} s" if seconds >= _SHOW_SECONDS_s else "")


class _Status:
    """The stages that are under way, of which the innermost is shown, and a thread that draws it."""

    def __init__(self) -> None:
        self._stages: list[_Stage] = []
        self._lock = threading.RLock()
        self._drawn = 0.0
        self._over = threading.Event()
        self._line: StatusLine | None = None
        self._thread: threading.Thread | None = None

    def push(self, stage: _Stage) -> None:
        """Show a stage."""
        with self._lock:
            self._stages.append(stage)
            if self._line is None:
                self._line = StatusLine()
                self._over = threading.Event()
                self._thread = threading.Thread(target=self._tick, args=(self._over,), daemon=True)
                self._thread.start()
            self.draw()

    def remove(self, stage: _Stage) -> None:
        """Show the stage around this one again, or nothing."""
        with self._lock:
            if stage in self._stages:  # not where an interrupt came before it was shown
                self._stages.remove(stage)
            if self._stages:
                self.draw()
                return
            self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._line is not None:
            self._line.clear()
            self._line.close()
        self._line = self._thread = None

    def draw(self, *, at_most_every_s: float = 0.0) -> None:
        """Show the innermost stage now, unless it was shown just before."""
        now = monotonic()
        with self._lock:
            if self._line is None or not self._stages or now - self._drawn < at_most_every_s:
                return
            innermost, self._drawn = self._stages[-1], now
            if self._line.is_terminal:
                self._line.show(innermost.line(self._line.columns))
            elif not innermost.printed and now - innermost.started >= _PATIENCE_s:
                innermost.printed = True
                self._line.show(f"{innermost.text} …")

    def _tick(self, over: threading.Event) -> None:
        while not over.wait(_TICK_s):
            self.draw()


def announce(text: str) -> None:
    """Show a line on a terminal until the next line replaces it: the first that a user sees of a verb."""
    if verbosity() >= 0 and sys.stderr.isatty():
        line = StatusLine()
        line.show(f"{text} …")
        line.close()


@contextmanager
def stage(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done for as long as it is done; stages may contain stages.

    Parameters
    ----------
    text : str
        Begins with a participle: "reading scan.npz".

    Yields
    ------
    callable
        Replaces the text, where a stage has parts.
    """
    shown = _Stage(text)
    with _shown(shown) as status:

        def replace(text: str) -> None:
            if text != shown.text:
                _say_duration(shown)
                now = monotonic()
                shown.text, shown.begun, shown.started, shown.printed = text, now, now, False
                status.draw()

        yield replace


@contextmanager
def bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a stage and, once it is known how much there is to do, a bar.

    Parameters
    ----------
    description : str
        Begins with a participle: "reconstructing".
    unit : str
        What is counted, in the singular.

    Yields
    ------
    callable
        Takes how many are done, of how many.
    """
    shown = _Stage(description, unit=unit)
    with _shown(shown) as status:

        def report(done: int, total: int) -> None:
            first = not shown.total
            if first:
                shown.started, shown.initial = monotonic(), done
            shown.done, shown.total = done, total
            status.draw(at_most_every_s=0.0 if first or done == total else _TICK_s)

        yield report


@contextmanager
def bars(first: str, stages: Mapping[str, tuple[str, str]]) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage of a computation, one after the other.

    Parameters
    ----------
    first : str
        What is done before the first stage.
    stages : mapping of str to (str, str)
        Description and unit of each stage, as in :func:`bar`.

    Yields
    ------
    callable
        Takes the name of a stage, how many are done, of how many.
    """
    name: str | None = None
    with ExitStack() as running:
        report = running.enter_context(bar(first, ""))

        def update(stage: str, done: int, total: int) -> None:
            nonlocal name, report
            if stage != name:
                running.close()
                name, report = stage, running.enter_context(bar(*stages[stage]))
            report(done, total)

        yield update


@contextmanager
def _shown(shown: _Stage, status: _Status | None = None) -> Iterator[_Status]:
    """Show a stage, and with ``-v`` say how long it took."""
    status = status or _running_status()
    quiet = verbosity() < 0
    try:
        if not quiet:
            status.push(shown)
        yield status
    finally:
        if not quiet:
            status.remove(shown)
        _say_duration(shown)


def _say_duration(shown: _Stage) -> None:
    """With ``-v``, say how long a stage took until now."""
    if verbosity() > 0:
        say_aside(f"info: {shown.text}: {monotonic() - shown.begun:.2f} s")


def _running_status() -> _Status:
    """The status of the running command, of which there is one because there is one terminal."""
    context = click.get_current_context(silent=True)
    return _Status() if context is None else context.meta.setdefault(_KEY, _Status())


class TrainingBars:
    """Shows a training: a bar for the running epoch, a line for each complete one.

    Implements :class:`ptyonnx.training.Observer`. Use it as a context.
    """

    def __init__(self) -> None:
        self._epochs = 0
        self._epoch = 0
        self._steps = 0
        self._shown: _Stage | None = None
        self._status = _running_status()
        self._quiet = verbosity() < 0
        self._stages = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stages.close()
        self._shown = None

    def prepare(self, text: str) -> None:
        """Show what is done before the first step and after the last."""
        self._show(_Stage(text))

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:
        """Begin after `epoch` complete epochs."""
        self._epochs, self._steps, self._epoch = epochs, steps_per_epoch, epoch
        self._say(
            f"{epochs} epoch{'s' if epochs > 1 else ''} of {steps_per_epoch} steps"
            + (f", {epoch} of them done earlier" if epoch else "")
        )
        self._show(_Stage(f"{self._next_epoch()}: compiling the first step"))

    def step(self, loss: float, r_factor: float) -> None:
        """Advance the bar by one optimiser step."""
        shown = self._shown
        if shown is None:
            shown = _Stage(self._next_epoch())
            self._show(shown)
        if not shown.total:  # the stage began with the epoch, so that its duration is that of the epoch
            shown.text, shown.unit, shown.started, shown.initial = self._next_epoch(), "step", monotonic(), 1
            shown.total, shown.printed = self._steps, True
        shown.done += 1
        shown.figures = f"loss {loss:.4f}, R {r_factor:.3f}"
        self._status.draw(at_most_every_s=0.0 if shown.done in {1, shown.total} else _TICK_s)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Write the line of an epoch."""
        self._epoch = int(row["epoch"])
        width = len(str(self._epochs))
        self._say(
            f"epoch {self._epoch:{width}d}/{self._epochs}  loss {row['loss']:.4f}  R {row['r_factor']:.3f}"
            f"  validation: loss {row['val_loss']:.4f}  R {row['val_r_factor']:.3f}"
            f"  rate {row['rate']:.1e}  {row['seconds']:.1f} s"
        )
        more = self._epoch < self._epochs
        # where there is no terminal, the line of a complete epoch is its only one
        self._show(_Stage(self._next_epoch(), printed=True) if more else _Stage("saving the run"))

    def note(self, text: str) -> None:
        """Print a note above the bar."""
        self._say(f"note: {text}")

    def _next_epoch(self) -> str:
        return f"epoch {self._epoch + 1}/{self._epochs}"

    def _say(self, line: str) -> None:
        if not self._quiet:
            say_aside(line)

    def _show(self, shown: _Stage) -> None:
        self._stages.close()
        self._stages.enter_context(_shown(shown, self._status))
        self._shown = shown
