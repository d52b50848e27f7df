"""How good the default settings are: scans × backends × seeds, trained, exported, reconstructed, judged.

    python benchmarks/quality.py [--scans star64 weak strong] [--backends pytorch tensorflow] [--seeds 0-4]
    python benchmarks/quality.py --scans star128 --star128 siemens_star_128.npz --set epochs=20
    python benchmarks/quality.py --table quality.jsonl

Every training is a `ptyonnx train` in a process of its own; `reconstruct` follows in this one.
Each finished training is a line of the file of `--json`; one that stands there already is not
repeated, so that an interrupted run goes on where it was (after a change of the code, begin a new
file). The tables are printed at the end.
A training counts as collapsed if it said so itself, or if its object has nothing to do with the
reference.

| scan | |
|---|---|
| star64 | the shipped sample, against its iterative reconstruction |
| star128 | the same scan at N = 128, from a file that is not shipped |
| weak | simulated, phase range 0.3 rad, 1e6 photons per pattern, against the truth |
| strong | simulated, phase range 3 rad, 1e7 photons per pattern, 2 probe modes, against the truth |
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import skimage.data
from PIL import Image

from ptyonnx import load_scan, open_bundle, reconstruct, simulate
from ptyonnx.backends import BACKENDS
from ptyonnx.comparison.images import on_canvas, phase_correlation
from ptyonnx.formats import write_scan
from ptyonnx.runs.run import Run
from ptyonnx.settings.configuration import configure
from ptyonnx.simulation import add_modes, object_from_images, scan_positions
from ptyonnx_bundles.cores import cores
from ptyonnx_runtime.scan import Scan

SAMPLE = Path(__file__).parent.parent / "samples" / "siemens_star_64.npz"
CACHE = Path(tempfile.gettempdir()) / "ptyonnx-benchmarks"
OBJECT_SHAPE = (200, 200)
STEP_px = 7.0
NO_LIKENESS = 0.2  # correlation: vacuum has 0.0, the worst network that learned anything 0.4


class Sample(NamedTuple):
    """A simulated scan: range of the phase in rad, photons per pattern, probe modes."""

    phase_range_rad: float
    photons: float
    modes: int


SIMULATED = {"weak": Sample(0.3, 1e6, 1), "strong": Sample(3.0, 1e7, 2)}
SCANS = ("star64", "star128", *SIMULATED)


class Training(NamedTuple):
    """What is trained."""

    scan: str
    backend: str
    seed: int
    assignments: tuple[str, ...]

    def key(self) -> str:
        """Equal for equal trainings: defaults that have changed since count as others."""
        settings = configure(None, {"seed": str(self.seed)}, self.assignments).settings
        return f"{self.scan} {self.backend} {settings.model_dump_json()}"


def main() -> None:
    """Train what is missing, then print."""
    arguments = parse()
    if arguments.table is None:
        log = arguments.json
        log.parent.mkdir(parents=True, exist_ok=True)
        scans = {name: scan_file(name, arguments.star128) for name in arguments.scans}
        done = {row["key"] for row in read(log)}
        print(f"{log} holds {len(done)} trainings", flush=True)
        for seed in arguments.seeds:
            for name, path in scans.items():
                for backend in arguments.backends:
                    training = Training(name, backend, seed, tuple(sorted(arguments.assignments)))
                    if training.key() not in done:
                        row = {"key": training.key(), **run(training, path, cores())}
                        with log.open("a", encoding="utf-8") as stream:
                            stream.write(json.dumps(row) + "\n")
                        print(line(row), flush=True)
    rows = read(arguments.table or arguments.json)
    print("\n" + "\n\n".join(table(rows) for table in (trainings, summary)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", nargs="+", default=["star64"], choices=SCANS)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--seeds", type=seeds, default=seeds("0"), metavar="0-9", help="one, a list or a range")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--star128", type=Path, metavar="FILE", help="the sample at N = 128")
    parser.add_argument("--json", type=Path, default=CACHE / "quality.jsonl", metavar="FILE", help="[%(default)s]")
    parser.add_argument("--table", type=Path, metavar="FILE", help="train nothing, print what this file holds")
    arguments = parser.parse_args()
    if "star128" in arguments.scans and arguments.star128 is None and arguments.table is None:
        parser.error("star128 needs --star128 FILE")
    return arguments


def seeds(text: str) -> list[int]:
    """Seeds from "3", "0,2,5" or "0-9"."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]


def scan_file(name: str, star128: Path) -> Path:
    """The scan's file; a simulated one is made if it is not there yet."""
    if name not in SIMULATED:
        return star128 if name == "star128" else SAMPLE
    path = CACHE / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scan(path, simulated(SIMULATED[name]))
    return path


def simulated(sample: Sample) -> Scan:
    """Phase and amplitude from two photographs, illuminated by the shipped scan's probe."""
    shipped = load_scan(SAMPLE)
    assert shipped.probe is not None
    with tempfile.TemporaryDirectory() as folder:
        phase, amplitude = (Path(folder) / f"{name}.png" for name in ("camera", "brick"))
        Image.fromarray(skimage.data.camera()).save(phase)
        Image.fromarray(skimage.data.brick()).save(amplitude)
        truth = object_from_images(
            phase, amplitude, phase_range_rad=sample.phase_range_rad, amplitude_range=(0.9, 1.0), shape=OBJECT_SHAPE
        )
    probe = add_modes(shipped.probe, sample.modes)
    return simulate(
        truth, probe, scan_positions("fermat", OBJECT_SHAPE, shipped.N, step_px=STEP_px), photons=sample.photons
    )


def run(training: Training, path: Path, threads: int) -> dict[str, Any]:
    """Train in a child process, reconstruct, judge."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        words = ["--backend", training.backend, "--data", path, "-o", directory, "--seed", training.seed]
        words += [word for assignment in training.assignments for word in ("--set", assignment)]
        start = time.perf_counter()
        command = [sys.executable, "-m", "ptyonnx", "train", *map(str, words)]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        found = {**training._asdict(), "seconds": time.perf_counter() - start, "threads": threads}
        if child.returncode == 0:
            return {**found, "message": "", **judge(directory, load_scan(path))}
        if not (directory / "run.json").exists() or Run.open(directory).record.state != "failed":
            raise SystemExit(child.stderr.strip())  # not a matter of quality
        message = Run.open(directory).record.message
        return {**found, "message": message, "collapsed": "collapsed" in message}


def judge(directory: Path, scan: Scan) -> dict[str, Any]:
    """Reconstruct the scan with the run's bundle and compare with its object."""
    assert scan.object is not None
    finished = Run.open(directory)
    result = reconstruct(open_bundle(directory / "bundle.onnx"), scan, provider="cpu")
    correlation = phase_correlation(on_canvas(result.object, result.origin_px, scan.object.shape), scan.object)
    return {
        "correlation": correlation,
        "r_factor": result.r_factor,
        "vacuum_r_factor": result.vacuum_r_factor,
        "epochs": len(finished.history),
        "metrics": finished.metrics(),
        "collapsed": correlation < NO_LIKENESS,
    }


def read(path: Path) -> list[dict[str, Any]]:
    """All finished trainings of a file."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def trainings(rows: Sequence[dict[str, Any]]) -> str:
    """One line per training."""
    head = (
        "| scan | backend | seed | settings | phase correlation | R-factor | vacuum R | epochs | seconds | threads | |"
    )
    ordered = sorted(rows, key=lambda row: (row["scan"], row["backend"], row["assignments"], row["seed"]))
    return "\n".join([head, "|---" * 11 + "|", *map(line, ordered)])


def line(row: dict[str, Any]) -> str:
    """One training as a line of the table."""
    figures = (f"{row[name]:.3f}" if name in row else "" for name in ("correlation", "r_factor", "vacuum_r_factor"))
    verdict = ("collapsed " if row["collapsed"] else "") + row["message"]
    words = [row["scan"], row["backend"], row["seed"], " ".join(row["assignments"]) or "default", *figures]
    words += [row.get("epochs", ""), f"{row['seconds']:.0f}", row["threads"], verdict.strip()]
    return f"| {' | '.join(map(str, words))} |"


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """One line per scan, backend and settings, over all seeds."""
    lines = [
        "| scan | backend | settings | phase correlation, lowest | median | R-factor, median | seconds, median | collapsed |",
        "|---" * 8 + "|",
    ]
    for key in sorted({group(row) for row in rows}):
        members = [row for row in rows if group(row) == key]
        collapsed = sum(row["collapsed"] for row in members)
        failed = sum(bool(row["message"]) and not row["collapsed"] for row in members)
        verdict = f"{collapsed} of {len(members)} seeds" + (f", {failed} failed otherwise" if failed else "")
        correlation = figure(members, "correlation", min), figure(members, "correlation", median)
        words = [
            *key,
            *correlation,
            figure(members, "r_factor", median),
            figure(members, "seconds", median, 0),
            verdict,
        ]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def group(row: dict[str, Any]) -> tuple[str, str, str]:
    """Trainings that differ in the seed only."""
    return row["scan"], row["backend"], " ".join(row["assignments"]) or "default"


def figure(
    rows: Iterable[dict[str, Any]], name: str, statistic: Callable[[list[float]], float], digits: int = 3
) -> str:
    """A statistic over those trainings that came to an end."""
    values = [row[name] for row in rows if name in row]
    return f"{statistic(values):.{digits}f}" if values else ""


if __name__ == "__main__":
    main()
