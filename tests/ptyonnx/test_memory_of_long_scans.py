"""Memory of a reconstruction depends on the canvas and not on the number of patterns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from bundle_factory import make_bundle

from ptyonnx_bundles import Recipe

N = 32
FEW, MANY = 1000, 13_000
ALLOWED = 1.10  # five kilobytes for each pattern, as they once were, would be 1.5

# The largest resident size of this process itself: Linux hands that of a parent on in ru_maxrss.
SCRIPT = """
import sys
from ptyonnx import load_scan, open_bundle, reconstruct
reconstruct(open_bundle(sys.argv[1]), load_scan(sys.argv[2]), provider="cpu", threads=2).save(sys.argv[3])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def write_scan(path: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    y, x = generator.uniform(0, 60, (2, count))
    y[:2], x[:2] = (0, 60), (0, 60)  # one canvas for all
    patterns = np.resize(generator.gamma(2.0, 5.0, (16, N, N)).astype(np.float32), (count, N, N))
    np.savez(path, diffraction=patterns, xcoords=x, ycoords=y)


def peak_kB(bundle: Path, folder: Path, count: int) -> int:
    scan = folder / f"{count}.npz"
    write_scan(scan, count)
    command = [sys.executable, "-c", SCRIPT, str(bundle), str(scan), str(folder / "result.h5")]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_thirteen_times_the_patterns_take_no_more_memory(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.onnx"
    make_bundle(bundle, Recipe(N=N, filters_scale=0.0625))
    few, many = (peak_kB(bundle, tmp_path, count) for count in (FEW, MANY))
    assert many < ALLOWED * few
