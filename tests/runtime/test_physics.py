"""The forward model against scipy.fft and closed forms, in three array libraries."""

import importlib
from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
from float32_bounds import of_sums
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ptyonnx_runtime import physics
from ptyonnx_runtime.physics import Pair

pytestmark = pytest.mark.numerical

SIZES = [32, 64, 96, 128, 256]


def centred_fft(field: NDArray[Any]) -> Any:
    shifted = scipy.fft.ifftshift(field, axes=(-2, -1))
    return scipy.fft.fftshift(scipy.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


def random_complex(*shape: int, seed: int = 0) -> Any:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(np.complex64)


def test_the_dft_matrix_is_unitary_and_symmetric() -> None:
    for N in SIZES:
        F = physics.dft_matrix(N, np.float64)
        matrix = F.real + 1j * F.imag
        np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(N), atol=1e-12)
        np.testing.assert_array_equal(matrix, matrix.T)


@pytest.mark.parametrize("N", SIZES)
def test_propagation_is_the_centred_unitary_fft(N: int) -> None:
    wave = random_complex(3, N, N)
    far = physics.propagate(physics.pair_from_complex(wave), physics.dft_matrix(N))
    atol = np.sqrt(2) * of_sums(2 * N, 2 * N, size=float(np.abs(wave).max()))  # rows, then columns; both parts
    np.testing.assert_allclose(far.real + 1j * far.imag, centred_fft(wave), rtol=0, atol=atol)


def test_a_flat_wave_meets_the_detector_in_its_centre() -> None:
    N = 64
    wave = Pair(np.ones((N, N), np.float32), np.zeros((N, N), np.float32))
    far = physics.propagate(wave, physics.dft_matrix(N))
    expected = np.zeros((N, N))
    expected[N // 2, N // 2] = N
    atol = of_sums(2 * N, 2 * N, size=N)  # all amplitude meets in one pixel
    np.testing.assert_allclose(far.real, expected, rtol=0, atol=atol)
    np.testing.assert_allclose(far.imag, 0, atol=atol)


@pytest.mark.parametrize("modes", [1, 2, 5])
def test_intensity_is_the_sum_over_modes_of_independent_ffts(modes: int) -> None:
    N = 64
    patches, probe = random_complex(4, N, N), random_complex(modes, N, N, seed=1)
    found = physics.intensity(
        physics.pair_from_complex(patches), physics.pair_from_complex(probe), physics.dft_matrix(N)
    )
    waves = np.stack([centred_fft(mode * patches) for mode in probe])
    expected = np.sum(np.abs(waves) ** 2, axis=0)
    # |F|^2 changes by 2 |F| times the error of F; modes add up.
    error = np.sqrt(2) * of_sums(2, 2 * N, 2 * N, size=float(np.abs(waves).max()))
    atol = 2 * error * np.sum(np.abs(waves), axis=0) + of_sums(2 * modes) * expected + modes * error**2
    assert (np.abs(found - expected) <= atol).all()


@given(seed=st.integers(0, 10**6), modes=st.integers(1, 3), N=st.sampled_from([32, 48, 64]))
def test_no_photon_is_lost_or_made(seed: int, modes: int, N: int) -> None:
    patches, probe = random_complex(2, N, N, seed=seed), random_complex(modes, N, N, seed=seed + 1)
    found = physics.intensity(
        physics.pair_from_complex(patches), physics.pair_from_complex(probe), physics.dft_matrix(N)
    )
    illuminated = np.sum(np.abs(probe[:, np.newaxis] * patches) ** 2, axis=(0, 2, 3))
    # Both are means over all pixels: an amplitude errs by a transform, a sum over pixels by a tree of such.
    rtol = 2 * of_sums(2, 2 * N, 2 * N, modes * N * N)
    np.testing.assert_allclose(found.sum(axis=(-2, -1)), illuminated, rtol=rtol)


OFFSETS = st.floats(-40, 40)


@given(dy=OFFSETS, dx=OFFSETS, seed=st.integers(0, 1000))
def test_taking_out_is_the_adjoint_of_placing(dy: float, dx: float, seed: int) -> None:
    N, canvas = 16, 24
    generator = np.random.default_rng(seed)
    patch, image = generator.standard_normal((N, N)), generator.standard_normal((canvas, canvas))
    rows, columns = (physics.shift_matrices(np.array(d), canvas, N, np.float64) for d in (dy, dx))
    placed = physics.place(patch, rows, columns.T)
    taken = physics.take(image, rows.T, columns)
    np.testing.assert_allclose(np.vdot(placed, image), np.vdot(patch, taken), atol=1e-10)


@given(dy=st.integers(0, 8), dx=st.integers(0, 8))
def test_a_shift_by_whole_pixels_copies_the_pixels(dy: float, dx: float) -> None:
    N, canvas = 16, 24
    patch = np.random.default_rng(0).standard_normal((N, N))
    rows, columns = (physics.shift_matrices(np.array(float(d)), canvas, N, np.float64) for d in (dy, dx))
    expected = np.zeros((canvas, canvas))
    expected[dy : dy + N, dx : dx + N] = patch
    np.testing.assert_array_equal(physics.place(patch, rows, columns.T), expected)


@given(dy=st.floats(0, 7.99), dx=st.floats(0, 7.99))
def test_a_shift_by_parts_of_pixels_is_linear_interpolation(dy: float, dx: float) -> None:
    N, canvas = 16, 24
    patch = np.random.default_rng(0).standard_normal((N, N))
    rows, columns = (physics.shift_matrices(np.array(d), canvas, N, np.float64) for d in (dy, dx))
    expected = np.zeros((canvas, canvas))
    expected[:N, :N] = patch
    expected = scipy.ndimage.shift(expected, (dy, dx), order=1, mode="grid-constant")
    np.testing.assert_allclose(physics.place(patch, rows, columns.T), expected, atol=1e-12)


@given(hnp.arrays(np.float64, 20, elements=st.floats(-5, 5)))
def test_the_hat_is_the_linear_kernel(distance: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(physics.hat(distance), np.maximum(0, 1 - np.abs(distance)), atol=1e-15)


def test_patches_of_one_object_agree_already() -> None:
    """The overlap average of patches cut from a smooth object is that object again."""
    N, canvas = 32, 40
    y, x = np.indices((canvas, canvas)) / canvas
    image = 1 + 0.5 * y - 0.25 * x  # bilinear interpolation is exact on it
    offsets = np.array([[[0.0, 0.0], [3.5, 2.25], [7.0, 8.0], [5.25, 0.75]]])
    rows, columns = (physics.shift_matrices(offsets[..., axis], canvas, N, np.float64) for axis in (0, 1))
    taken = physics.take(image, rows.swapaxes(-1, -2), columns)
    agreed = physics.overlap_average(
        Pair(taken, -taken),
        np.ones((N, N)),
        rows=rows,
        rows_transposed=rows.swapaxes(-1, -2),
        columns=columns,
        columns_transposed=columns.swapaxes(-1, -2),
    )
    inner = (..., slice(1, -1), slice(1, -1))  # the outermost pixels mix with the canvas's empty rim
    np.testing.assert_allclose(agreed.real[inner], taken[inner], rtol=0.02)
    np.testing.assert_allclose(agreed.imag, -agreed.real)


@pytest.fixture(scope="module", params=["torch", "tensorflow"])
def as_tensor(request: pytest.FixtureRequest) -> Any:
    """What turns a NumPy array into the library's own; each library is imported once."""
    library = importlib.import_module(request.param)
    return library.as_tensor if request.param == "torch" else library.constant


def test_the_same_lines_run_on_tensors(as_tensor: Any) -> None:
    N = 64
    patches, probe = (physics.pair_from_complex(random_complex(*shape)) for shape in ((3, N, N), (2, N, N)))
    dft = physics.dft_matrix(N)
    expected = physics.intensity(patches, probe, dft)
    patches, probe, dft = (Pair(as_tensor(pair.real), as_tensor(pair.imag)) for pair in (patches, probe, dft))
    found = physics.intensity(patches, probe, dft)
    assert type(found) is type(patches.real)
    # Each of the two errs as above, at most by this in the brightest pixel.
    atol = 2 * np.sqrt(2) * 2 * of_sums(2, 2 * N, 2 * N, 2 * 2, size=float(np.max(expected)))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


def test_the_overlap_average_runs_on_tensors(as_tensor: Any) -> None:
    N, canvas = 32, 40
    offsets = np.random.default_rng(0).uniform(0, 8, (2, 5, 2))
    patches = physics.pair_from_complex(random_complex(2, 5, N, N))
    weight = np.random.default_rng(1).uniform(0.1, 1, (N, N)).astype(np.float32)
    y, x = (physics.shift_matrices(offsets[..., axis], canvas, N) for axis in (0, 1))
    matrices = {
        "rows": y, "rows_transposed": y.swapaxes(-1, -2), "columns": x, "columns_transposed": x.swapaxes(-1, -2),
    }  # fmt: skip
    expected = physics.overlap_average(patches, weight, **matrices)
    found = physics.overlap_average(
        Pair(as_tensor(patches.real), as_tensor(patches.imag)),
        as_tensor(weight),
        **{name: as_tensor(np.ascontiguousarray(matrix)) for name, matrix in matrices.items()},
    )
    # By rows, by columns, and 5 patches, of values and of weights, and computed twice.
    atol = 2 * of_sums(2, 2, 5, 2, 2, 5, size=float(np.abs(np.asarray(expected)).max()))
    np.testing.assert_allclose(np.asarray(found.real), expected.real, rtol=0, atol=atol)
    np.testing.assert_allclose(np.asarray(found.imag), expected.imag, rtol=0, atol=atol)
