"""How long a user waits for the command line: for the prompt, and for the first sign that something is done.

    python benchmarks/latency.py [bundle.onnx] [--runs 9]

The first table: from pressing return to the prompt, the median over processes that are started one after the other,
after one that fills the caches. The second: what a terminal shows of every verb. Each runs on a pseudo-terminal for at
most `--watch` seconds; the columns are the time of the first output and the longest time without any. Without a
bundle, one is made from the default recipe (the weights do not matter for speed). The scan of the first table is the
first pattern of the shipped one.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ptyonnx import load_scan
from ptyonnx.formats import write_scan

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "siemens_star_64.npz"
HELP_SECONDS, RECONSTRUCT_SECONDS, FIRST_OUTPUT_SECONDS = 0.2, 1.0, 1.0  # targets


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--watch", type=float, default=20.0, metavar="SECONDS", help="for each verb on a terminal")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = arguments.bundle or make_example(folder / "example.onnx")
        print_prompt_times(bundle, folder, arguments.runs)
        print_first_outputs(bundle, folder, arguments.watch)


def print_prompt_times(bundle: Path, folder: Path, runs: int) -> None:
    """Print the first table."""
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
        seconds = [elapsed(*words) for _ in range(runs + 1)][1:]
        verdict = "" if target is None else f"   target {target:.1f} s"
        print(f"{title:34s}{statistics.median(seconds):7.3f} s   fastest {min(seconds):.3f}{verdict}")


def print_first_outputs(bundle: Path, folder: Path, watch_s: float) -> None:
    """Print the second table."""
    for title, words in verbs(bundle, folder):
        moments, ended = outputs(words, watch_s)
        first = moments[0] if moments else float("inf")
        silence = max(b - a for a, b in zip([0.0, *moments], [*moments, ended], strict=True))
        print(
            f"ptyonnx {title:22s} first output {first:6.3f} s   target {FIRST_OUTPUT_SECONDS:.1f} s"
            f"   longest silence {silence:6.3f} s   of {ended:.1f} s"
        )


def verbs(bundle: Path, folder: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Every verb, with words that make it work."""
    run = folder / "imported"
    yield "inspect", ("inspect", bundle)
    yield "verify", ("verify", bundle)
    yield (
        "reconstruct",
        ("reconstruct", bundle, "--data", SAMPLE, "-o", folder / "all.h5", "--plot", folder / "all.png"),
    )
    yield (
        "simulate",
        ("simulate", "--object", SAMPLE, "--probe", SAMPLE, "--count", 200, "-o", folder / "simulated.npz"),
    )
    yield "diff", ("diff", bundle, bundle, "--data", SAMPLE)
    yield "diff @torch", ("diff", bundle, f"{bundle}@torch")
    yield "parity", ("parity", "--recipe", "N=64,filters_scale=0.125")
    yield "import", ("import", bundle, "--backend", "torch", "-o", run)
    yield "export", ("export", run, "-o", folder / "exported.onnx")
    yield "export autoencoder", ("export", bundle, "--graph", "autoencoder", "-o", folder / "autoencoder.onnx")
    declared = (
        "--system",
        "ptychonn",
        "--zero-frequency",
        "centre",
        "--scale",
        "factor=1",
        "--mean-photons",
        "unknown",
    )
    network = make_foreign_network(folder / "ptychonn.onnx")
    yield "adopt", ("adopt", network, "-o", folder / "adopted.onnx", *declared)
    for backend in ("torch", "tensorflow"):
        yield (
            f"train {backend}",
            ("train", "--backend", backend, "--data", SAMPLE, "-o", folder / backend, "--epochs", 3),
        )


def outputs(words: tuple[object, ...], watch_s: float) -> tuple[list[float], float]:
    """Run a verb on a pseudo-terminal; give the seconds at which it printed, and at which it ended or was ended."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ptyonnx", *map(str, words)]
    start = time.perf_counter()
    moments = []
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        while (left := start + watch_s - time.perf_counter()) > 0:
            if not select.select([ours], [], [], left)[0]:
                break
            try:
                if not os.read(ours, 65536):
                    break
            except OSError:  # the verb has ended
                break
            moments.append(time.perf_counter() - start)
        ended = time.perf_counter() - start
        process.terminate()
    os.close(ours)
    return moments, ended


def make_example(path: Path) -> Path:
    """A bundle of the default recipe, with seeded weights."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bundle_factory import make_bundle

    from ptyonnx_bundles import Recipe

    scan = load_scan(SAMPLE)
    make_bundle(path, Recipe(N=scan.N), probe=scan.probe, mean_photons=scan.mean_photons)
    return path


def make_foreign_network(path: Path) -> Path:
    """A network as another system exports it."""
    sys.path.insert(0, str(ROOT / "tests"))
    from foreign_networks import ptychonn

    path.write_bytes(ptychonn().SerializeToString())
    return path


def elapsed(*words: object) -> float:
    """Seconds of one process."""
    command = [sys.executable, *map(str, words)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
