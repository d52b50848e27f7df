import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ptyonnx.comparison import aligned, difference, global_factor, on_canvas, phase_correlation
from ptyonnx_bundles.errors import ObjectError

pytestmark = pytest.mark.numerical


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
    (expected,) = np.linalg.lstsq(a.reshape(-1, 1), b.reshape(-1), rcond=None)[0]
    assert global_factor(a, b) == pytest.approx(expected)
    np.testing.assert_allclose(aligned(a, b), expected * a, rtol=1e-6)
    assert difference(a, b).phase_rad == pytest.approx(np.angle(expected))


def test_the_root_mean_square_of_the_difference_is_that_of_the_correlation() -> None:
    """Closed form: two vectors of rms 1 whose normalised scalar product is r are sqrt(2 - 2 |r|) apart."""
    a, b = _object(1), 1.3 * np.exp(0.4j) * _object(1) + 0.1 * _object(2)
    correlation = abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b)
    assert difference(a, b).rms == pytest.approx(np.sqrt(2 - 2 * correlation))


@pytest.mark.parametrize("free, unit", [(True, 0.9), (False, 1.0)])
def test_a_known_difference_is_found(free: bool, unit: float) -> None:
    """In parts of the amplitude, which is about 0.9, where its scale was removed."""
    a = _object(0)
    b = a.copy()
    b[30, 30] += 0.5
    found = difference(a, b, free=free)
    assert found.maximum == pytest.approx(0.5 / unit, abs=2e-3)
    assert found.rms == pytest.approx(0.5 / unit / np.sqrt(a.size), rel=1e-2)


def test_pixels_that_neither_knows_and_masked_ones_do_not_count() -> None:
    a, b = _object(0), _object(0)
    a[:10] = b[:10] = np.nan
    assert difference(a, b).maximum < 1e-12
    assert difference(a, b).pixels == 50 * 70
    a[:, :5] = np.nan
    b[20] = 100
    mask = np.ones(a.shape, bool)
    mask[20] = mask[:10] = mask[:, :5] = False
    found = difference(a, b, mask)
    assert found.maximum < 1e-12
    assert found.pixels == 49 * 65
    assert global_factor(a, b, mask) == pytest.approx(1)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("number", [np.nan, np.inf, complex(0, -np.inf)])
def test_what_is_no_number_is_infinitely_far_away(number: complex, free: bool) -> None:
    a, b, mask = _object(0), _object(0), np.ones((60, 70), bool)
    b[30, 30] = number
    for first, second in ((a, b), (b, a)):
        for which in (None, mask):
            found = difference(first, second, which, free=free)
            assert (found.maximum, found.rms) == (np.inf, np.inf)
            assert found.to_dict()["maximum"] is None
    both = a.copy()
    both[30, 30] = number
    assert difference(both, b, mask, free=free).maximum == np.inf


def test_images_that_cannot_be_compared_are_refused() -> None:
    nothing = np.full((60, 70), np.nan, complex)
    for compare in (difference, phase_correlation):
        with pytest.raises(ObjectError) as refusal:
            compare(_object(0), nothing)
        assert re.fullmatch(r"[1-9][\d,]* and 0 \D+", str(refusal.value.found))
        with pytest.raises(ObjectError) as refusal:
            compare(_object(0), _object(0)[1:])
        assert refusal.value.expected == _object(0)[1:].shape


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
    with pytest.raises(ObjectError) as refusal:
        on_canvas(image, (0.5, 0), (40, 40))
    assert "0.5" in str(refusal.value.found)


@given(st.floats(1e-9, 1e9), st.floats(0, 10), st.integers(0, 9))
def test_a_difference_is_the_same_from_both_sides(scale: float, noise: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((16, 16)) + 1j * generator.standard_normal((16, 16))
    b = scale * (a + noise * generator.standard_normal((16, 16)))
    found, swapped = difference(a, b), difference(b, a)
    assert found.maximum == pytest.approx(swapped.maximum, rel=1e-9, abs=1e-12)
    assert found.amplitude_scale * swapped.amplitude_scale == pytest.approx(1)
    assert np.isinf(found.maximum) or found.maximum < 20


def test_a_factor_beyond_all_units_is_not_removed() -> None:
    image = _object(0)
    for scale in (99.0, 1 / 99):
        assert difference(image, scale * image).maximum < 1e-12
    for scale in (101.0, 1 / 101, 1e6, 1e-6, 0.0):
        assert difference(image, scale * image).maximum == np.inf
        assert difference(scale * image, image).maximum == np.inf
    assert difference(0 * image, 0 * image).maximum == np.inf
    assert difference(0 * image, 0 * image, free=False).maximum == 0


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
