"""A scan that forked processes and threads share is read right by all of them."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptyonnx.formats import load_scan
from ptyonnx_runtime.stitching.spool import TileSpool
from ptyonnx_runtime.stitching.stitching import Tiles

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"

# What a data loader with forked workers does: each reads single patterns in an order of its own, all at the same time.
WORKERS = textwrap.dedent("""
    import os, sys
    import numpy as np
    from ptyonnx.formats import load_scan

    scan = load_scan(sys.argv[1])
    truth = np.load(sys.argv[1])["diffraction"]
    children = []
    for seed in range(3):
        if not (child := os.fork()):
            order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(scan)), 12))
            wrong = sum(not np.array_equal(scan.diffraction[np.array([i])][0], truth[i]) for i in order)
            os._exit(min(wrong, 255))
        children.append(child)
    wrong = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(f"patterns read wrongly: {wrong}" if any(wrong) else 0)
""")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_forked_workers_read_the_patterns_that_they_ask_for(tmp_path: Path, save: Any) -> None:
    with np.load(SAMPLE) as arrays:
        save(tmp_path / "a.npz", **{key: arrays[key] for key in ("diffraction", "xcoords", "ycoords", "probeGuess")})
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, str(tmp_path / "a.npz")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_scan_neither_uses_nor_moves_the_position_that_processes_share() -> None:
    diffraction: Any = load_scan(SAMPLE).diffraction
    stream = diffraction._stored.stream
    stream.seek(17)
    first = diffraction[:3]
    assert stream.tell() == 17
    stream.seek(40_000)
    np.testing.assert_array_equal(diffraction[:3], first)


def test_threads_put_tiles_away_and_get_their_own_back() -> None:
    def tiles(number: int) -> Tiles:
        values = np.full((3, 9, 18), number, np.float32)
        return Tiles(values, np.zeros((3, 2), np.int64), np.zeros((3, 2)), np.ones(3))

    with TileSpool(8, 600) as spool, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: spool.put_tiles(3 * number, tiles(number)), range(200)))
        found = list(threads.map(lambda number: spool.get_tiles(3 * number, 3), range(200)))
        assert spool._file.tell() == 0
    for number, got in enumerate(found):
        np.testing.assert_array_equal(got.values, tiles(number).values)
