"""Phases of patches from their overlaps: against known phases, exact inner products, and order."""

from __future__ import annotations

import numpy as np
import pytest
from float32_bounds import of_sums
from numpy.typing import NDArray

from ptyonnx_runtime.stitching import phasing
from ptyonnx_runtime.stitching.phasing import Overlaps
from ptyonnx_runtime.stitching.stitching import Canvas, Frame, Tiles

pytestmark = pytest.mark.numerical

N = 32
FRAME = Frame((0, 0), (128, 160))
SUMS = of_sums(N * N, N * N)  # over the blocks of a patch, and of products of them; phases follow in complex128


def weight() -> NDArray[np.float32]:
    y, x = np.mgrid[:N, :N] - N // 2
    return np.exp(-(x**2 + y**2) / (N / 3) ** 2).astype(np.float32)


def positions(count: int, low: float = N, high: float = 90) -> NDArray[np.float64]:
    return np.random.default_rng(1).uniform(low, high, (count, 2))


def patches_of_one_object(where: NDArray[np.float64], strength_rad: float = 1.0) -> NDArray[np.complex64]:
    """Patches of a smooth closed-form object, taken exactly at sub-pixel positions."""
    index = np.arange(N) - N // 2
    y = where[:, 0, np.newaxis, np.newaxis] + index[:, np.newaxis]
    x = where[:, 1, np.newaxis, np.newaxis] + index
    phase = strength_rad * (np.sin(y / 7) * np.cos(x / 11) + np.sin(x / 40))
    return ((0.8 + 0.1 * np.sin((x + y) / 9)) * np.exp(1j * phase)).astype(np.complex64)


def tiles_of(patches: NDArray[np.complex64], where: NDArray[np.float64], chunk: int) -> list[Tiles]:
    canvas = Canvas(FRAME, weight())
    return [canvas.tiles(patches[i : i + chunk], where[i : i + chunk]) for i in range(0, len(patches), chunk)]


def phases_of(tiles: list[Tiles]) -> NDArray[np.complex64]:
    ends = np.cumsum([0, *(len(part.values) for part in tiles)]).tolist()
    with Overlaps(FRAME, N, ends[-1]) as overlaps:
        for first, part in zip(ends, tiles, strict=False):
            overlaps.add(first, part)
        return overlaps.phases()


def without_mean(factors: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:  # type: ignore[type-arg]
    mean = factors.sum()
    return factors * np.conj(mean) / abs(mean)


@pytest.mark.parametrize("count", [2, 20, 200])
def test_random_phases_are_found_up_to_a_common_one(count: int) -> None:
    where = positions(count, high=60 if count < 50 else 90)
    random = np.exp(1j * np.random.default_rng(2).uniform(-np.pi, np.pi, count))
    patches = patches_of_one_object(where) * random[:, np.newaxis, np.newaxis]
    found = phases_of(tiles_of(patches.astype(np.complex64), where, 8))
    np.testing.assert_allclose(np.abs(found), 1, atol=1e-6)  # a float64 phasor, rounded: 1e-7
    agreement = found * random  # constant where every phase was found
    # sums over blocks weigh the object differently in each patch: a few hundredths of a radian
    assert np.std(np.angle(without_mean(agreement))) < 0.05


def test_patches_that_agree_already_are_left_alone() -> None:
    where = positions(100)
    found = phases_of(tiles_of(patches_of_one_object(where, 0.1), where, 8))
    assert np.abs(np.angle(found)).max() < 0.02


def test_block_sums_give_the_phases_of_exact_inner_products() -> None:
    where = np.round(positions(40, high=70))
    generator = np.random.default_rng(3)
    random = np.exp(1j * generator.uniform(-1, 1, 40))
    patches = (patches_of_one_object(where) * random[:, np.newaxis, np.newaxis]).astype(np.complex64)
    placed = np.zeros((40, *FRAME.shape), complex)
    for canvas, patch, (y, x) in zip(placed, patches * weight(), where.astype(int) - N // 2, strict=True):
        canvas[y : y + N, x : x + N] = patch
    flat = placed.reshape(40, -1)
    inner = flat.conj() @ flat.T
    degree = 1 / np.sqrt(np.abs(inner).sum(axis=1))
    vector = np.linalg.eigh(degree[:, np.newaxis] * inner * degree)[1][:, -1]
    exact = without_mean(vector / np.abs(vector))
    found = without_mean(phases_of(tiles_of(patches, where, 8)))
    assert np.std(np.angle(found * exact.conj())) < 0.05


def test_neither_order_nor_chunks_matter() -> None:
    where = positions(150)
    patches = patches_of_one_object(where) * np.exp(1j * positions(150)[:, :1, np.newaxis])
    order = np.random.default_rng(4).permutation(150)
    straight = phases_of(tiles_of(patches.astype(np.complex64), where, 8))
    shuffled = phases_of(tiles_of(patches[order].astype(np.complex64), where[order], 37))
    np.testing.assert_allclose(shuffled, straight[order], atol=SUMS)


def test_islands_that_no_light_connects_do_not_disturb_each_other() -> None:
    west, east = positions(60, high=50), positions(60, high=50) + np.array([0, 78])
    patches = patches_of_one_object(west)
    both = phases_of(tiles_of(np.concatenate([patches, 1e-2 * patches]), np.concatenate([west, east]), 8))
    alone = phases_of(tiles_of(patches, west, 8))
    np.testing.assert_allclose(both[:60], alone, atol=SUMS)
    np.testing.assert_allclose(both[60:], alone, atol=0.1)


def test_one_patch_keeps_its_phase() -> None:
    where = positions(1)
    np.testing.assert_array_equal(phases_of(tiles_of(patches_of_one_object(where), where, 8)), [1])


def test_dark_patches_do_no_harm() -> None:
    where = positions(80)
    patches = patches_of_one_object(where)
    patches[::2] = 0
    found = phases_of(tiles_of(patches, where, 8))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[::2], 1)


def test_it_does_not_matter_how_many_patches_are_looked_at_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two islands whose patches take turns, so that every part of the file holds some of both; and dark ones."""
    west, east = positions(70, high=50), positions(70, high=50) + np.array([0, 78])
    where = np.stack([west, east], axis=1).reshape(-1, 2)
    patches = patches_of_one_object(where) * np.exp(1j * np.arange(140))[:, np.newaxis, np.newaxis]
    patches[::9] = 0
    tiles = tiles_of(patches.astype(np.complex64), where, 8)
    at_once = phases_of(tiles)
    monkeypatch.setattr(phasing, "_CHUNK_BYTES", 1)  # as few as a dense solver takes
    np.testing.assert_allclose(phases_of(tiles), at_once, atol=SUMS)
