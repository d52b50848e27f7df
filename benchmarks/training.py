"""How much training speed is left beside the same network written plainly in its framework.

    python benchmarks/training.py [--backends pytorch tensorflow] [--epochs 12] [--threads 2] [--set key=value]

On the shipped scan with default settings, `ptyonnx.train` as it is (Lightning or Keras, journal,
R-factor, validation, watch for collapse, checkpoints) and beside it a plain loop: the layers
written out, the framework's own FFT, Adam, clipping, the same batches, and nothing else. Each is
a process of its own; they take turns epoch by epoch, and must begin with the same losses. Two
ratios are printed: of the optimiser steps alone, and of whole epochs, in which ptyonnx also
validates, watches and saves while the plain loop does not. Ratios are medians over epochs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from ptyonnx import load_scan
from ptyonnx.backends import BACKENDS
from ptyonnx.cli.framework import load_quietly
from ptyonnx.exchange.training import train
from ptyonnx.settings import Settings
from ptyonnx.settings.configuration import configure
from ptyonnx.training import Unobserved
from ptyonnx.training.task import Task, prepare

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "siemens_star_64.npz"
OURS, PLAIN = "ptyonnx", "plain"
WARM_UP = 2  # epochs that do not count: tracing, first touches of memory
REST_s = 0.05
COMPARED = 4  # first steps whose losses must be equal; later ones drift apart, since Adam amplifies rounding
LOSS_TOLERANCE = 1e-4  # relative


class Epoch(NamedTuple):
    """One epoch of one contender.

    Attributes
    ----------
    losses : tuple of float
        Of every step.
    step_s : float
        Seconds per optimiser step.
    whole_s : float
        Seconds of the epoch with all that belongs to it.
    """

    losses: tuple[float, ...]
    step_s: float
    whole_s: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--data", type=Path, default=SAMPLE)
    parser.add_argument("--epochs", type=int, default=12, help=f"{WARM_UP} of them to warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    fixed = [f"epochs={arguments.epochs}", f"threads={arguments.threads}", "device=cpu"]
    settings = configure(None, {}, (*arguments.assignments, *fixed)).settings
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", OMP_NUM_THREADS=str(arguments.threads))
    task = prepare(load_scan(arguments.data), settings, Unobserved())
    load = f"load average before {os.getloadavg()[0]:.1f}"
    print(f"{arguments.data.name}, {arguments.threads} threads, patterns/s; {load}\n")
    print("| | ptyonnx, steps | plain, steps | ratio | ptyonnx, whole epochs | ratio to plain steps |")
    print("|---|---|---|---|---|---|")
    for backend in arguments.backends:
        with processes(backend, arguments.data, settings) as pipes:
            print(row(backend, take_turns(pipes, arguments.epochs), task), flush=True)


def take_turns(pipes: Mapping[str, Connection], epochs: int) -> dict[str, list[Epoch]]:
    """Let both train, an epoch each in turn."""
    done: dict[str, list[Epoch]] = {name: [] for name in pipes}
    for _ in range(epochs):
        for name, pipe in pipes.items():
            time.sleep(REST_s)
            pipe.send("go")
            done[name].append(pipe.recv())
            if len(done[PLAIN]) == 1:
                check(*(rows[0].losses[:COMPARED] for rows in done.values()))
    return {name: rows[WARM_UP:] for name, rows in done.items()}


def check(ours: Sequence[float], plain: Sequence[float]) -> None:
    """Both begin with the same losses, or they are not the same training."""
    if not np.allclose(ours, plain, rtol=LOSS_TOLERANCE, atol=0):
        raise SystemExit(f"not the same training: losses {ours}, plainly {plain}")


def row(backend: str, done: Mapping[str, Sequence[Epoch]], task: Task) -> str:
    """One line of the table."""
    patterns = task.training.batch_size * task.training.groups_per_region * task.training.settings.channels
    steps = {name: patterns / median(epoch.step_s for epoch in rows) for name, rows in done.items()}
    whole = patterns * task.training.steps_per_epoch / median(epoch.whole_s for epoch in done[OURS])
    pairs = list(zip(done[OURS], done[PLAIN], strict=True))
    by_step = median(plain.step_s / ours.step_s for ours, plain in pairs)
    by_epoch = median(plain.step_s * task.training.steps_per_epoch / ours.whole_s for ours, plain in pairs)
    return (
        f"| {backend} | {steps[OURS]:.0f} | {steps[PLAIN]:.0f} | **{by_step:.3f}** | {whole:.0f} | **{by_epoch:.3f}** |"
    )


@contextmanager
def processes(backend: str, data: Path, settings: Settings) -> Iterator[dict[str, Connection]]:
    """Two processes of one framework, each waiting before every epoch."""
    context = multiprocessing.get_context("spawn")
    pipes, children = {}, []
    for name, target in ((OURS, train_ours), (PLAIN, train_plainly)):
        pipes[name], theirs = context.Pipe()
        child = context.Process(target=target, args=(theirs, backend, data, settings), daemon=True)
        child.start()
        theirs.close()
        children.append(child)
    try:
        yield pipes
    finally:
        for pipe in pipes.values():
            pipe.close()
        for child in children:
            child.join()


def train_ours(pipe: Connection, backend: str, data: Path, settings: Settings) -> None:
    """Child process: `ptyonnx.train`, held at the end of every epoch."""
    load_quietly(backend)
    with tempfile.TemporaryDirectory() as folder:
        train(backend, load_scan(data), settings, Path(folder) / "run", observer=Turns(pipe))


class Turns(Unobserved):
    """An observer that waits for its turn before every epoch, and times it."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.steps: list[float] = []
        self.losses: list[float] = []
        self.begin = 0.0

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:  # noqa: ARG002 - the protocol's names
        """Wait for the first turn."""
        self.wait()

    def step(self, loss: float, r_factor: float) -> None:  # noqa: ARG002 - the protocol's names
        """Note when it was done."""
        self.steps.append(time.perf_counter())
        self.losses.append(loss)

    def epoch(self, row: Mapping[str, float]) -> None:  # noqa: ARG002 - the protocol's names
        """Report; what follows an epoch, such as checkpoints, counts with the next one."""
        step_s = (self.steps[-1] - self.steps[0]) / (len(self.steps) - 1)
        self.pipe.send(Epoch(tuple(self.losses), step_s, time.perf_counter() - self.begin))
        self.wait()

    def wait(self) -> None:
        """Until the other one has done its epoch."""
        self.steps, self.losses = [], []
        try:
            self.pipe.recv()
        except EOFError:  # that was the last epoch
            return
        self.begin = time.perf_counter()


def train_plainly(pipe: Connection, backend: str, data: Path, settings: Settings) -> None:
    """Child process: the plain loop."""
    load_quietly(backend)
    task = prepare(load_scan(data), settings, Unobserved())
    sys.path.insert(0, str(ROOT))
    step = import_module(f"benchmarks.plain_{backend}").make_step(task)
    done = 0
    for number in range(settings.epochs):
        pipe.recv()
        losses, times = [], []
        begin = time.perf_counter()
        for members in task.epoch(number):
            losses.append(step(*task.training.batch(members), float(task.rates[done])))
            times.append(time.perf_counter())
            done += 1
        whole_s = time.perf_counter() - begin
        pipe.send(Epoch(tuple(losses), (times[-1] - times[0]) / (len(times) - 1), whole_s))


if __name__ == "__main__":
    main()
