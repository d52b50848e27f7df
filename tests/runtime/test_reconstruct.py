"""From a bundle and a scan to an object, whatever the batch, the threads and the selection."""

import logging
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bundle_factory import run_model
from float32_bounds import UNIT_ROUNDOFF, of_bundle, of_sums
from session_runs import patches, predict, reconstruct

from ptyonnx_bundles.errors import NotFiniteError, ScanError, SettingsError
from ptyonnx_runtime import reconstruct as runtime
from ptyonnx_runtime.grouping import groups_covering
from ptyonnx_runtime.inference import runner
from ptyonnx_runtime.inference.engine import SHARED_BATCH_PX
from ptyonnx_runtime.inference.session import Session
from ptyonnx_runtime.reconstruct import Options
from ptyonnx_runtime.scan import Scan

pytestmark = pytest.mark.numerical


def thinned(scan: Scan, index: Any) -> Scan:
    return replace(scan, diffraction=scan.diffraction[index], positions_px=scan.positions_px[index])


def scaled(scan: Scan, factor: float) -> Scan:
    return replace(scan, diffraction=scan.diffraction[:] * np.float32(factor))


def within(bundle: Any, scan: Scan, roundings: int = 0) -> float:
    """How far patches may be apart, with another batch, other threads, or amplitudes that are rounded otherwise."""
    groups = groups_covering(scan.positions_px, bundle.manifest.recipe.channels)[:24]
    return of_bundle(bundle.model, scan.diffraction[:][groups], roundings)


def same(a: Any, b: Any, atol: float) -> None:
    """The same object: an average of patches is off by no more than they are."""
    np.testing.assert_array_equal(a.mask, b.mask)
    np.testing.assert_allclose(a.object[~a.mask], b.object[~a.mask], rtol=0, atol=atol)


def test_patches_are_those_of_onnxruntime_alone(bundles: Any, scan: Scan) -> None:
    expected = run_model(bundles().model, scan.diffraction[:][:, np.newaxis])[:, 0]
    np.testing.assert_allclose(patches(bundles(), scan), expected, rtol=0, atol=within(bundles(), scan))


@pytest.mark.parametrize("gridsize", [1, 2])
def test_batch_size_and_threads_do_not_matter(bundles: Any, scan: Scan, gridsize: int) -> None:
    expected = reconstruct(bundles(gridsize), scan, batch_size=1, threads=1)
    atol = within(bundles(gridsize), scan)
    # Objects that are off by that change a residual R by no more; beside it, transforms and sums over the detector.
    rtol = atol / expected.residual.min() + 2 * of_sums(2, 2 * 64, 2 * 64, 64 * 64)
    for batch_size, threads in ((3, 2), (7, 4), (1000, 1)):
        found = reconstruct(bundles(gridsize), scan, batch_size=batch_size, threads=threads)
        same(found, expected, atol)
        np.testing.assert_allclose(found.residual, expected.residual, rtol=rtol)


def test_the_same_arguments_give_the_same_bits(bundles: Any, scan: Scan) -> None:
    a, b = (reconstruct(bundles(), scan, threads=4) for _ in range(2))
    np.testing.assert_array_equal(a.object, b.object)
    assert a.r_factor == b.r_factor


def test_the_order_of_patterns_does_not_matter(bundles: Any, scan: Scan) -> None:
    order = np.random.default_rng(0).permutation(len(scan))
    same(reconstruct(bundles(), thinned(scan, order)), reconstruct(bundles(), scan), within(bundles(), scan))


def test_a_pattern_gives_the_same_patch_in_every_selection(bundles: Any, scan: Scan) -> None:
    """PtychoPINN normalises over the selected groups: another selection, another object."""
    bright = scaled(scan, 1.02)
    selection = np.arange(0, 300, 7)
    found, expected = patches(bundles(), thinned(bright, selection)), patches(bundles(), bright)[selection]
    np.testing.assert_allclose(found, expected, rtol=0, atol=within(bundles(), bright))


def test_more_than_64_groups_of_gridsize_2_all_arrive(bundles: Any, scan: Scan) -> None:
    """PtychoPINN's TensorFlow merges a batch of 64 or more patches into one canvas: 150 groups in, 5 out."""
    groups = groups_covering(scan.positions_px, 4)
    assert len(groups) > 64
    found = list(predict(bundles(2), scan, batch_size=len(groups)))
    assert sum(len(part.pattern) for part in found) == groups.size
    np.testing.assert_array_equal(np.concatenate([part.pattern for part in found]), groups.ravel())


def test_a_pattern_in_several_groups_is_averaged(bundles: Any, scan: Scan) -> None:
    few = thinned(scan, slice(0, 30))
    groups = groups_covering(few.positions_px, 4)
    raw = run_model(bundles(2).model, few.diffraction[groups]).reshape(-1, 64, 64)
    found, atol = patches(bundles(2), few, batch_size=5), within(bundles(2), few)
    for pattern in range(30):
        expected = raw[groups.ravel() == pattern].mean(axis=0)
        np.testing.assert_allclose(found[pattern], expected, rtol=0, atol=atol)


def test_another_exposure_gives_the_same_object_and_is_said_aloud(
    bundles: Any, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    scan = scaled(scan, np.sqrt(bundles().manifest.physics.mean_photons / scan.mean_photons))
    expected = reconstruct(bundles(), scan)
    assert expected.flux.scale == 1
    with caplog.at_level(logging.WARNING):
        found = reconstruct(bundles(), scaled(scan, 3))
    photons = of_sums(64 * 64)  # of a pattern; amplitudes are off by half as much, and rounded twice
    same(found, expected, within(bundles(), scan, roundings=2 + round(photons / 2 / UNIT_ROUNDOFF)))
    assert found.r_factor == pytest.approx(expected.r_factor, rel=1e-4)  # errors of 1e-5 in every pixel do not add up
    assert found.flux.scale == pytest.approx(1 / 3, rel=photons)
    assert found.flux.scan_photons == pytest.approx(9 * expected.flux.scan_photons, rel=2 * photons)
    assert "amplitudes multiplied by 0.3333" in caplog.text


def test_a_flux_within_a_tenth_is_left_alone(bundles: Any, scan: Scan, caplog: pytest.LogCaptureFixture) -> None:
    assert reconstruct(bundles(), scaled(scan, np.sqrt(1.09))).flux.scale == 1
    assert not caplog.text


def test_a_flux_as_is_is_left_alone_and_said_aloud(bundles: Any, scan: Scan, caplog: pytest.LogCaptureFixture) -> None:
    found = reconstruct(bundles(), scaled(scan, 3), flux="as-is")
    assert (found.flux.scale, found.flux.differs) == (1, True)
    assert "left as they are" in caplog.text


def test_progress_reaches_its_end(bundles: Any, scan: Scan) -> None:
    calls: list[tuple[int, int]] = []
    reconstruct(bundles(), scan, batch_size=64, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(64, 300), (128, 300), (192, 300), (256, 300), (300, 300)]


def test_a_single_pattern_is_enough(bundles: Any, scan: Scan) -> None:
    found = reconstruct(bundles(), thinned(scan, slice(0, 1)))
    assert (len(found.residual), np.isfinite(found.r_factor)) == (1, True)


def test_a_pattern_without_photons_has_no_residual(bundles: Any, scan: Scan) -> None:
    diffraction = scan.diffraction[:].copy()
    diffraction[5] = 0
    found = reconstruct(bundles(), replace(scan, diffraction=diffraction))
    assert not np.isfinite(found.residual[5])
    assert np.isfinite(found.r_factor)


@pytest.mark.parametrize(
    "options,key",
    [
        ({"batch_size": 0}, "batch_size"),
        ({"threads": -1}, "threads"),
        ({"flux": "double"}, "flux"),
        ({"phases": "double"}, "phases"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Options(**options)
    assert caught.value.key == key


@pytest.mark.parametrize("options,key", [({"threads": -1}, "threads"), ({"concurrency": 0}, "concurrency")])
def test_a_session_with_impossible_numbers_of_threads_is_refused(
    bundles: Any, options: dict[str, Any], key: str
) -> None:
    for opened in (Session, Session.concurrent) if key == "threads" else (Session,):
        with pytest.raises(SettingsError) as caught:
            opened(bundles(), **options)
        assert caught.value.key == key


@pytest.mark.parametrize("threads,concurrency,batch", [(3, 3, 4), (3, 1, 16), (1, 1, 4)])
def test_a_session_states_its_concurrency_and_the_batch_that_suits_it(
    bundles: Any, threads: int, concurrency: int, batch: int
) -> None:
    session = Session(bundles(), "cpu", threads, concurrency=concurrency)
    assert (session.concurrency, session.batch_px) == (concurrency, batch * 64 * 64)
    if threads == concurrency:
        assert Session.concurrent(bundles(), "cpu", threads).concurrency == threads


class _Counting:
    """A session that counts the threads in `run` and the patterns of each batch."""

    def __init__(self, session: Session, concurrency: int) -> None:
        self.name, self.provider, self.batch_px = session.name, session.provider, session.batch_px
        self.concurrency, self._session = concurrency, session
        self.activations, self.close = session.activations, session.close
        self._lock, self._running = threading.Lock(), 0
        self.most, self.sizes = 0, set[int]()

    def run(self, diffraction: Any) -> Any:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
            self.sizes.add(len(diffraction))
        time.sleep(0.002)  # long enough for every other thread to come
        values = self._session.run(diffraction)
        with self._lock:
            self._running -= 1
        return values


@pytest.mark.parametrize("concurrency", [1, 3])
def test_as_many_threads_run_an_engine_as_it_states_with_batches_as_it_states(
    bundles: Any, scan: Scan, concurrency: int
) -> None:
    engine = _Counting(Session(bundles(), "cpu", 1), concurrency)
    found = runtime.reconstruct(bundles(), scan, engine, Options(threads=2))
    assert engine.most == concurrency
    assert max(engine.sizes) == engine.batch_px // scan.N**2
    np.testing.assert_array_equal(found.object, reconstruct(bundles(), scan).object)


def test_every_stage_reaches_its_end(bundles: Any, scan: Scan) -> None:
    calls: list[tuple[str, int, int]] = []
    reconstruct(bundles(), scan, batch_size=64, stages=lambda *call: calls.append(call))
    stages = [name for i, (name, _, _) in enumerate(calls) if i == 0 or calls[i - 1][0] != name]
    assert stages == ["network", "stitching", "residual"]
    for stage in stages:
        counts = [(done, total) for name, done, total in calls if name == stage]
        assert counts == sorted(counts)
        assert counts[-1][0] == counts[-1][1]
    assert calls[-1] == ("residual", len(scan), len(scan))


def test_after_an_error_runs_in_progress_are_abandoned(bundles: Any, bright: Scan) -> None:
    calls: list[str] = []
    options = Options(flux="as-is", abandon=lambda: calls.append("abandoned"))
    with pytest.raises(NotFiniteError):
        runtime.reconstruct(bundles(), bright, _Broken(bundles(), np.nan), options)
    assert calls == ["abandoned"]


def test_a_scan_of_another_size_than_the_bundle_is_refused(bundles: Any) -> None:
    scan = Scan(np.ones((2, 32, 32), np.float32), np.array([[0.0, 0], [5, 5]]), name="small.npz")
    with pytest.raises(ScanError) as caught:
        reconstruct(bundles(), scan)
    assert (caught.value.file, caught.value.key) == ("small.npz", "diffraction")
    assert (caught.value.found, caught.value.expected) == ("N = 32", "N = 64")


def test_fewer_patterns_than_a_group_are_refused(bundles: Any, scan: Scan) -> None:
    with pytest.raises(ScanError) as caught:
        reconstruct(bundles(2), thinned(scan, slice(0, 3)))
    assert (caught.value.key, caught.value.found) == ("diffraction", 3)


def test_dark_patterns_are_refused(bundles: Any, scan: Scan) -> None:
    with pytest.raises(ScanError) as caught:
        reconstruct(bundles(), scaled(scan, 0))
    assert caught.value.key == "diffraction"


class _Broken:
    """An engine that gives one pattern's object a pixel that is no number, or none to reckon with."""

    name, provider, concurrency, batch_px = "broken", "cpu", 1, SHARED_BATCH_PX

    def __init__(self, bundle: Any, number: complex) -> None:
        self._session, self._number = Session(bundle, threads=1), number

    def run(self, diffraction: Any) -> Any:
        values = self._session.run(diffraction)
        values[diffraction.max(axis=(1, 2, 3)) > 1e5, ..., 3, 4] = self._number
        return values


@pytest.fixture(scope="session")
def bright(scan: Scan) -> Scan:
    """The scan, pattern 17 of which has a pixel that is far too bright."""
    diffraction = scan.diffraction[:].copy()
    diffraction[17, 0, 0] = 2e5
    return replace(scan, diffraction=diffraction)


@pytest.mark.parametrize("phases", ["overlap", "network"])
@pytest.mark.parametrize("number", [np.nan, np.inf, complex(0, -np.inf), -1e13, 1e30j])
def test_an_object_that_is_no_number_is_refused_with_the_pattern(
    bundles: Any, bright: Scan, number: complex, phases: Any
) -> None:
    what = r"not finite" if not np.isfinite(number) else r"beyond 1e\+12"
    with pytest.raises(NotFiniteError, match=rf"{what} at pattern 17 .* largest amplitude is 2e\+05"):
        runtime.reconstruct(bundles(), bright, _Broken(bundles(), number), Options(phases=phases, flux="as-is"))


@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_patches_that_are_no_numbers_are_refused_in_batches_of_any_size(
    bundles: Any, bright: Scan, batch_size: int
) -> None:
    options = Options(flux="as-is", batch_size=batch_size)
    for number in (np.nan, 1e13):
        with pytest.raises(NotFiniteError, match="at pattern 17"):
            runner.patches(bundles(), bright, _Broken(bundles(), number), options)


@pytest.mark.parametrize("phases", ["overlap", "network"])
def test_whatever_is_let_through_is_nan_exactly_where_the_mask_is_true(bundles: Any, bright: Scan, phases: Any) -> None:
    engine = _Broken(bundles(), 9e11 - 9e11j)
    result = runtime.reconstruct(bundles(), bright, engine, Options(phases=phases, flux="as-is"))
    np.testing.assert_array_equal(np.isnan(result.object), result.mask)
    assert np.isfinite(result.residual).all()
    assert np.isfinite(result.r_factor)


@pytest.mark.parametrize(
    "r_factor,hardly",
    [(0.127, False), (0.163, False), (0.166, True), (0.179, True), (0.183, True), (0.21, True)],
    ids=["right", "below", "above", "mirrored", "x and y swapped", "worse"],
)
def test_an_object_that_is_hardly_better_than_vacuum_knows_it(
    bundles: Any, scan: Scan, r_factor: float, hardly: bool
) -> None:
    """R-factors of the shipped scan in right and wrong geometries, with a network of three epochs; vacuum has 0.194."""
    found = replace(reconstruct(bundles(), scan.part(np.arange(4))), r_factor=r_factor, vacuum_r_factor=0.194)
    assert found.is_hardly_better_than_vacuum == hardly
