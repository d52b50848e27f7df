"""Patches of foreign networks are put where they belong, and count only where they are known."""

from __future__ import annotations

import numpy as np
import pytest
from float32_bounds import of_sums

from ptyonnx_runtime.stitching.placement import patch_positions, patch_weight
from ptyonnx_runtime.stitching.stitching import Canvas, Frame

pytestmark = pytest.mark.numerical

N = 16
RANDOM = np.random.default_rng(2)
TRUTH = (RANDOM.random((64, 64)) + 0.5) * np.exp(1j * RANDOM.random((64, 64)))


ATOL = of_sums(64, 64, size=1.5)  # patches of four members every 4 px, 16 px wide: 64 on a pixel, and their weights


def cut(positions: np.ndarray) -> np.ndarray:
    """Patches at whole positions: the position lies at index N//2."""
    corners = positions.astype(int) - N // 2
    return np.stack([TRUTH[y : y + N, x : x + N] for y, x in corners]).astype(np.complex64)


def stitched(patches: np.ndarray, positions: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    canvas = Canvas(Frame((0, 0), TRUTH.shape), weight)
    canvas.add(canvas.tiles(patches, positions))
    return canvas.finish()


def test_one_patch_of_a_group_lies_at_the_mean_of_its_patterns() -> None:
    y, x = np.meshgrid(np.arange(12, 52, 4.0), np.arange(12, 52, 4.0), indexing="ij")
    corners = np.array([[-2, -2], [-2, 2], [2, -2], [2, 2]])
    groups = np.stack([y.ravel(), x.ravel()], -1)[:, np.newaxis] + corners
    patches = np.repeat(cut(groups.mean(axis=1)), 4, axis=0)
    weight = np.ones((N, N), np.float32)
    placed = patch_positions({"patch_position": "group"}, groups)
    assert placed.shape == groups.shape
    found, mask = stitched(patches, placed.reshape(-1, 2), weight)
    np.testing.assert_allclose(found[~mask], TRUTH[~mask], rtol=0, atol=ATOL)
    naive, _ = stitched(patches, groups.reshape(-1, 2), weight)
    assert np.abs(naive - TRUTH)[~mask].max() > 0.1


def test_zeros_around_the_known_part_of_a_patch_darken_nothing() -> None:
    y, x = np.meshgrid(np.arange(12, 52, 4.0), np.arange(12, 52, 4.0), indexing="ij")
    positions = np.stack([y.ravel(), x.ravel()], -1)
    patches = np.zeros((len(positions), N, N), np.complex64)
    patches[:, 4:12, 4:12] = cut(positions)[:, 4:12, 4:12]
    weight = patch_weight({"known": "central half"}, np.ones((N, N), np.float32))
    found, mask = stitched(patches, positions, weight)
    assert (~mask).sum() == 44 * 44
    np.testing.assert_allclose(found[~mask], TRUTH[~mask], rtol=0, atol=ATOL)


def test_without_such_conventions_nothing_changes() -> None:
    positions, weight = RANDOM.random((3, 4, 2)), RANDOM.random((N, N)).astype(np.float32)
    for known in ({}, {"patch_position": "pattern", "known": "everywhere"}):
        assert patch_positions(known, positions) is positions
        assert patch_weight(known, weight) is weight
