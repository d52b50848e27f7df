"""How much longer work takes beside one busy process: training in both frameworks, and `reconstruct`.

    python benchmarks/sharing.py [--what pytorch tensorflow reconstruct] [--pairs 4] [--threads 0] [--patterns 260]

The work is done in a process of its own, an epoch or a scan at a time. Beside it stands a process of one thread that
computes without end, and is halted for every other one. It has a session of its own, as that of another user has. On
two cores the fair share is a factor of 2 at most.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from ptyonnx import Settings, load_scan, reconstruct
from ptyonnx.backends import BACKENDS
from ptyonnx.cli.framework import load_quietly
from ptyonnx.exchange.training import train
from ptyonnx.training import Unobserved
from ptyonnx_bundles import Recipe, read_bundle

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "siemens_star_64.npz"
BUSY = "while True: pass"
SETTLING_s = 0.3  # until the kernel has spread the threads over the cores


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", nargs="+", default=[*BACKENDS, "reconstruct"], choices=[*BACKENDS, "reconstruct"])
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--patterns", type=int, default=260)
    arguments = parser.parse_args()
    print("| | quiet, s | beside a busy process, s | ratio |\n|---|---|---|---|")
    for what in arguments.what:
        quiet, shared = take_turns(what, arguments)
        print(f"| {what} | {quiet:.3f} | {shared:.3f} | **{shared / quiet:.2f}** |", flush=True)


def take_turns(what: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Median seconds of a unit of work, quiet and beside a busy process, after one that does not count."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    work = reconstruct_on_demand if what == "reconstruct" else train_on_demand
    child = context.Process(target=work, args=(theirs, what, arguments), daemon=True)
    child.start()
    theirs.close()
    busy = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
    seconds: dict[int, list[float]] = {signal.SIGSTOP: [], signal.SIGCONT: []}
    try:
        for state in (signal.SIGSTOP, *(signal.SIGSTOP, signal.SIGCONT) * arguments.pairs):
            os.kill(busy.pid, state)
            time.sleep(SETTLING_s)
            pipe.send("go")
            seconds[state].append(pipe.recv())
    finally:
        busy.kill()
        busy.wait()
        pipe.close()  # the child ends by itself: Lightning takes no notice of SIGTERM
        child.join()
    return median(seconds[signal.SIGSTOP][1:]), median(seconds[signal.SIGCONT])


class OnDemand(Unobserved):
    """An observer that waits to be asked before every epoch, and times it."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.begin = 0.0

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:  # noqa: ARG002 - the protocol's names
        """Wait for the first epoch."""
        self.wait()

    def epoch(self, row: Mapping[str, float]) -> None:  # noqa: ARG002 - the protocol's names
        """Report, and wait for the next."""
        self.pipe.send(time.perf_counter() - self.begin)
        self.wait()

    def wait(self) -> None:
        """Until asked."""
        try:
            self.pipe.recv()
        except EOFError:  # that was the last epoch
            return
        self.begin = time.perf_counter()


def train_on_demand(pipe: Connection, backend: str, arguments: argparse.Namespace) -> None:
    """Child process: `ptyonnx.train`, an epoch at a time."""
    load_quietly(backend)
    settings = Settings(
        epochs=2 * arguments.pairs + 1, threads=arguments.threads, device="cpu", n_subsample=arguments.patterns
    )
    with tempfile.TemporaryDirectory() as folder:
        train(backend, load_scan(SAMPLE), settings, Path(folder) / "run", observer=OnDemand(pipe))


def reconstruct_on_demand(pipe: Connection, _: str, arguments: argparse.Namespace) -> None:
    """Child process: `reconstruct`, a scan at a time."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bundle_factory import make_bundle

    scan = load_scan(SAMPLE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.onnx"
        make_bundle(path, Recipe(N=scan.N), probe=scan.probe, mean_photons=scan.mean_photons)
        bundle = read_bundle(path)
    while True:
        try:
            pipe.recv()
        except EOFError:  # that was the last one
            return
        begin = time.perf_counter()
        reconstruct(bundle, scan, threads=arguments.threads)
        pipe.send(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
