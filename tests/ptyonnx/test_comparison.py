import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import example_probe, example_weights, make_bundle, overflowing, run_model
from float32_bounds import of_bundle, of_sums
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray
from session_runs import reconstruct

from ptyonnx.cli import main
from ptyonnx.comparison import Comparison, Implementation, compare, compare_weights
from ptyonnx.comparison.patches import compare_patches
from ptyonnx.comparison.stitched import Images
from ptyonnx.comparison.weights import judge_weights
from ptyonnx.reference.pattern_selection import MOST_PATTERNS
from ptyonnx_bundles import Bundle, ForeignRecipe, Recipe
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_runtime.inference.engine import SHARED_BATCH_PX
from ptyonnx_runtime.inference.session import Session
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


def test_images_that_cannot_be_compared_are_a_fault_for_their_own_reason(a: Bundle, b: Bundle) -> None:
    found = replace(compare(a, b), images=Images(False, "not comparable: no common pixel", fault="no common pixel"))
    assert found.faults == ("no common pixel",)


def test_a_bundle_is_the_same_function_as_itself_and_as_its_twin(a: Bundle, tmp_path: Path) -> None:
    twin = make_bundle(tmp_path / "twin.onnx", RECIPE, framework="tensorflow")
    found = compare(a, twin)
    assert found.same_function
    assert found.passed
    assert found.largest == 0
    assert found.patches is None
    assert {entry.key for entry in found.manifest} <= {"producer.framework", "created"}
    assert "producer.framework" in {entry.key for entry in found.manifest}
    assert all(entry.equal for entry in found.weights.arrays)
    assert (found.identity.passed, found.weights.passed) == (True, True)
    assert (found.activations.passed, found.images.passed) == (None, None)
    assert (found.identity.weights_a, found.identity.graph_b) == (
        a.manifest.digests.weights,
        twin.manifest.digests.graph,
    )


@pytest.mark.numerical
def test_patches_differ_by_what_onnxruntime_says(a: Bundle, b: Bundle) -> None:
    found = compare(a, b)
    diffraction = np.concatenate([a.selftest.diffraction, b.selftest.diffraction])
    first, second = (run_model(bundle.model, diffraction).astype(complex).ravel() for bundle in (a, b))
    phase = np.exp(1j * np.angle(np.vdot(first, second)))
    distance = np.abs(
        phase * first / np.sqrt(np.mean(np.abs(first) ** 2)) - second / np.sqrt(np.mean(np.abs(second) ** 2))
    )
    assert found.patches is not None
    assert found.patches.source == "self-tests"
    # Networks with other weights differ by about 1, so that rounding of 1e-5 changes the figure by as much.
    assert found.patches.difference.maximum == pytest.approx(distance.max(), rel=1e-4)
    assert found.patches.difference.rms == pytest.approx(np.sqrt(np.mean(distance**2)), rel=1e-4)
    assert not found.same_function
    assert not found.passed
    assert compare(a, b, tolerance=found.largest).passed


@pytest.mark.numerical
def test_stitched_images_are_those_of_the_runtime(a: Bundle, b: Bundle, scan: Scan) -> None:
    found = compare(a, b, scan)
    first, second = (reconstruct(bundle, scan) for bundle in (a, b))
    seen = ~(first.mask | second.mask)
    left, right = first.object[seen].astype(complex), second.object[seen].astype(complex)
    factor = np.linalg.lstsq(left[:, np.newaxis], right, rcond=None)[0][0]
    assert found.image is not None
    brighter = max(np.sqrt(np.mean(np.abs(each) ** 2)) for each in (left, right))
    plain = np.sqrt(np.mean(np.abs(factor * left - right) ** 2)) / brighter
    assert found.image.difference.rms < 1.01 * plain  # ramp and shift are removed too
    compared = ~(np.isnan(found.image.object_a) | np.isnan(found.image.object_b))
    np.testing.assert_array_equal(found.image.object_a[compared], first.object[compared])  # the brighter one
    distance = np.abs(found.image.object_a - found.image.object_b)[compared] / brighter
    assert found.image.difference.maximum == pytest.approx(distance.max(), rel=1e-4)
    assert found.image.difference.pixels == compared.sum()
    assert (found.image.r_factor_a, found.image.r_factor_b) == (first.r_factor, second.r_factor)
    assert found.patches is not None
    assert (found.patches.source, found.patches.patterns) == ("scan", len(scan))


@pytest.mark.numerical
def test_the_same_function_with_another_probe_may_give_another_image(a: Bundle, scan: Scan, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other.onnx", RECIPE, probe=np.roll(example_probe(64), 6, axis=-1))
    found = compare(a, other, scan, tolerance=1e-6)
    assert found.same_function
    assert found.patches is not None
    assert found.patches.difference.maximum <= of_bundle(a.model, scan.diffraction[:8][:, np.newaxis])
    assert not found.passed


def test_bundles_of_two_gridsizes_meet_on_a_scan_only(a: Bundle, scan: Scan, tmp_path: Path) -> None:
    four = make_bundle(tmp_path / "four.onnx", Recipe(N=64, gridsize=2, filters_scale=0.0625))
    alone = compare(a, four)
    assert alone.patches is None
    assert not alone.passed
    assert [level.passed for level in alone.levels.values()] == [False, False, None, None]
    together = compare(a, four, scan)
    assert together.patches is not None
    assert np.isfinite(together.largest)
    assert together.activations.passed is None
    assert together.images.passed is False


def test_of_two_sizes_what_can_be_compared_is(a: Bundle, scan: Scan, tmp_path: Path) -> None:
    small = make_bundle(tmp_path / "small.onnx", Recipe(N=32, filters_scale=0.0625))
    for data in (None, scan):
        found = compare(a, small, data)
        assert (found.patches, found.image, found.activations.passed, found.images.passed) == (None, None, None, None)
        assert not found.passed
        assert {entry.name for entry in found.weights.arrays if entry.differing is None} == {"whitening.mean"}
        assert {"recipe.N", "physics.N"} <= {entry.key for entry in found.manifest}


def test_a_scan_that_fits_neither_is_refused(a: Bundle, b: Bundle, scan: Scan) -> None:
    small = replace(scan, diffraction=scan.diffraction[:, :32, :32], probe=None)
    with pytest.raises(ScanError) as refusal:
        compare(a, b, small)
    assert (refusal.value.key, refusal.value.found, refusal.value.expected) == ("diffraction", "N = 32", "N = 64")


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_a_tolerance_is_a_positive_number(a: Bundle, b: Bundle, tolerance: float) -> None:
    with pytest.raises(SettingsError):
        compare(a, b, tolerance=tolerance)


def test_of_a_long_scan_only_the_middle_is_compared_patch_by_patch(a: Bundle, b: Bundle, scan: Scan) -> None:
    many = MOST_PATTERNS + 10
    spread = np.stack([np.linspace(0, 300, many), np.zeros(many)], axis=1)
    diffraction = np.resize(scan.diffraction[:], (many, 64, 64))
    engines = Session(a, threads=1), Session(b, threads=1)
    longer = replace(scan, diffraction=diffraction, positions_px=spread)
    found = compare_patches(Implementation(a), Implementation(b), engines, longer, tolerance=1e-4, free=True)
    assert found.patterns == MOST_PATTERNS


def test_a_network_that_overflows_parts_where_it_begins_even_from_itself(a: Bundle, tmp_path: Path) -> None:
    """Infinity less infinity is no number; warnings are errors here."""
    broken = overflowing(a, tmp_path / "broken.onnx")
    assert not np.isfinite(run_model(broken.model, a.selftest.diffraction)).any()
    assert compare(a, broken).activations.first == "decoder.phase.0.conv.0"
    found = compare(broken, Implementation(broken, provider="cpu"))
    assert found.same_function
    assert found.activations.first == "decoder.phase.1.conv.0"
    assert not found.passed


@pytest.mark.numerical
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
    change = np.float32(0.5) * np.sqrt(first[name].size)
    sums = 2 * of_sums(first[name].size)  # NumPy adds up in float32, twice
    assert found[name].relative == pytest.approx(change / np.linalg.norm(second[name]), rel=sums)
    cosine = np.vdot(first[name], second[name]) / np.linalg.norm(first[name]) / np.linalg.norm(second[name])
    assert found[name].cosine == pytest.approx(cosine, abs=2 * sums)
    assert [entry.name for entry in compare_weights(first, second)[:3]] == ["whitening.scale", "extra", name]


@pytest.mark.parametrize(
    "second, passed, alone",
    [({"one": 1}, None, ["one", "w"]), ({"w": 3}, True, []), ({"w": 3, "b": 1}, False, ["b"])],
)
def test_arrays_without_a_counterpart_are_listed_and_do_not_pass(
    second: dict[str, int], passed: bool | None, alone: list[str]
) -> None:
    arrays = {name: np.ones(size, np.float32) for name, size in second.items()}
    found = judge_weights(compare_weights({"w": np.ones(3, np.float32)}, arrays))
    assert found.passed is passed
    assert sorted(entry.name for entry in found.arrays if entry.differing is None) == alone
    assert repr(found) == f"<Weights: {found.sentence}>"


def test_differing_weights_are_counted_among_those_that_both_have() -> None:
    first = {"w": np.ones(3, np.float32), "b": np.ones(1, np.float32), "c": np.ones(2, np.float32)}
    found = judge_weights(compare_weights(first, {"w": np.zeros(3, np.float32), "b": np.ones(1, np.float32)}))
    assert found.passed is False
    assert re.findall(r"\d+ of \d+ arrays", found.sentence) == ["1 of 2 arrays", "1 of 3 arrays"]
    found = judge_weights(compare_weights(first, {name: 2 * array for name, array in first.items()}))
    assert re.findall(r"\d+ of \d+ arrays", found.sentence) == ["3 of 3 arrays"]


def test_the_sign_of_a_zero_is_a_difference() -> None:
    first = {"bias": np.zeros(3, np.float32)}
    (found,) = compare_weights(first, {"bias": np.array([0, -0.0, 0], np.float32)})
    assert (found.equal, found.differing, found.filters, found.maximum, found.cosine) == (False, 1, (1,), 0, None)


def test_a_graph_of_another_depth_is_said_to_differ(a: Bundle, tmp_path: Path) -> None:
    shallow = make_bundle(tmp_path / "shallow.onnx", Recipe(N=64, filters_scale=0.0625, depth=2))
    found = compare(a, shallow)
    assert any(name.startswith("encoder.2") for name in found.graph.only_a)
    assert "decoder.phase.output" in found.graph.changed
    assert any(entry.key == "recipe.depth" and (entry.a, entry.b) == (3, 2) for entry in found.manifest)


def test_the_outcome_is_json(a: Bundle, b: Bundle, scan: Scan) -> None:
    found = compare(a, b, scan)
    assert found.image is not None
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["passed"] is False
    assert read["largest"] == found.largest
    assert read["patches"]["difference"]["maximum"] > 0
    assert len(read["weights"]["arrays"]) == len(a.weights)
    assert read["activations"]["first"] == found.activations.first
    assert len(read["activations"]["layers"]) == len(RECIPE.nodes())
    assert read["images"]["image"]["alignment"]["shift_px"] == list(found.image.alignment.shift_px)
    assert all(read[level]["sentence"] for level in ("identity", "weights", "activations", "images"))


def test_what_users_print_is_one_short_line(a: Bundle, b: Bundle, scan: Scan) -> None:
    found = compare(a, b, scan)
    assert found.image is not None
    assert found.patches is not None
    parts = (found, found.image, found.image.ring, found.patches, *found.levels.values(), found.graph)
    for part in parts:
        line = repr(part)
        assert "\n" not in line
        assert len(line) < 600
        assert (line[0], line[-1]) == ("<", ">")
        assert line[1:].startswith(type(part).__name__)
    assert found.sentence in repr(found)
    assert f"largest difference {found.image.difference.maximum:.2g}, " in repr(found.image)
    assert found.image.ring.sentence in repr(found.image)
    assert "\x1b" not in repr(replace(found, a="\x1b[2J"))


def _half_known(path: Path, known: str) -> Bundle:
    conventions = {"known": known, "input": "amplitude"}
    return make_foreign_bundle(path, 64, recipe=ForeignRecipe(system="a test", N=64, conventions=conventions))


@pytest.mark.parametrize("data", [True, False], ids=["scan", "self-tests"])
@pytest.mark.parametrize(
    "known", [("central half", "central half"), ("everywhere", "central half"), ("everywhere",) * 2]
)
def test_patches_are_compared_where_both_say_something(
    known: tuple[str, str], data: bool, scan: Scan, tmp_path: Path
) -> None:
    def changed_around(values: Any) -> Any:
        changed = values + np.complex64(25)
        changed[..., 16:48, 16:48] = values[..., 16:48, 16:48]
        changed[..., 20, 30] += np.complex64(0.25)
        return changed

    a, b = (_half_known(tmp_path / f"{name}.onnx", of_it) for name, of_it in zip("ab", known, strict=True))
    found = compare(a, Implementation(b, "pytorch", opened=_Engine(b, changed_around)), scan if data else None)
    assert found.same_function
    assert found.patches is not None
    everywhere = known == ("everywhere", "everywhere")
    assert found.patches.difference.maximum == pytest.approx(25 if everywhere else 0.25, rel=1e-5)
    assert found.patches.pixels == found.patches.patterns * 64**2
    assert found.patches.difference.pixels == found.patches.pixels // (1 if everywhere else 4)
    assert found.to_dict()["patches"]["pixels"] == found.patches.pixels


def changed(bundle: Bundle, tmp_path: Path, name: str, bias: float) -> Bundle:
    """The bundle with another bias of the amplitude's last convolution."""
    weights = example_weights(RECIPE) | {"decoder.amplitude.output.bias": np.array([bias], np.float32)}
    return make_bundle(tmp_path / name, RECIPE, weights=weights, probe=bundle.probe)


@pytest.mark.parametrize("data", [True, False], ids=["scan", "self-tests"])
def test_a_dead_network_is_far_from_a_living_one_from_both_sides(
    a: Bundle, scan: Scan, data: bool, tmp_path: Path
) -> None:
    dead = changed(a, tmp_path, "dead.onnx", -14.0)
    for found in (compare(a, dead, scan if data else None), compare(dead, a, scan if data else None)):
        assert not found.passed
        assert found.patches is not None
        assert found.patches.difference.maximum > 0.1
        assert found.images.passed is (False if data else None)


class _Engine:
    """An engine whose object, or whose values on the way to it, are those of another one, changed."""

    name, provider, concurrency, batch_px = "pytorch", "cpu", 1, SHARED_BATCH_PX

    def __init__(
        self,
        bundle: Bundle,
        run: Callable[[Any], Any] = lambda values: values,
        activations: Callable[[Any], Any] = lambda values: values,
    ) -> None:
        self._engine, self._of_run, self._of_activations = Session(bundle, threads=1), run, activations

    def run(self, diffraction: NDArray[np.float32]) -> Any:
        return self._of_run(self._engine.run(diffraction))

    def activations(self, diffraction: NDArray[np.float32]) -> Any:
        return self._of_activations(self._engine.activations(diffraction))

    def close(self) -> None:
        self._engine.close()


def _factor(values: Any) -> Any:
    return 1.4 * np.exp(0.5j).astype(np.complex64) * values


def _holes(number: complex) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values = values.copy()
        values[..., 40:, :] = number
        return values

    return change


def _both_ways(bundle: Bundle, engine: _Engine, scan: Scan | None, **options: Any) -> Iterator[tuple[str, Comparison]]:
    """The engine as B and as A, beside onnxruntime: its letter and what is found."""
    other = Implementation(bundle, "pytorch", opened=engine)
    yield "B", compare(Implementation(bundle), other, scan, **options)
    yield "A", compare(other, Implementation(bundle), scan, **options)


@pytest.mark.parametrize("change", [_factor, _holes(np.nan), _holes(np.inf)], ids=["a factor", "NaN", "infinity"])
@pytest.mark.parametrize("data", [True, False], ids=["scan", "self-tests"])
def test_an_engine_that_gives_something_else_does_not_pass(
    a: Bundle, scan: Scan, data: bool, change: Callable[[Any], Any]
) -> None:
    for letter, found in _both_ways(a, _Engine(a, change), scan if data else None):
        assert found.same_function
        assert not found.passed
        assert found.patches is not None
        assert found.patches.passed is False
        assert found.activations.passed is False
        assert [output.passed for output in found.activations.outputs] == [letter != "A", letter != "B"]
        assert found.activations.first == "object"
        assert all(layer.passed for layer in found.activations.layers)
        assert found.images.passed is (False if data else None)
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("data", [True, False], ids=["scan", "self-tests"])
@pytest.mark.parametrize("number", [np.nan, np.inf, complex(0, -np.inf)])
def test_pixels_that_are_no_numbers_are_counted(a: Bundle, scan: Scan, data: bool, number: complex) -> None:
    for letter, found in _both_ways(a, _Engine(a, _holes(number)), scan if data else None, tolerance=1e30):
        assert found.patches is not None
        pixels = 24 * 64 * found.patches.patterns
        assert found.patches.difference.maximum == np.inf
        counts = {"A": found.patches.not_finite_a, "B": found.patches.not_finite_b}
        assert {name: count for name, count in counts.items() if count} == {letter: pixels}
        assert "non-finite" in found.sentence
        assert not found.passed


def test_both_may_give_what_is_no_number_and_are_not_the_same_for_it(a: Bundle) -> None:
    engines = [Implementation(a, "pytorch", opened=_Engine(a, _holes(np.nan))) for _ in range(2)]
    found = compare(engines[0], engines[1], tolerance=1e30)
    assert not found.passed
    assert found.patches is not None
    pixels = 24 * 64 * found.patches.patterns
    assert (found.patches.not_finite_a, found.patches.not_finite_b) == (pixels, pixels)


def test_a_factor_counts_between_engines_of_one_function_and_not_between_functions(a: Bundle, tmp_path: Path) -> None:
    brightest = np.abs(run_model(a.model, a.selftest.diffraction)).max()
    for _, found in _both_ways(a, _Engine(a, _factor), None):
        assert found.patches is not None
        assert found.patches.difference.maximum == pytest.approx(abs(1.4 * np.exp(0.5j) - 1) * brightest, rel=1e-4)
        assert (found.patches.difference.amplitude_scale, found.patches.difference.phase_rad) == (1, 0)
    weights = example_weights(RECIPE)
    bias = {"decoder.phase.output.bias": weights["decoder.phase.output.bias"] + np.float32(1e-7)}
    nearly = make_bundle(tmp_path / "nearly.onnx", RECIPE, weights=weights | bias, probe=a.probe)
    found = compare(Implementation(a), Implementation(nearly, "pytorch", opened=_Engine(nearly, _factor)))
    assert not found.same_function
    assert found.patches is not None
    assert found.patches.difference.maximum < 1e-5
    assert found.patches.difference.phase_rad == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("kept", ["none", "the object alone", "all but one"])
def test_a_value_that_an_engine_does_not_give_is_where_the_two_part(a: Bundle, kept: str) -> None:
    def left(values: dict[str, Any]) -> dict[str, Any]:
        keep = {"none": set(), "the object alone": {"object"}, "all but one": values.keys() - {"encoder.1.pool"}}[kept]
        return {name: value for name, value in values.items() if name in keep}

    first = "encoder.1.pool" if kept == "all but one" else RECIPE.nodes()[0].name
    for letter, found in _both_ways(a, _Engine(a, activations=left), None):
        assert found.activations.passed is False
        assert found.activations.first == first
        problem = next(layer.problem for layer in found.activations.layers if layer.name == first)
        assert problem.startswith(letter)
        assert [layer.name for layer in found.activations.layers] == [node.name for node in RECIPE.nodes()]
        assert not found.passed
    other = Implementation(a, "pytorch", opened=_Engine(a, activations=left))
    found = compare(other, Implementation(a, "tensorflow", opened=_Engine(a, activations=left)))
    assert found.activations.first == first
    assert all(layer.problem or layer.passed for layer in found.activations.layers)


def test_engines_of_one_function_have_to_agree_in_every_layer(a: Bundle, b: Bundle) -> None:
    """What is written out of the last layers may be right although an engine does not compute what the graph says."""

    def shifted(values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "encoder.1.pool": values["encoder.1.pool"] + np.float32(0.01)}

    for _, found in _both_ways(a, _Engine(a, activations=shifted), None):
        assert found.largest <= found.tolerance
        assert found.activations.first == "encoder.1.pool"
        assert not found.passed
        assert found.engines_differ
        assert found.deciding == ("activations", "images")
        assert "encoder.1.pool" in found.sentence
    found = compare(a, b, tolerance=np.inf)  # two functions have to part: that does not count
    assert found.activations.passed is False
    assert found.deciding == ("images",)
    assert found.passed


def test_the_exit_code_counts_the_layers_of_one_function(
    a: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = {
        "wrong": _Engine(a, activations=lambda values: {**values, "encoder.1.pool": values["encoder.1.pool"] + 1}),
        "right": _Engine(a),
    }
    for name, code in (("wrong", 1), ("right", 0)):
        monkeypatch.setattr("ptyonnx.cli.framework.open_quietly", lambda *_, engine=engines[name], **__: engine)
        assert main(["diff", str(a.path), f"{a.path}@torch"]) == code
        text = capsys.readouterr().out
        assert ("encoder.1.pool" in text.splitlines()[-1]) is (name == "wrong")


def test_what_is_no_number_fails_wherever_in_the_scan_it_lies(a: Bundle, b: Bundle, scan: Scan) -> None:
    """Patches are compared in the middle alone, images everywhere."""

    class Breaking(_Engine):
        def run(self, diffraction: NDArray[np.float32]) -> Any:
            flat = np.ptp(diffraction, axis=(2, 3), keepdims=True) == 0
            return np.where(flat, np.complex64(np.nan), super().run(diffraction))

    many = MOST_PATTERNS + 10
    diffraction = np.resize(scan.diffraction[:], (many, 64, 64))
    diffraction[0] = 10
    spread = np.stack([np.linspace(0, 300, many), np.zeros(many)], axis=1)
    longer = replace(scan, diffraction=diffraction, positions_px=spread)
    found = compare(a, Implementation(b, "pytorch", opened=Breaking(b)), longer, tolerance=10)
    assert found.patches is not None
    assert found.patches.passed
    assert (found.images.passed, found.image, found.largest, found.passed) == (False, None, np.inf, False)
    assert "non-finite" in found.sentence
