import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ptyonnx.comparison import aligned, difference, global_factor, on_canvas, phase_correlation
from ptyonnx_bundles.errors import ObjectError


def _object(seed: int, shape: tuple[int, int] = (60, 70), contrast: float = 0.5) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((2, *shape)), (0, 2, 2))
    amplitude, phase = smooth / smooth.std(axis=(1, 2), keepdims=True)
    return (0.9 + 0.03 * amplitude) * np.exp(1j * contrast * phase)


@given(st.floats(0.1, 10), st.floats(-np.pi, np.pi), st.integers(0, 5))
def test_a_global_factor_is_no_difference(scale: float, angle: float, seed: int) -> None:
    image = _object(seed)
    factor = scale * np.exp(1j * angle)
    found = difference(image, factor * image)
    assert found.maximum < 1e-9
    assert found.amplitude_scale == pytest.approx(scale)
    assert np.exp(1j * found.phase_rad) == pytest.approx(np.exp(1j * angle))
    assert phase_correlation(image, factor * image) == pytest.approx(1)


def test_the_factor_is_that_of_numpy_least_squares() -> None:
    a, b = _object(1), 1.3 * np.exp(0.4j) * _object(1) + 0.1 * _object(2)
    (expected,), (residue,), *_ = np.linalg.lstsq(a.reshape(-1, 1), b.reshape(-1), rcond=None)
    assert global_factor(a, b) == pytest.approx(expected)
    found = difference(a, b)
    assert found.rms == pytest.approx(np.sqrt(residue / a.size))
    np.testing.assert_allclose(aligned(a, b), expected * a, rtol=1e-6)


def test_a_known_difference_is_found() -> None:
    a = _object(0)
    b = a.copy()
    b[30, 30] += 0.5
    found = difference(a, b)
    assert found.maximum == pytest.approx(0.5, abs=1e-3)
    assert found.rms == pytest.approx(0.5 / np.sqrt(a.size), rel=1e-2)


def test_nan_and_masked_pixels_do_not_count() -> None:
    a, b = _object(0), _object(0)
    b[:10] = np.nan
    a[:, :5] = np.nan
    mask = np.ones(a.shape, bool)
    mask[20] = False
    b[20] = 100
    found = difference(a, b, mask)
    assert found.maximum == 0
    assert found.pixels == 49 * 65
    assert global_factor(a, b, mask) == pytest.approx(1)


def test_images_that_cannot_be_compared_are_refused() -> None:
    nothing = np.full((60, 70), np.nan, complex)
    for compare in (difference, phase_correlation):
        with pytest.raises(ObjectError, match="no pixel in common"):
            compare(_object(0), nothing)
        with pytest.raises(ObjectError, match="different shapes"):
            compare(_object(0), _object(0)[1:])


def test_phase_correlation_is_that_of_numpy_on_the_central_part() -> None:
    a, b = _object(1), _object(1) * np.exp(0.3j * np.angle(_object(2)))
    rows, columns = slice(14, 46), slice(16, 54)  # 23 % to 77 % of 60 and 70
    expected = np.corrcoef(np.angle(a[rows, columns]).ravel(), np.angle(b[rows, columns]).ravel())[0, 1]
    assert phase_correlation(a, b) == pytest.approx(expected, abs=1e-3)
    changed = a.copy()
    changed[:14], changed[46:], changed[:, :16], changed[:, 54:] = 5, 5j, -5, 0
    assert phase_correlation(changed, b) == pytest.approx(phase_correlation(a, b))


def test_phase_correlation_survives_a_global_phase_at_the_branch_cut() -> None:
    a = _object(3, contrast=0.6)
    assert phase_correlation(-a, a * np.exp(3.1j)) == pytest.approx(1)


def test_unrelated_phases_and_flat_ones_do_not_correlate() -> None:
    values = [phase_correlation(_object(seed, (200, 200)), _object(seed + 50, (200, 200))) for seed in range(4)]
    assert np.abs(values).max() < 0.15
    assert phase_correlation(np.ones((60, 70), complex), _object(0)) == 0
    assert phase_correlation(np.conj(_object(0)), _object(0)) < -0.95


def test_an_image_is_laid_on_a_canvas_by_its_origin() -> None:
    image = _object(0, (20, 30)).astype(np.complex64)
    canvas = on_canvas(image, (5, -3), (40, 26))
    np.testing.assert_array_equal(canvas[5:25, :26], image[:, 3:29])
    assert np.isnan(canvas[:5]).all()
    assert np.isnan(canvas[25:]).all()
    assert np.isnan(on_canvas(image, (100, 0), (40, 40))).all()
    with pytest.raises(ObjectError, match="between the pixels"):
        on_canvas(image, (0.5, 0), (40, 40))


@given(st.floats(1e-9, 1e9), st.integers(0, 9))
def test_a_difference_is_the_same_from_both_sides(scale: float, seed: int) -> None:
    """Nearly: least squares shrink the factor by the correlation, which is 0.99 here."""
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((16, 16)) + 1j * generator.standard_normal((16, 16))
    b = scale * (a + 0.1 * generator.standard_normal((16, 16)))
    assert difference(a, b).maximum == pytest.approx(difference(b, a).maximum, rel=0.3)
    assert difference(a, b).maximum > 0.1


def test_an_image_that_is_nearly_zero_is_near_no_other() -> None:
    image = np.random.default_rng(0).standard_normal((16, 16)) + 1j
    dead = np.full((16, 16), 1e-6 + 0j)
    for a, b in ((image, dead), (dead, image), (image, 0 * dead), (0 * dead, image)):
        assert difference(a, b).maximum > 0.1


def test_nothing_is_removed_where_nothing_is_free() -> None:
    image = np.random.default_rng(0).standard_normal((16, 16)) + 1j
    turned = 1.4 * np.exp(0.5j) * image
    assert difference(turned, image).maximum < 1e-12
    found = difference(turned, image, free=False)
    assert found.maximum == pytest.approx(np.abs(turned - image).max())
    assert (found.amplitude_scale, found.phase_rad) == (1, 0)
