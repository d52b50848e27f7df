"""Read files that were changed at random, of every kind that is read: tracebacks, hangs and memory.

python benchmarks/fuzz.py --cases 300000 --seed 1
python benchmarks/fuzz.py --cases 20000 --seed 1 --kinds probe result
python benchmarks/fuzz.py --seed 1 --kinds result.h5 --index 17 --save case.h5     # the file of a finding
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.fuzzing import case, fuzz, kinds_of


def main() -> int:
    """Fuzz; the exit code is 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="index of the first case of each kind, to go on")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=[], help="kinds of files, by the beginning of their names")
    parser.add_argument("--index", type=int, help="with --save: the case to write")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    kinds = list(kinds_of(given.kinds))
    if given.save is not None:
        given.save.write_bytes(case(kinds[0], given.seed, given.index))
        return 0
    outcome = fuzz(given.cases, seed=given.seed, kinds=kinds, workers=given.workers, first=given.first)
    for finding in sorted(outcome.findings):
        print(f"{finding.kind} {finding.index}: {finding.what}")
    print(
        f"{outcome.cases} cases of {len(kinds)} kinds, seed {given.seed}, from {given.first}: {outcome.refused} refused, "
        f"{len(outcome.findings)} findings, peak {outcome.peak_kB / 1000:.0f} MB, {outcome.seconds:.0f} s"
    )
    return bool(outcome.findings)


if __name__ == "__main__":
    sys.exit(main())
