"""Differences, SSIM and PSNR of amplitudes and phases."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ptyonnx.comparison.similarity import compare_amplitudes, compare_phases

pytestmark = pytest.mark.numerical

SHAPE = (96, 110)
Array = NDArray[np.complex128]


def _object(seed: int, contrast: float = 0.5) -> Array:
    noise = np.random.default_rng(seed).standard_normal((2, *SHAPE))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2))
    amplitude, phase = smooth / smooth.std(axis=(1, 2), keepdims=True)
    return np.asarray((0.9 + 0.03 * amplitude) * np.exp(1j * contrast * phase))


def test_similarity_is_that_of_scikit_image_where_all_is_known() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = (np.abs(_object(seed)) for seed in (7, 8))
    found = compare_amplitudes(a + 0j, b + 0j)
    low, high = np.percentile(b, (1, 99))
    assert found.data_range == pytest.approx(high - low)
    assert found.psnr_db == pytest.approx(peak_signal_noise_ratio(b, a, data_range=high - low))
    assert found.ssim == pytest.approx(structural_similarity(b, a, data_range=high - low), abs=1e-9)


def test_phases_are_compared_on_the_circle_and_not_in_the_dark() -> None:
    image = _object(9, contrast=0.2) * np.exp(1j * (np.pi - 0.1))  # around the branch cut
    dark = image.copy()
    dark[10, 10] = -1e-3 * image[10, 10]
    found = compare_phases(dark, image * np.exp(0.3j))
    assert found.maximum == pytest.approx(0.3)
    assert found.rms == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize("empty", [0.0, 1e-6])
def test_a_structured_image_is_not_like_one_without_structure(empty: float) -> None:
    """Where one has no light there is no phase to compare, so none is equal; where it is flat, SSIM says so."""
    image, flat = _object(3), np.full(SHAPE, empty + 0j)
    for first, second in ((image, flat), (flat, image)):
        for part in (compare_amplitudes(first, second), compare_phases(first, second)):
            assert part.ssim is None or part.ssim < 0.05
            assert part.psnr_db < 20
            assert part.maximum > 0.5
    assert math.isinf(compare_phases(image, 0 * flat).maximum)
    assert compare_phases(0 * flat, 0 * flat).maximum == 0


def test_windows_that_are_dark_in_one_image_alone_do_not_count() -> None:
    image = _object(4)
    holed = image.copy()
    holed[30:60, 30:60] = 0
    for first, second in ((image, holed), (holed, image)):
        found = compare_phases(first, second)
        assert found.ssim == pytest.approx(1)
        assert found.maximum < 1e-9
        assert compare_amplitudes(first, second).ssim < 0.95  # the hole is a difference of amplitudes


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_do_not_spoil_the_others(number: float) -> None:
    image = _object(5)
    holed = image.copy()
    holed[10:20, 10:20] = number
    for first, second in ((image, holed), (holed, image)):
        for part in (compare_amplitudes(first, second), compare_phases(first, second)):
            assert part.maximum < 1e-9
            assert part.ssim == pytest.approx(1)
