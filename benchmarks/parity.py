"""How closely TensorFlow, PyTorch and onnxruntime compute the same, in figures.

    python benchmarks/parity.py [--N 64 128 256] [--threads 1] [--from bundle.onnx --data scan.npz]

Two tables, from `ptyonnx.parity`. The first: largest difference of the complex object between each
two implementations, and how many times the smaller of their own distances from float64 that is
(at most 4 is asked for). Weights are seeded; patterns are those of the shipped scan, then simulated
ones of each N. The second: gradients of both frameworks, largest difference in any layer
relative to the largest gradient of that layer, kernel and bias together (at most 1e-5 is asked for).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import combinations
from pathlib import Path

from ptyonnx import Parity, Scan, check_parity, load_scan
from ptyonnx_bundles import Recipe

SAMPLE = Path(__file__).parent.parent / "samples" / "siemens_star_64.npz"
RATIO_ASKED = 4.0
GRADIENT_ASKED = 1e-5


def main() -> int:
    """Measure and print; 1 if a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--N", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--from", dest="bundle", type=Path, help="a bundle instead of seeded weights")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    scan = load_scan(arguments.data) if arguments.data else None
    cases: list[tuple[Recipe | Path, Scan | None]] = [(Recipe(N=N), scan) for N in arguments.N]
    if arguments.bundle:
        cases = [(arguments.bundle, scan)]
    elif scan is None:
        cases.insert(0, (Recipe(N=64), load_scan(SAMPLE)))
    print(f"{arguments.threads} thread(s) each; load average before {os.getloadavg()[0]:.1f}\n")
    missed = False
    for source, patterns in cases:
        begin = time.perf_counter()
        found = check_parity(source, patterns, threads=arguments.threads, progress=report)
        print(f"## N = {found.recipe['N']}, {found.source} ({time.perf_counter() - begin:.0f} s)\n", flush=True)
        missed |= object_table(found) | gradient_table(found) | (not found.passed)
        print("\n".join(verdict.sentence for verdict in found.verdicts), end="\n\n", flush=True)
    return int(missed)


def report(implementation: str, stage: str) -> None:
    """Say on stderr what is going on."""
    print(f"{implementation}: {stage}", file=sys.stderr, flush=True)


def object_table(found: Parity) -> bool:
    """Print the first table; whether the figure is missed."""
    own = {row.implementation: row.absolute for row in found.rows if row.stage == "object"}
    allowed = next(row.tolerance for row in found.rows if row.stage == "object")
    print("| object, largest difference | | of the smaller distance from float64 |\n|---|---|---|")
    for name, distance in own.items():
        print(f"| {name} – float64 | {distance:.2e} | |")
    ratios = []
    for a, b in combinations(own, 2):
        (agreement,) = found.between("object", a, b)
        ratios.append(agreement.absolute / min(own[a], own[b]))
        print(f"| {a} – {b} | {agreement.absolute:.2e} | **{ratios[-1]:.2f}** |")
    print(f"\nallowed from float64, relative to the largest value: {allowed:.1e}\n")
    return max(ratios) > RATIO_ASKED


def gradient_table(found: Parity) -> bool:
    """Print the second table; whether the figure is missed."""
    relative: dict[str, float] = {}
    for agreement in found.between("gradient", "pytorch", "tensorflow"):
        layer = agreement.key.rpartition(".")[0]
        relative[layer] = max(relative.get(layer, 0.0), agreement.relative)
    worst = max(relative, key=relative.__getitem__)
    middle = sorted(relative.values())[len(relative) // 2]
    print("| gradients, tensorflow – pytorch | |\n|---|---|")
    print(f"| worst layer, {worst} | **{relative[worst]:.1e}** |\n| median layer | {middle:.1e} |")
    beyond = [layer for layer, difference in relative.items() if difference > GRADIENT_ASKED]
    print(f"| layers beyond {GRADIENT_ASKED:.0e} | {', '.join(beyond) or 'none'} of {len(relative)} |\n")
    print(f"pixels at which a rectifier or pooling went another way than in float64: {found.other_branches}\n")
    return relative[worst] > GRADIENT_ASKED


if __name__ == "__main__":
    sys.exit(main())
