"""What ptychography leaves free is planted, and must come out again; images are moved by Fourier phases, not splines."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ptyonnx.comparison import align, compare_objects
from ptyonnx.comparison.alignment import edge_window
from ptyonnx_bundles.errors import ObjectError

pytestmark = pytest.mark.numerical

SHAPE = (96, 110)
Array = NDArray[np.complex128]
Planted = tuple[tuple[float, float], tuple[float, float], float, float]  # shift, ramp, scale, phase


def _object(seed: int, contrast: float = 0.5) -> Array:
    """Periodic and band-limited: Fourier phases move it exactly."""
    noise = np.random.default_rng(seed).standard_normal((2, *SHAPE))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2), mode="wrap")
    amplitude, phase = smooth / smooth.std(axis=(1, 2), keepdims=True)
    return (0.9 + 0.03 * amplitude) * np.exp(1j * contrast * phase)


def _moved(image: Array, shift: tuple[float, float]) -> Array:
    y, x = (np.fft.fftfreq(size) for size in image.shape)
    phases = np.exp(-2j * np.pi * (y[:, np.newaxis] * shift[0] + x * shift[1]))
    return np.asarray(np.fft.ifft2(np.fft.fft2(image) * phases))


def _ramp(ramp: tuple[float, float]) -> Array:
    y, x = np.indices(SHAPE)
    return np.asarray(np.exp(1j * (ramp[0] * y + ramp[1] * x)))


def _disc(centre: tuple[float, float]) -> NDArray[np.bool_]:
    y, x = np.indices(SHAPE)
    return ((y - centre[0]) / 40) ** 2 + ((x - centre[1]) / 46) ** 2 < 1


def _masked(image: Array, mask: NDArray[np.bool_]) -> Array:
    return np.where(mask, image, complex(np.nan, np.nan))


PLANTED: list[Planted] = [
    ((0.0, 0.0), (0.0, 0.0), 1.2, 2.5),
    ((0.31, -0.72), (0.0, 0.0), 1.0, 0.0),
    ((0.0, 0.0), (0.03, -0.05), 1.0, -1.0),
    ((2.37, -1.61), (-0.02, 0.04), 0.8, -2.9),
    ((-6.4, 4.9), (0.12, 0.2), 1.3, 3.1),
]


@pytest.mark.parametrize("noise, precision", [(0.0, 1.0), (0.02, 100.0)], ids=["clean", "2 % noise"])
@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_what_was_planted_is_found(planted: Planted, noise: float, precision: float) -> None:
    """To 1e-4 px, 1e-6 rad per px, 1e-5 in scale and 2e-5 rad without noise; 100 times that with 2 %."""
    shift, ramp, scale, phase = planted
    image = _object(1)
    generator = np.random.default_rng(2)
    target = scale * np.exp(1j * phase) * _ramp(ramp) * _moved(image, shift)
    target += noise * (generator.standard_normal(SHAPE) + 1j * generator.standard_normal(SHAPE))
    a, b = _masked(image, _disc((48, 55))), _masked(target, _disc((50, 53)))
    found, aligned = align(a, b)
    np.testing.assert_allclose(found.shift_px, shift, atol=precision * 1e-4)
    np.testing.assert_allclose(found.ramp_rad_per_px, ramp, atol=precision * 1e-6)
    assert found.amplitude_scale == pytest.approx(scale, rel=precision * 1e-5)
    middle = [float(axis.mean()) for axis in np.nonzero(~(np.isnan(a) | np.isnan(b)))]
    expected = phase + ramp[0] * middle[0] + ramp[1] * middle[1]
    assert abs(math.remainder(found.phase_rad - expected, 2 * math.pi)) < precision * 2e-5
    rest = (aligned - b)[~(np.isnan(aligned) | np.isnan(b))]
    assert np.sqrt(np.mean(np.abs(rest) ** 2)) < 2e-3 + 1.1 * noise * np.sqrt(2)


def test_of_a_large_image_the_middle_is_fitted_and_all_of_it_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptyonnx.comparison.alignment._LARGEST_FIT_PX", 160)
    image = np.tile(_object(1), (3, 3))
    y, x = np.indices(image.shape)
    shift, ramp = (1.3, -0.4), (2e-3, -1e-3)
    target = 1.1 * np.exp(1j * (ramp[0] * (y - 144) + ramp[1] * (x - 165))) * _moved(image, shift)
    found, aligned = align(image, target)
    np.testing.assert_allclose(found.shift_px, shift, atol=1e-4)
    np.testing.assert_allclose(found.ramp_rad_per_px, ramp, atol=1e-6)
    known = ~np.isnan(aligned)
    assert known.mean() > 0.95
    assert np.abs(aligned - target)[known].max() < 0.02


def test_equal_images_are_left_as_they_are() -> None:
    image = _masked(_object(0), _disc((48, 55)))
    found, aligned = align(image, image)
    assert (found.ramp_rad_per_px, found.shift_px) == ((0, 0), (0, 0))
    assert found.amplitude_scale == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(aligned, image, atol=1e-12)


def test_where_the_moved_image_is_unknown_nothing_is_said() -> None:
    a, b = _masked(_object(0), _disc((48, 45))), _masked(_moved(_object(0), (0, 3.5)), _disc((48, 60)))
    _, aligned = align(a, b)
    known = ~np.isnan(aligned)
    moved = ndimage.binary_erosion(_disc((48, 48.5)), iterations=4)
    assert (known & ~_disc((48, 48.5))).sum() == 0
    assert (known & moved).sum() > 0.95 * moved.sum()


def test_unrelated_images_are_not_worse_than_with_one_factor() -> None:
    a, b = _masked(_object(3), _disc((48, 55))), _masked(_object(4), _disc((48, 55)))
    factor = np.linalg.lstsq(a[_disc((48, 55))][:, np.newaxis], b[_disc((48, 55))], rcond=None)[0][0]
    _, aligned = align(a, b)
    known = ~(np.isnan(aligned) | np.isnan(b))
    assert np.mean(np.abs(aligned - b)[known] ** 2) < 1.05 * np.mean(np.abs(factor * a - b)[known] ** 2)


def test_an_image_without_contrast_is_not_moved() -> None:
    flat = np.full(SHAPE, 0.5 + 0.5j)
    found, _ = align(flat, 2 * flat)
    assert found.amplitude_scale == pytest.approx(2)
    assert np.abs(found.shift_px).max() < 1e-6


def test_images_that_share_nothing_are_refused() -> None:
    image, row = _object(0), np.arange(96)[:, np.newaxis]
    with pytest.raises(ObjectError) as refusal:
        align(_masked(image, row < 40), _masked(image, row > 50))
    assert str(refusal.value.found).startswith(f"{40 * image.shape[1]:,} and {45 * image.shape[1]:,} ")
    with pytest.raises(ObjectError) as refusal:
        align(image, image[1:])
    assert refusal.value.expected == image[1:].shape


def test_a_window_falls_to_zero_outside_and_is_one_inside() -> None:
    mask = _disc((48, 55))
    window = edge_window(mask)
    assert window[~mask].max() == 0
    assert window[48, 55] == 1
    assert 0 < window[mask].min() < 0.1


def test_differences_are_those_that_were_planted() -> None:
    """After the free quantities are removed, a planted difference of phase and amplitude is left."""
    image = _object(5)
    change = np.zeros(SHAPE)
    change[40:50, 50:60] = 1
    other = 1.1 * np.exp(0.3j) * _ramp((0.01, 0)) * image * (1 + 0.05 * change) * np.exp(0.4j * change)
    found = compare_objects(_masked(image, _disc((48, 55))), _masked(other, _disc((48, 55))), 1e-8)
    assert found.phase.maximum == pytest.approx(0.4, abs=0.02)
    assert found.phase.rms == pytest.approx(0.4 * np.sqrt(100 / _disc((48, 55)).sum()), rel=0.1)
    assert found.amplitude.maximum == pytest.approx(0.05 * np.abs(other[40:50, 50:60] / 1.05).max(), rel=0.1)
    assert found.phase.ssim is not None
    assert found.phase.ssim < 0.99
    assert found.object_pixel_size_m == 1e-8


def test_equal_images_have_every_figure_at_its_best() -> None:
    image = _masked(_object(6), _disc((48, 55)))
    found = compare_objects(image, np.exp(1j) * image)
    assert found.difference.maximum < 1e-9
    for part in (found.amplitude, found.phase):
        assert part.ssim == pytest.approx(1)
        assert part.psnr_db > 150
    assert found.ring.resolution_px is None
    assert found.phase_correlation == pytest.approx(1)


def test_the_inverse_of_an_alignment_lays_the_second_image_on_the_first() -> None:
    a = _masked(_object(1), _disc((48, 55)))
    b = _masked(0.8 * np.exp(1j) * _ramp((-0.02, 0.04)) * _moved(_object(1), (2.37, -1.61)), _disc((50, 53)))
    there, back = align(a, b)[0].inverse(), align(b, a)[0]
    np.testing.assert_allclose(there.shift_px, back.shift_px, atol=1e-3)
    np.testing.assert_allclose(there.ramp_rad_per_px, back.ramp_rad_per_px, atol=1e-5)
    assert there.amplitude_scale == pytest.approx(back.amplitude_scale, rel=1e-4)
    assert abs(math.remainder(there.phase_rad - back.phase_rad, 2 * math.pi)) < 1e-3
    twice = there.inverse()
    np.testing.assert_allclose(twice.shift_px, align(a, b)[0].shift_px)
    assert twice.phase_rad == pytest.approx(align(a, b)[0].phase_rad)


@pytest.mark.parametrize("scale", [1.0, 1e-60, 1e-6, 1e60])
def test_flat_and_empty_images_are_aligned_without_a_warning(scale: float) -> None:
    """scikit-image warns where one of two images may be empty; warnings are errors here."""
    flat = np.full(SHAPE, scale + 0j)
    for image in (flat, 0 * flat):
        for first, second in ((image, _object(0)), (_object(0), image), (image, image)):
            found, aligned = align(first, second)
            assert np.isfinite([found.amplitude_scale, *found.shift_px, *found.ramp_rad_per_px]).all()
            assert np.isfinite(aligned).mean() > 0.5  # a flat image may be moved anywhere
