"""How long a user waits for the command line, from pressing return to the prompt.

    python benchmarks/latency.py [bundle.onnx] [--runs 9]

Every figure is the median over processes that are started one after the other, after one that
fills the caches. Without a bundle, one is made from the default recipe (the weights do not
matter for speed). The scan is the first pattern of the shipped one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ptyonnx import load_scan
from ptyonnx.formats import write_scan

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "siemens_star_64.npz"
HELP_SECONDS, RECONSTRUCT_SECONDS = 0.2, 1.0  # targets


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = arguments.bundle or make_example(folder / "example.onnx")
        scan, result = folder / "one.npz", folder / "result.h5"
        write_scan(scan, load_scan(SAMPLE, limit=1))
        for title, target, words in (
            ("python -c pass", None, ("-c", "pass")),
            ("ptyonnx --help", HELP_SECONDS, ("-m", "ptyonnx", "--help")),
            ("ptyonnx train --help", None, ("-m", "ptyonnx", "train", "--help")),
            ("ptyonnx inspect", None, ("-m", "ptyonnx", "inspect", bundle)),
            (
                "ptyonnx reconstruct, one pattern", RECONSTRUCT_SECONDS,
                ("-m", "ptyonnx", "reconstruct", bundle, "--data", scan, "-o", result),
            ),
        ):  # fmt: skip
            seconds = [elapsed(*words) for _ in range(arguments.runs + 1)][1:]
            verdict = "" if target is None else f"   target {target:.1f} s"
            print(f"{title:34s}{statistics.median(seconds):7.3f} s   fastest {min(seconds):.3f}{verdict}")


def make_example(path: Path) -> Path:
    """A bundle of the default recipe, with seeded weights."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bundle_factory import make_bundle

    from ptyonnx_bundles import Recipe

    scan = load_scan(SAMPLE)
    make_bundle(path, Recipe(N=scan.N), probe=scan.probe, mean_photons=scan.mean_photons)
    return path


def elapsed(*words: object) -> float:
    """Seconds of one process."""
    command = [sys.executable, *map(str, words)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
