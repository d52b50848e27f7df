"""Groups of neighbouring patterns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.grouping import groups_covering, nearest


@given(count=st.integers(16, 200), channels=st.sampled_from([1, 4, 9, 16]), seed=st.integers(0, 999))
def test_every_pattern_is_covered_by_groups_of_distinct_members(count: int, channels: int, seed: int) -> None:
    positions = np.random.default_rng(seed).uniform(0, 100, (count, 2))
    groups = groups_covering(positions, channels)
    assert groups.shape[1] == channels
    assert set(groups.ravel()) == set(range(count))
    assert all(len(set(group)) == channels for group in groups.tolist())


def test_one_channel_gives_every_pattern_once_in_order() -> None:
    np.testing.assert_array_equal(groups_covering(np.zeros((5, 2)), 1), np.arange(5)[:, np.newaxis])


@given(seed=st.integers(0, 999))
def test_members_are_the_nearest_by_brute_force(seed: int) -> None:
    positions = np.random.default_rng(seed).uniform(0, 100, (60, 2))
    members = nearest(positions, np.arange(60), 5)
    distance = np.linalg.norm(positions[:, np.newaxis] - positions, axis=-1)
    np.testing.assert_allclose(
        np.sort(np.take_along_axis(distance, members, 1), axis=1), np.sort(distance, axis=1)[:, :5]
    )
    np.testing.assert_array_equal(members[:, 0], np.arange(60))


def test_patterns_at_one_place_stay_distinct_members() -> None:
    positions = np.repeat(np.array([[0.0, 0], [10, 0], [20, 0]]), 4, axis=0)
    groups = groups_covering(positions, 4)
    assert set(groups.ravel()) == set(range(12))
    assert all(len(set(group)) == 4 for group in groups.tolist())


def test_fewer_patterns_than_a_group_needs_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ScanError) as caught:
        groups_covering(np.random.default_rng(0).uniform(0, 9, (3, 2)), 4)
    assert (caught.value.key, caught.value.found) == ("diffraction", 3)
