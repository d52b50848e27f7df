"""Ctrl-C ends a comparison without waiting for the batch in progress, and engines are closed."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
from bundle_factory import example_probe, make_bundle
from numpy.typing import NDArray

from ptyonnx.comparison import Implementation, compare, implementation
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import MissingDependencyError
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.session import Session
from ptyonnx_runtime.scan import Scan

RECIPE = Recipe(N=32, filters_scale=0.125)
LONG_S = 10.0  # duration of a batch that nothing ends
PATCHES, STITCHED = 1, 2  # batches of a comparison on a scan, in order


class SlowEngine:
    """onnxruntime, one batch per scan; one of these batches interrupts the main thread and lasts until `close`."""

    name, provider, concurrency, batch_px = "onnxruntime", "cpu", 2, 2**30

    def __init__(self, bundle: Bundle, slow_batch: int = 0) -> None:
        self._session, self._slow_batch, self._batches = Session(bundle, threads=1), slow_batch, 0
        self.closed, self.ended = threading.Event(), threading.Event()
        self.ended_by_close = False

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        if threading.current_thread() is not threading.main_thread():  # which compares the activations
            self._batches += 1
            if self._batches == self._slow_batch:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                self.ended_by_close = self.closed.wait(LONG_S)
                self.ended.set()
        return self._session.run(diffraction)

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return self._session.activations(diffraction)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return make_bundle(folder / "a.onnx", RECIPE), make_bundle(folder / "b.onnx", RECIPE, seed=1)


@pytest.fixture(scope="module")
def scan() -> Scan:
    generator = np.random.default_rng(0)
    positions_px = generator.uniform(30, 45, (6, 2))
    return Scan(generator.gamma(2.0, 5.0, (6, 32, 32)).astype(np.float32), positions_px, example_probe(32))


def _open_with(monkeypatch: pytest.MonkeyPatch, engines: dict[str, Engine]) -> None:
    """Have `compare` open these engines, by name of the bundle."""
    monkeypatch.setattr(implementation, "open_engine", lambda bundle, *_, **__: engines[bundle.name])


@pytest.mark.parametrize("batch", [PATCHES, STITCHED], ids=["patches", "stitched"])
@pytest.mark.parametrize("slow", ["a.onnx", "b.onnx"])
def test_ctrl_c_ends_the_batch_in_progress(
    bundles: tuple[Bundle, Bundle], scan: Scan, slow: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {bundle.name: SlowEngine(bundle, batch if bundle.name == slow else 0) for bundle in bundles}
    _open_with(monkeypatch, engines)
    with pytest.raises(KeyboardInterrupt):
        compare(*bundles, scan)
    assert engines[slow].ended.wait(LONG_S)
    assert engines[slow].ended_by_close
    assert all(engine.closed.is_set() for engine in engines.values())


def test_a_comparison_closes_the_engines_that_it_opened_and_no_other(
    bundles: tuple[Bundle, Bundle], scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = map(SlowEngine, bundles)
    _open_with(monkeypatch, {bundles[0].name: first})
    compare(bundles[0], Implementation(bundles[1], opened=second), scan)
    assert first.closed.is_set()
    assert not second.closed.is_set()


def test_ctrl_c_leaves_the_engine_of_the_caller_open(
    bundles: tuple[Bundle, Bundle], scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = SlowEngine(bundles[0]), SlowEngine(bundles[1], PATCHES)
    _open_with(monkeypatch, {bundles[1].name: other})
    with pytest.raises(KeyboardInterrupt):
        compare(Implementation(bundles[0], opened=mine), bundles[1], scan)
    assert other.closed.is_set()
    assert not mine.closed.is_set()


def test_the_first_engine_is_closed_where_the_second_cannot_be_opened(
    bundles: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SlowEngine(bundles[0])

    def open_engine(bundle: Bundle, *_: object, **__: object) -> Engine:
        if bundle is bundles[0]:
            return first
        raise MissingDependencyError("not installed")

    monkeypatch.setattr(implementation, "open_engine", open_engine)
    with pytest.raises(MissingDependencyError):
        compare(*bundles)
    assert first.closed.is_set()
