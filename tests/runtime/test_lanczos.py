"""The leading eigenvector is LAPACK's and ARPACK's, and no thread of BLAS works for it."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh

from ptyonnx_runtime.stitching.lanczos import leading_eigenvector


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


# Time that all other threads of the process have computed for, in ns: what it has computed for less what this thread has.
PROGRAM = """
import threading, time
import numpy as np
from scipy.linalg.blas import zgemv
from ptyonnx_runtime.stitching import phasing
from ptyonnx_runtime.stitching.stitching import Frame, Tiles

def others():
    return time.process_time_ns() - time.thread_time_ns()

def work():
    while time.thread_time_ns() < 5_000_000:
        pass

zgemv(1, np.ones((20, 500), complex, order="F"), np.ones(500, complex))
time.sleep(0.3)  # until threads that began with BLAS sleep
generator = np.random.default_rng(0)
values = generator.normal(size=(500, 65, 130)).astype(np.float32)
tiles = Tiles(values, generator.integers(0, 130, (500, 2)), np.zeros((500, 2)), np.ones(500))
with phasing.Overlaps(Frame((0, 0), (200, 200)), 64, 500) as overlaps:
    for n in range(0, 500, 4):
        overlaps.add(n, Tiles(*(part[n : n + 4] for part in tiles)))
    before = others()
    assert overlaps.phases().shape == (500,)
    phases = others()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(phases - before, others() - phases)
"""


def test_the_phases_of_patches_wake_no_thread_of_blas() -> None:
    """Where BLAS has no threads, or there is one core for them, none can be woken; the clocks are seen to work anywhere."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", PROGRAM]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    phases, working = map(int, outcome.stdout.split())
    assert working >= 5_000_000
    assert phases < 1_000_000  # two clocks are not read at once: a few us; a thread of BLAS spins for 20 ms and more
