"""The end of an integer type at one pixel of several patterns is a mark; a genuine count there is not."""

from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.scan import Scan
from ptyonnx_runtime.scan.bad_pixel_marks import Mark, Marks

COUNT, N = 20, 32
ENDS = {
    "u1": 2**8 - 1,
    "i1": 2**7 - 1,
    "u2": 2**16 - 1,
    "i2": 2**15 - 1,
    "u4": 2**32 - 1,
    "i4": 2**31 - 1,
    "i8": 2**63 - 1,
}
CONVERTED = (2**16 - 1, 2**32 - 1, 2**31 - 1, 2**32 - 2, 2**20 - 1)


def counts(brightest: float = 60, seed: int = 0) -> NDArray[Any]:
    """Photons around the middle."""
    y, x = np.indices((N, N)) - N // 2
    return np.random.default_rng(seed).poisson(brightest * np.exp(-(x**2 + y**2) / 72), (COUNT, N, N))


def found(patterns: NDArray[Any], size: int = 7) -> Mark | None:
    marks = Marks(patterns.dtype, patterns.shape[1:])
    for start in range(0, len(patterns), size):
        part = patterns[start : start + size]
        marks.add(part, part.max())
    return marks.bad_pixels()


def marked(patterns: NDArray[Any], value: float, dtype: str, members: Any = slice(None)) -> NDArray[Any]:
    changed = patterns.astype(dtype)
    changed[members, 3, 5:9] = value
    return changed


@pytest.mark.parametrize("dtype", ENDS)
@pytest.mark.parametrize("members", [slice(None), [2, 11]], ids=["in all patterns", "in two"])
def test_the_end_of_the_types_own_range_is_a_mark(dtype: str, members: Any) -> None:
    mark = found(marked(counts(), ENDS[dtype], dtype, members))
    assert mark is not None
    assert (mark.value, mark.y, mark.x, mark.pixels) == (float(ENDS[dtype]), 3, 5, 4)
    assert mark.patterns == (COUNT if isinstance(members, slice) else 2)


@pytest.mark.parametrize("value", CONVERTED)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_marks_survive_a_conversion_to_a_wider_type_and_a_square_root(value: int, dtype: str) -> None:
    assert found(marked(counts(), value, dtype)) is not None
    assert found(marked(np.sqrt(counts()), np.sqrt(float(value)), "f4")) is not None
    assert (
        found(marked(counts(brightest=0.6 * value), value, "f8")) is not None
    )  # no farther than other values, but always there


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_single_genuine_count_at_the_end_is_none(dtype: str) -> None:
    single = counts().astype(dtype)
    single[4, 16, 16] = 2**16 - 1 if dtype == "u2" else 255
    assert found(single) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([180, 200, 220]))
def test_counts_that_come_close_to_the_end_of_eight_bits_are_counts(seed: int, brightest: float) -> None:
    assert found(np.minimum(counts(brightest, seed), 255).astype("u1")) is None


@pytest.mark.parametrize("brightest", [400, 2000])
def test_counts_of_eight_bits_saturate_where_it_is_bright_and_are_marks_where_it_is_not(
    brightest: float, caplog: pytest.LogCaptureFixture
) -> None:
    saturated = np.minimum(counts(brightest), 255).astype("u1")
    assert found(saturated) is None
    positions = np.random.default_rng(0).uniform(0, 60, (COUNT, 2))
    Scan(saturated, positions, values="intensity")
    assert "pixels saturate, 255 in 20 patterns at (y, x)" in caplog.text
    mark = found(marked(saturated, 255, "u1"))
    assert mark is not None
    assert (mark.y, mark.x, mark.pixels) == (3, 5, 4)


def test_longer_counts_that_saturate_are_refused_like_marks() -> None:
    mark = found(np.minimum(counts(100_000), 2**16 - 1).astype("u2"))
    assert mark is not None
    assert mark.value == 2**16 - 1


@pytest.mark.parametrize("value", [251.0, 4000.0, 65534.0 / 3])
def test_other_bright_pixels_are_none(value: float) -> None:
    assert found(marked(counts(200), value, "f4")) is None


def test_the_end_of_a_type_between_other_values_is_none() -> None:
    bright = counts(3000).astype(np.float32)
    bright[:2, 3, 5] = 2**11 - 1
    assert found(bright) is None


def test_the_refusal_names_pixel_and_remedy() -> None:
    positions = np.random.default_rng(0).uniform(0, 60, (COUNT, 2))
    with pytest.raises(ScanError) as caught:
        Scan(marked(counts(), 2**16 - 1, "u2"), positions, values="intensity", name="gaps.npz")
    assert caught.value.key == "diffraction"
    assert "(y, x) = (3, 5)" in str(caught.value)
    assert "set these pixels to 0" in str(caught.value)


@pytest.mark.parametrize("mark", [-1, -2])
def test_negative_marks_are_refused_too(mark: int) -> None:
    positions = np.random.default_rng(0).uniform(0, 60, (COUNT, 2))
    with pytest.raises(ScanError) as caught:
        Scan(marked(counts(), mark, "i4"), positions, values="intensity")
    assert caught.value.key == "diffraction"
    assert str(caught.value.found).startswith(f"{mark} in pattern ")


def _saturated_one_by_one(patterns: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of connected regions whose neighbours are on average brighter than a quarter of 255, region by region."""
    often = (patterns == 255).sum(axis=0) >= 2
    patches, count = label(often)
    mean, bright = patterns.mean(axis=0), np.zeros_like(often)
    for number in range(1, count + 1):
        around = mean[binary_dilation(patches == number) & ~often]
        bright |= (patches == number) & bool(around.size and around.mean() >= 255 / 4)
    return bright


@pytest.mark.parametrize("density", [0.02, 0.2, 0.5, 0.9, 1.0])
def test_every_region_is_judged_by_its_own_neighbours(density: float) -> None:
    generator = np.random.default_rng(1)
    patterns = generator.integers(0, generator.integers(60, 220, (N, N)), (5, N, N)).astype("u1")
    patterns[:, generator.random((N, N)) < density] = 255
    marks = Marks(patterns.dtype, (N, N))
    marks.add(patterns, patterns.max())
    expected = _saturated_one_by_one(patterns)
    saturated, rest = marks.saturated(), marks.bad_pixels()
    assert (saturated.pixels if saturated else 0) == expected.sum()
    assert (rest.pixels if rest else 0) == ((patterns == 255).sum(axis=0) >= 2).sum() - expected.sum()


def test_thousands_of_patches_take_no_longer_than_one() -> None:
    """One after the other they took half a minute: the time for the whole image, for each of them."""
    spent = []
    for step in (512, 4):
        patterns = np.full((2, 512, 512), 100, "u1")
        patterns[:, 1::step, 1::step] = 255
        marks = Marks(patterns.dtype, patterns.shape[1:])
        marks.add(patterns, patterns.max())
        start = process_time()
        saturated = marks.saturated()
        spent.append(process_time() - start)
        assert saturated is not None
        assert saturated.pixels == (512 // step) ** 2
    assert spent[1] < 100 * spent[0]  # of 16384 patches
