"""The true object explains the measurement; vacuum does not."""

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from bundle_factory import example_probe
from float32_bounds import of_sums

from ptyonnx_runtime import physics
from ptyonnx_runtime.stitching.residual import ForwardModel, r_factor
from ptyonnx_runtime.stitching.stitching import Frame

pytestmark = pytest.mark.numerical

N = 64


@pytest.fixture(scope="module")
def model(truth: Any) -> ForwardModel:
    return ForwardModel(truth, Frame((0, 0), truth.shape), example_probe(N))


def test_patches_are_bilinear_interpolation(model: ForwardModel, truth: Any, positions_px: Any) -> None:
    found = model.patches(positions_px[:5])
    index = np.arange(N) - N // 2
    atol = of_sums(2, 2, 4, size=float(np.abs(truth).max()))  # by rows, by columns, and their weights
    for k, (y, x) in enumerate(positions_px[:5]):
        where = np.meshgrid(y + index, x + index, indexing="ij")
        np.testing.assert_allclose(
            found.real[k], scipy.ndimage.map_coordinates(truth.real, where, order=1), rtol=0, atol=atol
        )
        np.testing.assert_allclose(
            found.imag[k], scipy.ndimage.map_coordinates(truth.imag, where, order=1), rtol=0, atol=atol
        )


def test_the_true_object_explains_its_patterns(model: ForwardModel, scan: Any) -> None:
    misfit = model.compare(scan.diffraction[:], scan.positions_px)
    assert r_factor(misfit.object, misfit.measured) < 0.15
    assert r_factor(misfit.vacuum, misfit.measured) > 0.3
    assert np.sum(misfit.measured) == pytest.approx(
        np.sum(scan.diffraction.astype(np.float64) ** 2), rel=of_sums(N * N)
    )


def test_the_r_factor_is_its_formula(model: ForwardModel, scan: Any) -> None:
    """Against numpy.fft in double precision, pattern by pattern."""
    part = slice(0, 6)
    patches = model.patches(scan.positions_px[part])
    wave = (patches.real + 1j * patches.imag) * example_probe(N)[0]
    far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    measured = scan.diffraction[part].astype(np.float64)
    expected = np.sum((np.abs(far) - measured) ** 2, axis=(1, 2))
    misfit = model.compare(scan.diffraction[part], scan.positions_px[part])
    # Amplitudes that are off by independent errors change a sum of squared differences by twice their sum's root.
    error = of_sums(2, 2 * N, 2 * N, size=float(np.abs(far).max()))
    rtol = 2 * error / np.sqrt(expected.min()) + of_sums(N * N)
    np.testing.assert_allclose(misfit.object, expected, rtol=rtol)
    assert r_factor(misfit.object, misfit.measured) == pytest.approx(
        np.sqrt(expected.sum() / (measured**2).sum()), rel=rtol
    )


@pytest.mark.parametrize("turn_rad", [0.0, 2.9])
def test_pixels_without_data_are_vacuum_whatever_the_global_phase(truth: Any, scan: Any, turn_rad: float) -> None:
    """Turned, the object explains the patterns as before: nothing tells the two apart."""
    holed, filled = truth.copy(), truth.copy()
    holed[:60] = complex(np.nan, np.nan)
    filled[:60] = np.exp(1j * np.angle(truth[60:].mean(dtype=complex)))
    frame = Frame((0, 0), truth.shape)
    a, b = (
        ForwardModel(obj, frame, example_probe(N)).compare(scan.diffraction[:9], scan.positions_px[:9])
        for obj in (holed * np.complex64(np.exp(1j * turn_rad)), filled)
    )
    # The phase of the vacuum is that of a mean; then exit waves, transforms, and sums over the detector, on both sides.
    rtol = 2 * of_sums(truth[60:].size) + 4 * of_sums(2, 2 * N, 2 * N, N * N)
    np.testing.assert_allclose(a.object, b.object, rtol=rtol)


def test_nothing_measured_has_no_r_factor() -> None:
    assert np.isnan(r_factor(np.ones(2), np.zeros(2)))


@pytest.mark.parametrize("N", [32, 34])
def test_the_fast_transform_gives_the_intensities_of_the_matrix_products(N: int) -> None:
    """Half of 34 is odd: the signs of a centred transform differ from those at 32."""
    generator = np.random.default_rng(3)
    obj = generator.standard_normal((N + 9, N + 9, 2)).view(np.complex128)[..., 0].astype(np.complex64)
    probe = generator.standard_normal((2, N, N, 2)).view(np.complex128)[..., 0].astype(np.complex64)
    model = ForwardModel(obj, Frame((0, 0), (obj.shape[0], obj.shape[1])), probe)
    positions_px = N // 2 + generator.uniform(0, 8, (3, 2))
    patch = model.patches(positions_px)
    expected = physics.intensity(patch, physics.pair_from_complex(probe), physics.dft_matrix(N))
    measured = np.sqrt(expected).astype(np.float32)
    misfit = model.compare(measured, positions_px)
    assert (misfit.object < 1e-8 * misfit.measured).all()  # float32: (1e-7)**2 for every pixel, and rounding of sums
    shifted = model.compare(np.roll(measured, 1, axis=-1), positions_px)
    assert (shifted.object > 0.1 * shifted.measured).all()
