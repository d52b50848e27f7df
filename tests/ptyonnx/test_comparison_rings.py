import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ptyonnx.comparison import ring_correlation
from ptyonnx.comparison.ring_correlation import half_bit_threshold
from ptyonnx_bundles.errors import ObjectError

pytestmark = pytest.mark.numerical

Array = NDArray[np.complex128]
SHAPE = (160, 200)


def _noise(seed: int, shape: tuple[int, int] = SHAPE) -> Array:
    real, imag = np.random.default_rng(seed).standard_normal((2, *shape))
    return np.asarray(real + 1j * imag)


def _band(image: Array, low: float, high: float) -> Array:
    y, x = (np.fft.fftfreq(size) for size in image.shape)
    radius = np.hypot(y[:, np.newaxis], x)
    return np.asarray(np.fft.ifft2(np.fft.fft2(image) * ((radius >= low) & (radius < high))))


def test_the_half_bit_threshold_is_that_of_the_paper() -> None:
    """Closed form: 1 for one pixel, 0.2071 / 1.2071 for many; one value by hand."""
    one, hundred, many = half_bit_threshold(np.array([1.0, 100.0, 1e12]))
    assert one == pytest.approx(1, abs=1e-12)
    assert hundred == pytest.approx((0.2071 + 0.19102) / (1.2071 + 0.09102))
    assert many == pytest.approx(0.17157, abs=1e-4)


def test_an_image_agrees_with_itself_on_every_ring() -> None:
    found = ring_correlation(_noise(0), (2 - 0j) * _noise(0), 1e-8)
    assert found.correlation == pytest.approx([1] * 80)
    assert (found.resolution_px, found.resolution_m) == (None, None)
    assert found.agreement == "everywhere"
    assert found.frequency[-1] == 0.5
    flat = np.ones((64, 64), complex)
    assert ring_correlation(flat, flat).correlation == pytest.approx([1] * 32)


@pytest.mark.parametrize("pixel_size_m", [None, 1e-8])
def test_independent_images_agree_nowhere(pixel_size_m: float | None) -> None:
    found = ring_correlation(_noise(1), _noise(2), pixel_size_m)
    assert np.abs(found.correlation[20:]).max() < 0.2
    assert found.correlation[0] < found.half_bit[0]
    assert found.resolution_px == math.inf
    assert found.resolution_m == (None if pixel_size_m is None else math.inf)
    assert found.agreement == "nowhere"
    assert f"{found.correlation[0]:.2g}" in found.sentence


def test_of_three_states_each_is_told_apart_in_json_and_in_one_line() -> None:
    common = _band(_noise(3), 0, 0.2)
    pairs = {
        "everywhere": (_noise(0), _noise(0)),
        "partly": tuple(common + _band(_noise(seed), 0.2, 1) for seed in (4, 5)),
        "nowhere": (_noise(1), _noise(2)),
    }
    for agreement, (a, b) in pairs.items():
        found = ring_correlation(a, b, 2e-9)
        written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert written["agreement"] == agreement
        assert written["resolution_px"] == (found.resolution_px if agreement == "partly" else None)
        assert (written["resolution_m"] is None) is (agreement != "partly")
        assert repr(found) == f"<RingCorrelation, 80 rings: {found.sentence}>"


@pytest.mark.parametrize("limit", [0.1, 0.2, 0.35])
def test_the_resolution_is_where_what_is_common_ends(limit: float) -> None:
    common = _band(_noise(3), 0, limit)
    a, b = (common + _band(_noise(seed), limit, 1) for seed in (4, 5))
    found = ring_correlation(a, b, 2e-9)
    assert found.resolution_px == pytest.approx(1 / limit, rel=0.05)
    assert found.resolution_m == pytest.approx(2e-9 * (found.resolution_px or 0))


def test_noise_lowers_the_correlation_by_the_known_ratio() -> None:
    """Signal and independent noise of powers S and N: the expected value is S / (S + N)."""
    a, b = (_noise(6) + 0.5 * _noise(seed) for seed in (7, 8))
    found = ring_correlation(a, b)
    assert np.mean(found.correlation[10:]) == pytest.approx(1 / 1.25, abs=0.01)


def test_pixels_that_either_does_not_know_do_not_count() -> None:
    a, b = _noise(9), _noise(9)
    y, x = np.indices(SHAPE)
    disc = (y - 80) ** 2 + (x - 100) ** 2 < 60**2
    a[~disc] = np.nan
    b[:40] = 1000
    b[:40] = np.nan
    found = ring_correlation(a, b)
    assert found.correlation == pytest.approx([1] * len(found.correlation))


def test_a_common_edge_alone_is_no_agreement() -> None:
    """Two unrelated images on the same disc, with a large mean: the edge would agree on every ring."""
    y, x = np.indices(SHAPE)
    outside = (y - 80) ** 2 + (x - 100) ** 2 >= 70**2
    images = [50 + _noise(seed) for seed in (10, 11)]
    for image in images:
        image[outside] = np.nan
    found = ring_correlation(*images)
    assert np.abs(found.correlation[20:]).max() < 0.3


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ObjectError) as refusal:
        ring_correlation(_noise(0, (7, 90)), _noise(0, (7, 90)))
    assert (refusal.value.found, refusal.value.expected) == ("7 x 90 pixels", "at least 8 x 8")
    assert ring_correlation(_noise(0, (8, 90)), _noise(0, (8, 90))).agreement == "everywhere"
    with pytest.raises(ObjectError) as refusal:
        ring_correlation(_noise(0), _noise(0)[1:])
    assert refusal.value.expected == _noise(0)[1:].shape


def test_a_flat_image_and_a_structured_one_agree_on_no_ring() -> None:
    flat = np.full_like(_noise(0), 0.7)
    assert ring_correlation(_noise(0), 0 * flat).correlation == (0,) * 80
    assert ring_correlation(flat, _noise(0)).correlation == (0,) * 80
    assert ring_correlation(flat, flat).correlation == (1,) * 80


def test_a_structured_image_and_one_that_ends_at_a_frequency_agree_up_to_there() -> None:
    """Beyond, one of the two is empty: no agreement, although nothing contradicts."""
    image = _noise(12)
    for pair in ((image, _band(image, 0, 0.25)), (_band(image, 0, 0.25), image)):
        found = ring_correlation(*pair)
        assert found.resolution_px == pytest.approx(4, rel=0.05)
        assert np.abs(found.correlation[50:]).max() < 0.3


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_leaves_numbers(number: float) -> None:
    a, b = _noise(13), _noise(13)
    b[70:90, 90:110] = number
    assert np.isfinite(ring_correlation(a, b).correlation).all()
    assert ring_correlation(a, b).correlation == pytest.approx(ring_correlation(b, a).correlation)


_Y, _X = np.indices(SHAPE)


@pytest.mark.parametrize(
    "band",
    [
        np.abs(_Y - _X) < 3,
        np.abs(_Y - _X) < 1.5,
        np.abs(np.hypot(_Y - 80, _X - 100) - 60) < 2,
        (_Y == 80) | (_X == 100),
    ],
    ids=["diagonal", "thin diagonal", "ring", "cross"],
)
def test_images_that_are_equal_to_rounding_agree_on_a_narrow_band_too(band: NDArray[np.bool_]) -> None:
    image = _noise(0)
    image[~band] = np.nan
    found = ring_correlation(image, image * (1 + 1e-7 * _noise(1).real))
    assert found.resolution_px is None
    assert max(found.half_bit) < 0.75
    assert len(found.frequency) <= 80
    assert found.frequency == tuple(sorted(found.frequency))
