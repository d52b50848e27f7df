import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import example_probe, example_weights, make_bundle, run_model

from ptyonnx.comparison import compare, compare_weights
from ptyonnx.comparison.patches import MOST_PATTERNS, compare_patches
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import BundleError, SettingsError
from ptyonnx_runtime.reconstruct import reconstruct
from ptyonnx_runtime.scan import Scan

RECIPE = Recipe(N=64, filters_scale=0.0625)


@pytest.fixture(scope="module")
def a(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("a") / "a.onnx", RECIPE)


@pytest.fixture(scope="module")
def b(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("b") / "b.onnx", RECIPE, seed=1, framework="tensorflow")


@pytest.fixture(scope="module")
def scan() -> Scan:
    generator = np.random.default_rng(3)
    y, x = np.meshgrid(np.arange(40, 70, 6.5), np.arange(40, 70, 6.5), indexing="ij")
    positions = np.stack([y.ravel(), x.ravel()], axis=1)
    diffraction = generator.gamma(2.0, 5.0, (len(positions), 64, 64)).astype(np.float32)
    return Scan(diffraction, positions, example_probe(64))


def test_a_bundle_is_the_same_function_as_itself_and_as_its_twin(a: Bundle, tmp_path: Path) -> None:
    twin = make_bundle(tmp_path / "twin.onnx", RECIPE, framework="tensorflow")
    found = compare(a, twin)
    assert found.same_function
    assert found.passed
    assert found.largest == 0
    assert found.patches is None
    assert {entry.key for entry in found.manifest} <= {"producer.framework", "created"}
    assert "producer.framework" in {entry.key for entry in found.manifest}
    assert all(entry.equal for entry in found.weights)


def test_patches_differ_by_what_onnxruntime_says(a: Bundle, b: Bundle) -> None:
    found = compare(a, b)
    diffraction = np.concatenate([a.selftest.diffraction, b.selftest.diffraction])
    first, second = (run_model(bundle.model, diffraction).astype(complex).ravel() for bundle in (a, b))
    factor = np.linalg.lstsq(first[:, np.newaxis], second, rcond=None)[0][0]
    distance = np.abs(factor * first - second)
    assert found.patches is not None
    assert found.patches.source == "self-tests"
    assert found.patches.difference.maximum == pytest.approx(distance.max(), rel=1e-4)
    assert found.patches.difference.rms == pytest.approx(np.sqrt(np.mean(distance**2)), rel=1e-4)
    assert not found.same_function
    assert not found.passed
    assert compare(a, b, tolerance=found.largest).passed


def test_stitched_images_are_those_of_the_runtime(a: Bundle, b: Bundle, scan: Scan) -> None:
    found = compare(a, b, scan)
    first, second = (reconstruct(bundle, scan) for bundle in (a, b))
    seen = ~(first.mask | second.mask)
    left, right = first.object[seen].astype(complex), second.object[seen].astype(complex)
    factor = np.linalg.lstsq(left[:, np.newaxis], right, rcond=None)[0][0]
    assert found.image is not None
    assert found.image.difference.pixels == seen.sum()
    assert found.image.difference.maximum == pytest.approx(np.abs(factor * left - right).max(), rel=1e-4)
    assert (found.image.r_factor_a, found.image.r_factor_b) == (first.r_factor, second.r_factor)
    assert found.patches is not None
    assert (found.patches.source, found.patches.patterns) == ("scan", len(scan))


def test_the_same_function_with_another_probe_may_give_another_image(a: Bundle, scan: Scan, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other.onnx", RECIPE, probe=np.roll(example_probe(64), 6, axis=-1))
    found = compare(a, other, scan, tolerance=1e-6)
    assert found.same_function
    assert found.patches is not None
    assert found.patches.difference.maximum == pytest.approx(0, abs=1e-6)
    assert not found.passed


def test_bundles_of_two_gridsizes_meet_on_a_scan_only(a: Bundle, scan: Scan, tmp_path: Path) -> None:
    four = make_bundle(tmp_path / "four.onnx", Recipe(N=64, gridsize=2, filters_scale=0.0625))
    alone = compare(a, four)
    assert alone.patches is None
    assert not alone.passed
    together = compare(a, four, scan)
    assert together.patches is not None
    assert np.isfinite(together.largest)


def test_bundles_of_two_sizes_cannot_be_compared(a: Bundle, tmp_path: Path) -> None:
    large = make_bundle(tmp_path / "large.onnx", Recipe(N=128, filters_scale=0.0625))
    with pytest.raises(BundleError, match="found 128, expected 64"):
        compare(a, large)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_a_tolerance_is_a_positive_number(a: Bundle, b: Bundle, tolerance: float) -> None:
    with pytest.raises(SettingsError):
        compare(a, b, tolerance=tolerance)


def test_of_a_long_scan_only_the_middle_is_compared_patch_by_patch(a: Bundle, b: Bundle, scan: Scan) -> None:
    many = MOST_PATTERNS + 10
    spread = np.stack([np.linspace(0, 300, many), np.zeros(many)], axis=1)
    diffraction = np.resize(scan.diffraction[:], (many, 64, 64))
    found = compare_patches(a, b, replace(scan, diffraction=diffraction, positions_px=spread))
    assert found is not None
    assert found.patterns == MOST_PATTERNS


def test_weights_are_compared_by_name() -> None:
    first = example_weights(RECIPE)
    name = "decoder.phase.output.weight"
    second = {**first, name: first[name] + np.float32(0.5), "extra": np.zeros(3, np.float32)}
    del second["whitening.scale"]
    found = {entry.name: entry for entry in compare_weights(first, second)}
    assert {entry.name for entry in found.values() if not entry.equal} == {name, "extra", "whitening.scale"}
    assert found[name].maximum == pytest.approx(0.5)
    assert found[name].rms == pytest.approx(0.5)
    assert (found["extra"].shape_a, found["extra"].shape_b) == (None, (3,))
    assert found["whitening.scale"].shape_b is None


def test_a_graph_of_another_depth_is_said_to_differ(a: Bundle, tmp_path: Path) -> None:
    shallow = make_bundle(tmp_path / "shallow.onnx", Recipe(N=64, filters_scale=0.0625, depth=2))
    found = compare(a, shallow)
    assert any(name.startswith("encoder.2") for name in found.graph.only_a)
    assert "decoder.phase.output" in found.graph.changed
    assert any(entry.key == "recipe.depth" and (entry.a, entry.b) == (3, 2) for entry in found.manifest)


def test_the_outcome_is_json(a: Bundle, b: Bundle, scan: Scan) -> None:
    found = compare(a, b, scan)
    read = json.loads(json.dumps(found.to_dict()))
    assert read["passed"] is False
    assert read["largest"] == found.largest
    assert read["patches"]["difference"]["maximum"] > 0
    assert len(read["weights"]) == len(a.weights)
