"""Patches of a known object, stitched, are that object."""

from typing import Any

import numpy as np
import pytest
from bundle_factory import example_probe
from float32_bounds import of_roundings, of_sums
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime import physics
from ptyonnx_runtime.scan import Scan
from ptyonnx_runtime.stitching.stitching import LEAST_WEIGHT, Canvas, Frame, frame_of, probe_weight

pytestmark = pytest.mark.numerical

N = 64
WEIGHT = probe_weight(example_probe(N, modes=2))


def stitch(patches: Any, positions_px: Any, frame: Frame, batches: list[Any], share: Any = None) -> Any:
    canvas = Canvas(frame, WEIGHT)
    for batch in batches:
        canvas.add(canvas.tiles(patches[batch], positions_px[batch], None if share is None else share[batch]))
    return canvas.finish()


def phase_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.corrcoef(np.angle(a), np.angle(b))[0, 1])


def test_true_patches_give_back_the_true_object(truth: Any, true_patches: Any, positions_px: Any) -> None:
    """PtychoPINN's PyTorch stitcher mirrors the placement and reaches 0.29 here."""
    found, mask = stitch(true_patches, positions_px, Frame((0, 0), truth.shape), [slice(None)])
    assert phase_correlation(found[~mask], truth[~mask]) > 0.99
    assert np.sqrt(np.mean(np.abs(found[~mask] - truth[~mask]) ** 2)) < 0.02


def test_no_pixel_at_the_border_is_blown_up(truth: Any, true_patches: Any, positions_px: Any) -> None:
    """PtychoPINN divides by count + 0.001: its border reaches 8071 beside a mean of 0.6."""
    found, mask = stitch(true_patches, positions_px, Frame((0, 0), truth.shape), [slice(None)])
    assert np.isnan(found[mask]).all()
    assert np.isfinite(found[~mask]).all()
    assert np.abs(found[~mask]).max() <= np.abs(true_patches).max()
    assert mask[0].all()
    assert not mask[tuple(np.rint(positions_px).astype(int).T)].any()


def test_a_single_patch_is_itself_wherever_the_probe_shines() -> None:
    patch = np.random.default_rng(0).standard_normal((1, N, N, 2)).astype(np.float32).view(np.complex64)[..., 0]
    found, mask = stitch(patch, np.array([[32.0, 32.0]]), Frame((0, 0), (N, N)), [slice(None)])
    np.testing.assert_array_equal(mask, WEIGHT < LEAST_WEIGHT)
    np.testing.assert_allclose(found[~mask], patch[0][~mask], rtol=of_roundings(8))  # times and by its weight


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(40)), size=st.integers(1, 40))
def test_order_and_batch_size_do_not_matter(order: list[int], size: int, true_patches: Any, positions_px: Any) -> None:
    frame = Frame((0, 0), (150, 170))
    together, mask = stitch(true_patches, positions_px, frame, [slice(0, 40)])
    batches = [order[start : start + size] for start in range(0, 40, size)]
    found, found_mask = stitch(true_patches, positions_px, frame, batches)
    np.testing.assert_array_equal(mask, found_mask)
    atol = 2 * of_sums(40, 40, size=float(np.abs(true_patches).max()))  # of values and of weights
    np.testing.assert_allclose(found[~mask], together[~mask], rtol=0, atol=atol)


def test_weights_and_sums_are_those_of_the_shift_matrices(true_patches: Any, positions_px: Any) -> None:
    """The same canvas as dense matrix products of `physics`, in float64."""
    height, width = 150, 170
    patches, positions = true_patches[:20], positions_px[:20]
    rows = physics.shift_matrices(positions[:, 0] - N // 2, height, N, np.float64)
    columns = physics.shift_matrices(positions[:, 1] - N // 2, width, N, np.float64).swapaxes(-1, -2)
    weights = physics.place(WEIGHT.astype(np.float64), rows, columns).sum(axis=0)
    sums = physics.place(patches * WEIGHT.astype(np.float64), rows, columns).sum(axis=0)
    found, mask = stitch(patches, positions, Frame((0, 0), (height, width)), [slice(None)])
    np.testing.assert_array_equal(mask, weights < LEAST_WEIGHT)
    atol = of_sums(
        20, 20, 2, 2, 2, 2, size=float(np.abs(patches).max())
    )  # of values and weights, moved by rows and columns
    np.testing.assert_allclose(found[~mask], (sums / np.where(mask, 1, weights))[~mask], rtol=0, atol=atol)


def test_a_pattern_in_several_groups_counts_once(true_patches: Any, positions_px: Any) -> None:
    frame = Frame((0, 0), (150, 170))
    once, mask = stitch(true_patches, positions_px, frame, [np.array([0, 1])])
    twice, _ = stitch(true_patches, positions_px, frame, [np.array([0, 1, 0])], share=np.array([0.5] + [1.0] * 299))
    atol = 2 * of_sums(3, 3, size=float(np.abs(true_patches).max()))
    np.testing.assert_allclose(twice[~mask], once[~mask], rtol=0, atol=atol)


@given(seed=st.integers(0, 999), N=st.sampled_from([32, 64]))
def test_the_smallest_canvas_holds_every_patch(seed: int, N: int) -> None:
    positions = np.random.default_rng(seed).uniform(-200, 200, (7, 2))
    frame = frame_of(Scan(np.ones((7, N, N), np.float32), positions))
    first = np.floor(positions).astype(int) - N // 2 - frame.origin_px
    assert (first.min(axis=0) == 0).all()
    last = np.ceil(positions).astype(int) - N // 2 + N - 1 - frame.origin_px
    assert (last.max(axis=0) == np.array(frame.shape) - 1).all()


def test_the_canvas_is_that_of_the_reference_object_where_all_patches_fit() -> None:
    diffraction, obj = np.ones((2, 64, 64), np.float32), np.ones((100, 90), np.complex64)
    fits = Scan(diffraction, np.array([[32.0, 32.0], [68.0, 58.0]]), object=obj)
    assert frame_of(fits) == Frame((0, 0), (100, 90))
    beyond = Scan(diffraction, np.array([[32.0, 32.0], [68.1, 58.0]]), object=obj)
    assert frame_of(beyond) == Frame((0, 0), (101, 90))
    before = Scan(diffraction, np.array([[31.5, 32.0], [68.0, 58.0]]), object=obj)
    assert frame_of(before) == Frame((-1, 0), (101, 90))


def test_positions_in_nanometres_do_not_fill_the_memory() -> None:
    scan = Scan(np.ones((2, 64, 64), np.float32), np.array([[0.0, 0.0], [1e6, 1e6]]))
    with pytest.raises(ScanError) as caught:
        frame_of(scan)
    assert caught.value.key == "positions"
