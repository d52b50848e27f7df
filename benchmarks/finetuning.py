"""Whether weights may change frameworks half-way: half the epochs in each, beside all of them in one.

    python benchmarks/finetuning.py [--epochs 10] [--seeds 0-2] [--data SCAN] [--set rate=5e-4]

Default settings but for the epochs; `--set` changes the second half only. Every training is a
`ptyonnx train` in a process of its own, the second half one with `--from` the bundle of the first.

The validation loss is that of the last epoch. Its zero is arbitrary, even a perfect object leaves
the noise of the photons, so that a few per cent of it say little; the R-factor of the held-out
patterns, and the stitched object's phase correlation with the reference, say more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from ptyonnx import load_scan, open_bundle, reconstruct
from ptyonnx.comparison.images import on_canvas, phase_correlation
from ptyonnx.runs.run import Run

SAMPLE = Path(__file__).parent.parent / "samples" / "siemens_star_64.npz"
ALLOWED = 0.03  # relative difference of the final validation loss


class Way(NamedTuple):
    """Which framework trains first, and which goes on, if another one does."""

    first: str
    second: str | None = None

    def __str__(self) -> str:
        return f"{self.first}, then {self.second}" if self.second else f"{self.first} alone"


class Outcome(NamedTuple):
    """What came out of a training."""

    val_loss: float
    val_r_factor: float
    correlation: float


WAYS = (
    Way("tensorflow"), Way("pytorch"), Way("tensorflow", "pytorch"), Way("pytorch", "tensorflow"),
    Way("tensorflow", "tensorflow"),
)  # fmt: skip


def main() -> int:
    """Train all ways, print a table; exit code 1 where a half-and-half training misses."""
    arguments = parse()
    found: dict[Way, list[Outcome]] = {way: [] for way in WAYS}
    for seed in arguments.seeds:
        for way in WAYS:
            found[way].append(run(way, seed, arguments))
            print(f"seed {seed}, {way}: {found[way][-1]}", file=sys.stderr, flush=True)
    print(f"{arguments.epochs} epochs, second half: {' '.join(arguments.assignments) or 'default settings'}")
    print(
        "| | validation loss | beside one framework alone | validation R-factor | phase correlation |\n"
        + "|---" * 5
        + "|"
    )
    missed = False
    for way, outcomes in found.items():
        loss, r_factor, correlation = (mean(figures) for figures in zip(*outcomes, strict=True))
        beside = ""
        if way.second:
            worst = max(worse(outcome, whole) for outcome, whole in zip(outcomes, found[Way(way.second)], strict=True))
            missed |= worst > ALLOWED
            beside = f"{100 * worst:+.2f} % at worst"
        print(f"| {way} | {loss:.4f} | {beside} | {r_factor:.4f} | {correlation:.3f} |")
    return int(missed)


def worse(outcome: Outcome, whole: Outcome) -> float:
    """How much higher the loss is, relative to that of the whole training in one framework."""
    return (outcome.val_loss - whole.val_loss) / abs(whole.val_loss)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="in all [10]")
    parser.add_argument("--seeds", type=seeds, default=seeds("0"), metavar="0-2", help="one, a list or a range [0]")
    parser.add_argument(
        "--data", type=Path, default=SAMPLE, metavar="SCAN", help="with a reference object [the sample]"
    )
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def seeds(text: str) -> list[int]:
    """Seeds from "3", "0,2,5" or "0-9"."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]


def run(way: Way, seed: int, arguments: argparse.Namespace) -> Outcome:
    """One training, or two of which the second goes on from the bundle of the first."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "first"
        epochs = arguments.epochs // 2 if way.second else arguments.epochs
        train(directory, way.first, arguments.data, ["--seed", seed, "--epochs", epochs])
        if way.second:
            words = ["--seed", seed, "--epochs", arguments.epochs - epochs, "--from", directory / "bundle.onnx"]
            words += [word for assignment in arguments.assignments for word in ("--set", assignment)]
            directory = Path(folder) / "second"
            train(directory, way.second, arguments.data, words)
        return judge(directory, arguments.data)


def train(directory: Path, backend: str, data: Path, words: Sequence[object]) -> None:
    """Train in a child process."""
    command = ["-m", "ptyonnx", "train", "--backend", backend, "--data", data, "-o", directory, *words]
    child = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    if child.returncode:
        raise SystemExit(f"{backend} ended with {child.returncode}: {child.stderr.strip()}")


def judge(directory: Path, data: Path) -> Outcome:
    """Figures of the last epoch, and of the object that the bundle makes of the scan."""
    scan = load_scan(data)
    if scan.object is None:
        raise SystemExit(f"{data}: no reference object to compare with")
    metrics = Run.open(directory).metrics()
    result = reconstruct(open_bundle(directory / "bundle.onnx"), scan, provider="cpu")
    correlation = phase_correlation(on_canvas(result.object, result.origin_px, scan.object.shape), scan.object)
    return Outcome(metrics["val_loss"], metrics["val_r_factor"], correlation)


if __name__ == "__main__":
    sys.exit(main())
