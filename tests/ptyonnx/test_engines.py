"""A bundle's network in onnxruntime and in both frameworks: one function, wherever it runs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import example_weights, make_bundle
from float32_bounds import of_functions, of_network
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray

from ptyonnx import backends
from ptyonnx.backends.engines import ALIASES, ENGINES, canonical_engine, open_engine
from ptyonnx.results.reconstruction import reconstruct
from ptyonnx.simulation import scan_positions, simulate
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import BundleError, ProviderError, SettingsError
from ptyonnx_runtime.inference.engine import SHARED_BATCH_PX
from ptyonnx_runtime.inference.runner import patches, predict
from ptyonnx_runtime.scan import Scan

pytestmark = pytest.mark.numerical
NATIVE = pytest.mark.parametrize("name", backends.BACKENDS)


@pytest.fixture(scope="module", params=[1, 2], ids=["gridsize1", "gridsize2"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    recipe = Recipe(N=32, gridsize=request.param, filters_scale=0.25, depth=2)
    weights = example_weights(recipe, seed=4)
    generator = np.random.default_rng(4)
    for name, array in weights.items():
        if name.endswith("bias"):
            weights[name] = (array + 0.1 * generator.standard_normal(array.shape)).astype(np.float32)
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", recipe, weights=weights)


@pytest.fixture(scope="module")
def scan(bundle: Bundle) -> Scan:
    y, x = np.indices((80, 70))
    obj = np.exp(0.5j * np.sin(y / 5) * np.cos(x / 7))
    return simulate(obj, bundle.probe, scan_positions("fermat", obj.shape, 32, count=40))


def exact_and_allowed(
    bundle: Bundle, diffraction: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    return of_network(bundle.manifest.recipe, bundle.weights, diffraction)


def values_in_onnxruntime(bundle: Bundle, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Every node an output of the graph, nothing optimised: built with onnx, not with our code."""
    model = onnx.load_from_string(bundle.model)
    names = [node.output[0] for node in model.graph.node]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != "object")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"diffraction": diffraction}), strict=True))


@NATIVE
def test_a_framework_computes_the_patches_that_onnxruntime_computes(bundle: Bundle, name: str) -> None:
    engine = open_engine(bundle, name, threads=1)
    assert (engine.name, engine.provider) == (name, "cpu")
    found = engine.run(bundle.selftest.diffraction)
    assert (found.dtype, found.shape) == (np.complex64, bundle.selftest.object.shape)
    exact, allowed = exact_and_allowed(bundle, bundle.selftest.diffraction)
    assert np.std(found) > 300 * allowed["object"]
    for computed in (found, bundle.selftest.object):
        np.testing.assert_allclose(computed.view(np.float32).reshape(exact["object"].shape), exact["object"], rtol=0,
                                   atol=allowed["object"])  # fmt: skip


@NATIVE
def test_every_layer_of_a_framework_has_its_canonical_name_and_onnxruntimes_value(bundle: Bundle, name: str) -> None:
    diffraction = bundle.selftest.diffraction
    engine = open_engine(bundle, name, threads=1)
    found, expected = engine.activations(diffraction), values_in_onnxruntime(bundle, diffraction)
    exact, allowed = exact_and_allowed(bundle, diffraction)
    assert list(found) == [node.name for node in bundle.manifest.recipe.nodes()] == list(expected)
    for layer, value in found.items():
        assert (value.dtype, value.shape) == (np.float32, expected[layer].shape), layer
        for computed in (value, expected[layer]):
            np.testing.assert_allclose(computed, exact[layer], rtol=0, atol=allowed[layer], err_msg=layer)
    assert found["object"].tobytes() == engine.run(diffraction).tobytes()


@NATIVE
def test_a_framework_stitches_the_object_that_onnxruntime_does(bundle: Bundle, scan: Scan, name: str) -> None:
    expected = reconstruct(bundle, scan, threads=1)
    assert expected.engine == "onnxruntime"
    found = reconstruct(bundle, scan, threads=1, engine=open_engine(bundle, name, threads=1))
    assert (found.engine, found.provider) == (name, "cpu")
    np.testing.assert_array_equal(found.mask, expected.mask)
    seen = ~expected.mask
    recipe = bundle.manifest.recipe
    some = np.asarray(scan.diffraction[: 4 * recipe.channels]).reshape(4, recipe.channels, recipe.N, recipe.N)
    # Stitching takes means of patches, which err less than a patch does; each engine errs on its own, in both parts.
    atol = 2 * exact_and_allowed(bundle, some)[1]["object"]
    np.testing.assert_allclose(found.object[seen], expected.object[seen], rtol=0, atol=atol)
    # The R-factor of a pattern is a ratio of norms, and no norm changes by more than the object does.
    np.testing.assert_allclose(found.residual, expected.residual, rtol=0, atol=atol)


@NATIVE
def test_weights_given_to_a_framework_are_not_changed_by_it(bundle: Bundle, name: str) -> None:
    before = {key: array.tobytes() for key, array in bundle.weights.items()}
    engine = open_engine(bundle, name, threads=1)
    engine.run(bundle.selftest.diffraction)
    assert {key: array.tobytes() for key, array in bundle.weights.items()} == before


class _Recording:
    """An engine of ones that notes how it is called."""

    name, provider, concurrency, batch_px = "recording", "cpu", 1, SHARED_BATCH_PX

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.running = threading.Lock()
        self.closed = False

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        assert self.running.acquire(blocking=False), "called while another batch was running"
        self.sizes.append(len(diffraction))
        self.running.release()
        return np.ones(diffraction.shape, np.complex64)

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {"diffraction": diffraction}

    def close(self) -> None:
        self.closed = True


def test_an_engine_without_concurrency_computes_one_batch_at_a_time_of_the_requested_size(
    bundle: Bundle, scan: Scan
) -> None:
    engine = _Recording()
    result = reconstruct(bundle, scan, engine=engine, threads=4, batch_size=3)
    assert set(engine.sizes[:-1]) == {3}
    assert result.engine == "recording"
    assert not engine.closed
    np.testing.assert_allclose(result.object[~result.mask], 1, atol=of_functions())
    assert result.r_factor == pytest.approx(result.vacuum_r_factor, rel=1e-5)
    np.testing.assert_allclose(patches(bundle, scan, engine), 1, atol=of_functions())
    assert sum(len(found.pattern) for found in predict(bundle, scan, engine)) >= len(scan)


def test_onnxruntime_is_opened_like_the_others_and_runs_as_many_batches_at_a_time_as_threads(
    bundle: Bundle, scan: Scan
) -> None:
    engine = open_engine(bundle, provider="cpu", threads=3)
    assert (engine.name, engine.concurrency) == ("onnxruntime", 3)
    first, again = (reconstruct(bundle, scan, engine=engine) for _ in range(2))
    by_name = reconstruct(bundle, scan, engine="onnxruntime", threads=1)
    assert first.object.tobytes() == again.object.tobytes() == by_name.object.tobytes()


def test_an_engine_that_is_opened_by_name_is_closed_and_another_is_not(
    bundle: Bundle, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _Recording()
    monkeypatch.setattr("ptyonnx.backends.engines.open_engine", lambda *_, **__: engine)
    reconstruct(bundle, scan, engine=engine)
    assert not engine.closed
    reconstruct(bundle, scan, engine="onnxruntime")
    assert engine.closed


@pytest.mark.parametrize("alias, name", ALIASES.items())
def test_engines_have_short_names(alias: str, name: str) -> None:
    assert canonical_engine(alias) == canonical_engine(alias.upper()) == name
    assert name in ENGINES


def test_an_unknown_engine_is_refused_with_the_list_and_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        canonical_engine("tensorrflow")
    assert (caught.value.key, caught.value.found) == ("engine", "tensorrflow")
    assert caught.value.expected == f"one of {', '.join(ALIASES)}"
    assert "tensorflow" in str(caught.value.remedy)


@NATIVE
def test_a_framework_has_no_providers_of_onnxruntime(bundle: Bundle, name: str) -> None:
    with pytest.raises(ProviderError) as caught:
        open_engine(bundle, name, provider="openvino")
    assert caught.value.expected == "auto, cpu or cuda"


@NATIVE
def test_a_network_without_a_recipe_is_left_to_onnxruntime(tmp_path: Path, name: str) -> None:
    foreign = make_foreign_bundle(tmp_path / "adopted.onnx")
    with pytest.raises(BundleError, match="a framework needs a network of ptyonnx's own recipe; this one is foreign"):
        open_engine(foreign, name)
