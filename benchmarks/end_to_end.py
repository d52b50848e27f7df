"""How much of the network's bare speed is left when a whole scan is reconstructed.

    python benchmarks/end_to_end.py [bundle.onnx] [--patterns 5000] [--compressed]

Reads an NPZ, runs, stitches, computes the residual and writes an HDF5 file; beside it, in the
same process, `InferenceSession.run` over the same patterns already in memory, at the batch size
that suits it best. The two take turns, and the best of each counts. Then, in processes of their
own, peak memory for a tenth of the patterns and for all. Without a bundle, one is made from the
default recipe (the weights do not matter for speed). The scan is the shipped one, repeated with
jittered positions.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from ptyonnx import load_scan, open_bundle, reconstruct
from ptyonnx.formats import write_scan
from ptyonnx_bundles.cores import cores
from ptyonnx_runtime.scan import Scan

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "siemens_star_64.npz"
BATCH_SIZES = (1, 4, 16, 64)
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--patterns", type=int, default=5000)
    parser.add_argument("--compressed", action="store_true", help="read a compressed NPZ")
    parser.add_argument("--memory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(peak_memory(arguments.bundle, arguments.memory))
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or make_example(Path(folder) / "example.onnx")
        scans = {count: Path(folder) / f"{count}.npz" for count in (arguments.patterns // 10, arguments.patterns)}
        for count, path in scans.items():
            make_scan(path, count, compressed=arguments.compressed)
        speed(bundle, scans[arguments.patterns], Path(folder) / "result.h5")
        for count, path in scans.items():
            command = [sys.executable, __file__, str(bundle), "--memory", str(path)]
            print(f"peak memory, {count:6d} patterns {subprocess.check_output(command, text=True).strip():>9} MB")


def make_example(path: Path) -> Path:
    """A bundle of the default recipe, with seeded weights."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bundle_factory import make_bundle

    from ptyonnx_bundles import Recipe

    scan = load_scan(SAMPLE)
    make_bundle(path, Recipe(N=scan.N), probe=scan.probe, mean_photons=scan.mean_photons)
    return path


def make_scan(path: Path, count: int, *, compressed: bool) -> None:
    """Write the sample, repeated with jittered positions."""
    scan = load_scan(SAMPLE)
    index = np.arange(count) % len(scan)
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, (count, 2))
    large = Scan(scan.diffraction[index], scan.positions_px[index] + jitter, scan.probe, scan.object)
    write_scan(path, large)
    if compressed:
        with np.load(path) as arrays:
            np.savez_compressed(path, **arrays)


def speed(bundle: Path, path: Path, result: Path) -> None:
    """Print both throughputs and their ratio."""
    diffraction = load_scan(path).diffraction[:][:, np.newaxis]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(bundle.read_bytes(), options, providers=["CPUExecutionProvider"])

    def bare(size: int, count: int = len(diffraction)) -> None:
        for start in range(0, count, size):
            session.run(None, {"diffraction": diffraction[start : start + size]})

    def whole() -> None:
        reconstruct(open_bundle(bundle), load_scan(path), provider="cpu").save(result)

    def seconds(function: object, *arguments: int) -> float:
        start = time.perf_counter()
        function(*arguments)  # type: ignore[operator]
        return time.perf_counter() - start

    whole()  # caches, imports
    fastest = min(BATCH_SIZES * 3, key=lambda size: seconds(bare, size, len(diffraction) // 8))
    times = [(seconds(bare, fastest), seconds(whole)) for _ in range(ROUNDS)]
    bare_seconds, whole_seconds = (min(column) for column in zip(*times, strict=True))
    count = len(diffraction)
    print(f"session.run alone, batch {fastest:3d}  {count / bare_seconds:9.0f} patterns/s  ({bare_seconds:.2f} s)")
    print(f"read, run, stitch, residual, write {count / whole_seconds:6.0f} patterns/s  ({whole_seconds:.2f} s)")
    print(f"ratio                         {bare_seconds / whole_seconds:11.3f}  (best of {ROUNDS}, {cores()} cores)")


def peak_memory(bundle: Path, path: Path) -> int:
    """Largest resident size of one reconstruction, MB."""
    with tempfile.TemporaryDirectory() as folder:
        reconstruct(open_bundle(bundle), load_scan(path), provider="cpu").save(Path(folder) / "result.h5")
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands a parent's ru_maxrss on to its children; this is the process's own
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) // 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
