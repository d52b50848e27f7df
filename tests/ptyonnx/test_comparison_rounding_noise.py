"""What `diff` says of two images does not depend on how a processor rounds.

Noise of a few units in the last place makes one machine behave as another; the images are known up to the edge
of the array, where an interpolation has nothing to lean on.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptyonnx.comparison import ImageComparison, align, compare_objects, phase_correlation

pytestmark = pytest.mark.numerical

SHAPE = (60, 70)
SCALES = (0.02, 0.1, 0.5, 0.9, 1.1, 3.0, 7.0, 50.0, 90.0)
ROUNDING = 1e-15  # relative: five units in the last place of float64
EXACT = 1e-9  # a million times what such noise makes of a value, a thousandth of what a wrong pixel shows
Array = NDArray[np.complex128]


def _object(seed: int, shift_px: tuple[float, float] = (0, 0)) -> Array:
    """Smooth, and not periodic with the array: cut out of a larger one that Fourier phases move exactly."""
    y, x = np.meshgrid(*(np.fft.fftfreq(2 * size) for size in SHAPE), indexing="ij")
    noise = np.random.default_rng(seed).standard_normal((2, *y.shape))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((np.hypot(y, x) / 0.08) ** 2))).real
    amplitude, phase = smooth / np.abs(smooth).max(axis=(1, 2), keepdims=True)
    image = (1 - 0.1 * amplitude) * np.exp(0.5j * phase)
    moved = np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (y * shift_px[0] + x * shift_px[1])))
    return np.asarray(moved[30:90, 35:105])


def _rounded(image: Array, seed: int) -> Array:
    """The image as another processor may have rounded it."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (2, *image.shape))
    return np.asarray(image * (1 + ROUNDING * (noise[0] + 1j * noise[1])))


def _unmoved(found: ImageComparison) -> None:
    assert found.alignment.shift_px == (0, 0)
    assert found.difference.maximum < EXACT
    assert found.difference.pixels == found.in_common
    assert found.flaws == ()


@pytest.mark.parametrize("scale", SCALES)
def test_a_factor_is_no_difference_at_the_edge_of_the_array_either(scale: float) -> None:
    for seed, noisy in itertools.product((0, 1, 2), (False, True)):
        a, b = _object(seed), scale * _object(seed)
        if noisy:
            a, b = _rounded(a, 10 * seed), _rounded(b, 10 * seed + 1)
        _unmoved(compare_objects(a, b))
        _unmoved(compare_objects(b, a))


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.02, 50),
    st.floats(-3, 3),
    st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05)),
    st.floats(-16, -5),
    st.integers(0, 1000),
)
def test_neither_factor_nor_ramp_nor_noise_moves_an_image(
    scale: float, phase: float, ramp: tuple[float, float], decades: float, seed: int
) -> None:
    """Noise of 1e-16 to 1e-5: what is left is that noise, at every pixel, and no more than 7 standard deviations."""
    y, x = np.indices(SHAPE)
    generator = np.random.default_rng(seed)
    noise = 10**decades * (generator.standard_normal(SHAPE) + 1j * generator.standard_normal(SHAPE))
    image = _object(seed)
    found = compare_objects(image, scale * np.exp(1j * (phase + ramp[0] * y + ramp[1] * x)) * (image + noise))
    assert found.difference.pixels == image.size
    assert found.difference.maximum < 7 * 10**decades + EXACT


@pytest.mark.parametrize("shift_px", [1e-6, 1e-5, 1e-4, 9e-4, 1.1e-3, 0.02])
def test_small_shifts_are_found_whatever_the_rounding(shift_px: float) -> None:
    """To 1e-8 px or a hundredth: the second starts where Gauss-Newton steps converge and splines are exact."""
    planted = (shift_px, -0.7 * shift_px)
    a, b = _object(1), 1.1 * _object(1, planted)
    for seed in range(3):
        found, aligned = align(_rounded(a, seed), _rounded(b, seed + 10))
        np.testing.assert_allclose(found.shift_px, planted, rtol=0.01, atol=1e-8)
        assert np.nanmax(np.abs(aligned - b)) < 0.01 * shift_px


def test_a_shift_that_noise_hides_is_no_shift() -> None:
    """Its standard deviation is 1e-3 px here: a hundredth of that is not seen, fifty times that is."""
    generator = np.random.default_rng(3)
    noise = 2e-3 * (generator.standard_normal(SHAPE) + 1j * generator.standard_normal(SHAPE))
    assert align(_object(2), _object(2, (1e-5, 0)) + noise)[0].shift_px == (0, 0)
    assert align(_object(2), _object(2, (0.05, 0)) + noise)[0].shift_px[0] == pytest.approx(0.05, abs=5e-3)


def test_phases_that_scatter_by_rounding_have_no_contrast() -> None:
    for seed in range(20):
        flat = _rounded(np.ones(SHAPE, complex), seed)
        assert phase_correlation(flat, _object(0)) == 0
        assert phase_correlation(_object(0), flat) == 0
        assert phase_correlation(flat, flat) == 0
