"""Files changed at random, of every kind that is read; `benchmarks/fuzz.py` does the same for as long as one likes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.fuzzing import LARGEST_kB, Outcome, _run_directory, case
from hostile.readers import READERS
from hostile.seeds import SEEDS

from ptyonnx_bundles.errors import PtyonnxError

NO_NETWORKS = {"ptychopinn", "keras archive"}  # too small to be one; what they hold is read before that is said


@pytest.mark.parametrize("kind", READERS)
def test_what_is_changed_was_good(tmp_path: Path, kind: str) -> None:
    """A fuzzer whose files are refused at the first look finds nothing."""
    suffix, good, _ = SEEDS[kind]()
    _run_directory(tmp_path / "run", {})
    read = 0
    for number, content in enumerate(good):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(content)
        try:
            READERS[kind](path)
            read += 1
        except PtyonnxError as error:
            print(kind, number, error)  # noqa: T201 - shown where the test fails
    assert read or kind in NO_NETWORKS


def test_cases_are_the_same_each_time() -> None:
    assert case("result.h5", 1, 5) == case("result.h5", 1, 5)
    assert len({case("scan", 1, index) for index in range(20)}) > 15


def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line_soon_and_in_little_memory() -> None:
    """In a process of its own: workers are forked, and what frameworks take would count as theirs."""
    program = "import json; from hostile.fuzzing import fuzz; print(json.dumps(fuzz(1000, seed=2)))"
    tests = Path(__file__).parents[1]
    outcome = Outcome(*json.loads(subprocess.check_output([sys.executable, "-c", program], cwd=tests, timeout=300)))
    assert outcome.findings == []
    assert outcome.refused > outcome.cases / 2
    assert outcome.peak_kB < LARGEST_kB
