"""The leading eigenvector is LAPACK's and ARPACK's, and no thread of BLAS works for it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh

from ptyonnx_runtime.lanczos import leading_eigenvector


@pytest.mark.parametrize("size", [1, 2, 20, 21, 200])
def test_it_is_the_eigenvector_that_lapack_finds(size: int) -> None:
    generator = np.random.default_rng(size)
    root = generator.normal(size=(size, size)) + 1j * generator.normal(size=(size, size))
    matrix = root @ root.conj().T
    expected = np.linalg.eigh(matrix)[1][:, -1]
    found = leading_eigenvector(lambda vector: matrix @ vector, np.ones(size, complex), precision=1e-10)
    assert np.linalg.norm(found) == pytest.approx(1)
    assert abs(np.vdot(found, expected)) == pytest.approx(1, abs=1e-12)


def _chain(size: int) -> csr_array:
    """What a long scan is like: a chain of patches, each connected with the next ones; small gaps between eigenvalues."""
    generator = np.random.default_rng(1)
    truth = np.exp(1j * generator.uniform(0, 6, size))
    first = np.repeat(np.arange(size), 12)
    second = np.minimum(first + np.tile(np.arange(12), size), size - 1)
    values = truth[first] * truth[second].conj() * np.exp(0.3j * generator.normal(size=len(first)))
    half = csr_array((values, (first, second)), (size, size))
    return csr_array(half + half.conj().T)


def test_small_gaps_cost_about_as_many_products_as_arpack_needs() -> None:
    matrix, counted = _chain(2000), {"own": 0, "arpack": 0}

    def products(name: str) -> Any:
        def multiply(vector: Any) -> Any:
            counted[name] += 1
            return matrix @ vector.ravel()

        return multiply

    start = np.ones(2000, complex)
    found = leading_eigenvector(products("own"), start, precision=1e-5)
    operator = LinearOperator(matrix.shape, products("arpack"), dtype=complex)
    value = eigsh(operator, k=1, which="LA", v0=start, tol=1e-5)[0][0]
    assert np.vdot(found, matrix @ found).real == pytest.approx(value, rel=1e-5)
    assert np.linalg.norm(matrix @ found - value * found) <= 2e-5 * value
    assert counted["own"] <= 1.5 * counted["arpack"]


# Time that every other thread of the process has computed for, in ns, before and after.
PROGRAM = """
import os, time
from pathlib import Path
import numpy as np
from ptyonnx_runtime.phasing import Overlaps
from ptyonnx_runtime.stitching import Frame, Tiles
from scipy.linalg.blas import zgemv

def others():
    tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

matrix, vector = np.ones((20, 500), complex, order="F"), np.ones(500, complex)
time.sleep(0.3)  # until threads that began with BLAS sleep
before = others()
for _ in range(50):
    zgemv(1, matrix, vector)  # what ARPACK does
time.sleep(0.3)
assert others() > before, "BLAS has threads, and works with them"
generator = np.random.default_rng(0)
values = generator.normal(size=(500, 65, 130)).astype(np.float32)
tiles = Tiles(values, generator.integers(0, 130, (500, 2)), np.zeros((500, 2)), np.ones(500))
with Overlaps(Frame((0, 0), (200, 200)), 64, 500) as overlaps:
    for n in range(0, 500, 4):
        overlaps.add(n, Tiles(*(part[n : n + 4] for part in tiles)))
    before = others()
    assert overlaps.phases().shape == (500,)
print(others() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux's times of single threads")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: BLAS has no threads")
def test_the_phases_of_patches_wake_no_thread_of_blas() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-c", PROGRAM]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    if "BLAS has threads" in outcome.stderr:
        pytest.skip("this SciPy's BLAS has no threads for short vectors")
    assert outcome.stdout == "0\n", outcome.stderr
