"""Two images on one canvas: what is free is removed, everything else is a difference, and from both sides the same."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from ptyonnx.comparison import ImageComparison, compare_objects
from ptyonnx.comparison.alignment import Alignment

pytestmark = pytest.mark.numerical

SHAPE = (48, 56)
Array = NDArray[np.complex128]


def _object(seed: int) -> Array:
    noise = np.random.default_rng(seed).standard_normal((2, *SHAPE))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2))
    amplitude, phase = smooth / smooth.std(axis=(1, 2), keepdims=True)
    return np.asarray((0.9 + 0.03 * amplitude) * np.exp(0.5j * phase))


def _both_ways(a: Array, b: Array, **options: object) -> tuple[ImageComparison, ImageComparison]:
    return compare_objects(a, b, **options), compare_objects(b, a, **options)  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(
    st.tuples(st.floats(1e-3, 1e3), st.floats(-3, 3)),
    st.floats(0, 1),
    st.floats(-0.05, 0.05),
    st.integers(-2, 2),
    st.integers(0, 5),
)
def test_a_swap_changes_no_figure(factor: tuple[float, float], noise: float, ramp: float, roll: int, seed: int) -> None:
    a = _object(seed)
    turned = factor[0] * np.exp(1j * (factor[1] + ramp * np.arange(SHAPE[1])))
    b = turned * np.roll(a + noise * _object(seed + 10), roll, axis=0)
    found, swapped = _both_ways(a, b)
    assert found.difference.maximum == swapped.difference.maximum
    assert found.difference.rms == swapped.difference.rms
    assert bool(found.flaws) == bool(swapped.flaws)
    assert found.ring == swapped.ring
    np.testing.assert_array_equal(found.object_a, swapped.object_b)
    back = swapped.alignment.inverse()
    np.testing.assert_allclose(found.alignment.shift_px, back.shift_px)
    np.testing.assert_allclose(found.alignment.ramp_rad_per_px, back.ramp_rad_per_px)
    assert found.alignment.amplitude_scale == pytest.approx(back.amplitude_scale)
    assert abs(math.remainder(found.alignment.phase_rad - back.phase_rad, 2 * math.pi)) < 1e-9


def test_images_of_one_brightness_are_the_same_from_both_sides_too() -> None:
    """Of phases alone: nothing says which is the brighter."""
    a, b = (each / np.abs(each) for each in (_object(1), np.roll(_object(1), 1, axis=0)))
    found, swapped = _both_ways(a, b)
    assert found.difference.maximum == swapped.difference.maximum
    np.testing.assert_array_equal(found.object_a, swapped.object_b)


@pytest.mark.parametrize("scale", [1e-6, 1e6, 1 / 101, 101])
def test_a_dead_image_differs_even_if_a_factor_would_make_it_equal(scale: float) -> None:
    for found, (original, scaled) in zip(_both_ways(_object(0), scale * _object(0)), ("AB", "BA"), strict=True):
        assert found.difference.maximum == np.inf
        (flaw,) = found.flaws
        assert flaw.split()[0] == (scaled if scale < 1 else original)
        assert f"{found.rms_amplitude_a:.2g}" in flaw
        assert f"{found.rms_amplitude_b:.2g}" in flaw
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("level", [0.0, 1e-6, 1e-3])
def test_a_dead_image_without_structure_differs(level: float) -> None:
    dead = np.full(SHAPE, level + 0j)
    for found, name in zip(_both_ways(_object(0), dead), "BA", strict=True):
        assert found.difference.maximum == np.inf
        assert found.flaws[0].split()[0] == name
        assert found.ring.resolution_px is not None
        assert found.phase.ssim is None or found.phase.ssim < 0.05


def test_two_dead_images_differ_by_what_they_hold() -> None:
    """A tolerance for objects of amplitude 1 says nothing about these: differences are in parts of the amplitude."""
    for found in _both_ways(1e-6 * _object(0), 1e-6 * _object(1)):
        assert found.difference.maximum > 0.5
    nothing = np.zeros(SHAPE, complex)
    found = compare_objects(nothing, nothing)
    assert len(found.flaws) == 1
    assert (found.rms_amplitude_a, found.rms_amplitude_b, found.not_finite_a, found.unlike) == (0, 0, 0, ())
    assert compare_objects(nothing, nothing, free=False).difference.maximum == 0


@pytest.mark.parametrize("scale", [0.02, 0.5, 50])
def test_a_scale_that_units_may_have_is_no_difference(scale: float) -> None:
    for found in _both_ways(_object(0), scale * _object(0)):
        assert found.difference.maximum < 1e-9
        assert found.flaws == ()


def test_between_engines_of_one_function_nothing_is_free() -> None:
    a = _object(2)
    for found in _both_ways(a, 1.2 * np.exp(0.3j) * a, free=False):
        assert found.difference.maximum == pytest.approx(abs(1.2 * np.exp(0.3j) - 1) * np.abs(a).max())
        assert found.alignment == Alignment(1.0, 0.0, (0.0, 0.0), (0.0, 0.0))
    for found in _both_ways(a, np.roll(a, 1, axis=1), free=False):
        assert found.difference.maximum > 0.05
    assert compare_objects(a, a, free=False).difference.maximum == 0


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("number", [np.nan, np.inf, complex(0, -np.inf)])
def test_what_is_no_number_outside_of_the_mask_is_a_difference(number: complex, free: bool) -> None:
    a, b = _object(3), _object(3)
    unknown = np.zeros(SHAPE, bool)
    unknown[:4] = True
    a[:4] = b[:4] = np.nan
    b[20:22, 20:25] = number
    for found, name in zip(_both_ways(a, b, unknown=(unknown, unknown), free=free), "BA", strict=True):
        assert found.difference.maximum == np.inf
        assert (found.not_finite_a, found.not_finite_b) == (10 * (name == "A"), 10 * (name == "B"))
        (flaw,) = found.flaws
        assert re.fullmatch(rf"10 \D+ {name}", flaw)
        assert (found.only_a, found.only_b) == (0, 0)
        json.dumps(found.to_dict(), allow_nan=False)
    for found in _both_ways(b, b, unknown=(unknown, unknown), free=free):  # both of them
        assert found.difference.maximum == np.inf
        assert len(found.flaws) == 2


@pytest.mark.parametrize("free", [True, False])
def test_pixels_that_one_alone_knows_are_counted_and_shown_and_of_one_function_a_difference(free: bool) -> None:
    a, b = _object(4), _object(4)
    a[:3] = np.nan
    b[:, 50:] = np.nan
    found, swapped = _both_ways(a, b, free=free)
    assert (found.only_a, found.only_b) == (swapped.only_b, swapped.only_a) == (45 * 6, 3 * 50)
    assert found.in_common == 45 * 50
    assert (found.only_a, found.only_b) == (270, 150)
    assert [re.findall(r"\d+|\b[AB]\b", each) for each in found.unlike] == [["270", "A"], ["150", "B"]]
    assert found.flaws == (() if free else found.unlike)
    assert found.difference.maximum < 1e-9
    np.testing.assert_array_equal(np.isnan(found.object_a), np.isnan(a))
    np.testing.assert_array_equal(np.isnan(found.object_b), np.isnan(b))


def test_images_most_of_which_is_known_to_one_alone_are_not_the_same() -> None:
    a, b = _object(4), _object(4)
    b[23:] = np.nan
    for found, name in zip(_both_ways(a, b), "AB", strict=True):
        assert found.difference.maximum < 1e-9
        assert (found.in_common, {"A": found.only_a, "B": found.only_b}[name]) == (1288, 1400)
        (flaw,) = found.flaws
        assert re.findall(r"[\d,]*\d", flaw) == ["1,288", "1,400"]
        assert re.findall(r"\b[AB]\b", flaw) == [name]


def test_a_shift_makes_no_pixel_unknown_to_one_alone() -> None:
    """Next to the border, a shifted image is unknown because it was shifted: no difference."""
    known = np.hypot(*np.meshgrid(np.arange(48) - 24, np.arange(56) - 28, indexing="ij")) < 22
    a, b = (np.where(known, each, np.nan) for each in (_object(5), np.roll(_object(5), 1, axis=0)))
    for found in _both_ways(a, b):
        assert np.abs(found.alignment.shift_px).max() == pytest.approx(1, abs=0.01)
        assert found.unlike == found.flaws == ()
