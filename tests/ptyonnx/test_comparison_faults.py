"""Planted faults: what `compare` names must be what was planted, no more and no less."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import canonical_model, example_weights, make_bundle
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from ptyonnx.comparison import Comparison, Implementation, compare
from ptyonnx.comparison.activations import compare_activations
from ptyonnx.reference.pattern_selection import PatternGroups
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_runtime.inference.activations import value_names, with_every_value
from ptyonnx_runtime.inference.engine import SHARED_BATCH_PX
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical

RECIPE = Recipe(N=32, filters_scale=0.125)
CONVOLUTIONS = {layer.name: layer for layer in RECIPE.convolutions()}
ORDER = [node.name for node in RECIPE.nodes()]
Weights = dict[str, NDArray[np.generic]]


def _weights() -> Weights:
    """As after a training: no bias is zero."""
    generator = np.random.default_rng(11)
    weights = example_weights(RECIPE)
    return {
        name: array + generator.normal(0, 0.1, array.shape).astype(np.float32) if name.endswith("bias") else array
        for name, array in weights.items()
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("good") / "good.onnx", RECIPE, weights=_weights())


@pytest.fixture(scope="module")
def values(good: Bundle) -> dict[str, NDArray[np.float32]]:
    """What every layer of the good network sees and says."""
    return Session(good, threads=1).activations(good.selftest.diffraction)


def _source(layer: str) -> str:
    """The value that a convolution takes in."""
    (node,) = [node for node in RECIPE.nodes() if node.name == layer]
    return node.inputs[0]


def _change(values: dict[str, NDArray[np.float32]], layer: str, kernel: NDArray[np.float64]) -> float:
    """Largest change of a layer's output when its kernel changes by `kernel`, of the output's own largest."""
    inside = values[_source(layer)].astype(np.float64)
    largest = 0.0
    for pattern in inside:
        for filter_ in kernel[np.any(kernel, axis=(1, 2, 3))]:
            out = sum(
                signal.correlate2d(np.pad(channel, 1), part, mode="valid")
                for channel, part in zip(pattern, filter_, strict=True)
            )
            largest = max(largest, float(np.abs(out).max()))
    return largest / float(np.abs(values[layer]).max())


def _check_attributed(found: Comparison, weight: str, layer: str) -> None:
    """Exactly one array differs, and the two part where it is used, not earlier and not later."""
    assert not found.same_function
    assert found.weights.passed is False
    assert [entry.name for entry in found.weights.arrays if not entry.equal] == [weight]
    assert found.weights.arrays[0].name == weight
    assert weight in found.weights.sentence
    assert found.activations.first == layer
    assert found.activations.passed is False
    assert layer in found.activations.sentence
    before = found.activations.layers[: ORDER.index(layer)]
    assert all(entry.largest == 0 for entry in before)


def _filters_in(sentence: str) -> list[str]:
    return re.findall(r"\bfilters? ([\d, ]*\d)", sentence)


def test_one_flipped_bit_is_named_with_its_place(good: Bundle, tmp_path: Path) -> None:
    weights, name, place = _weights(), "decoder.phase.1.conv.0.weight", (1, 2, 0, 1)
    flipped = weights[name].copy()
    flipped.view(np.uint32)[place] ^= np.uint32(1 << 22)  # the highest bit of the mantissa
    other = make_bundle(tmp_path / "flipped.onnx", RECIPE, weights={**weights, name: flipped})
    found = compare(good, other)
    _check_attributed(found, name, "decoder.phase.1.conv.0")
    entry = found.weights.arrays[0]
    assert (entry.differing, entry.where, entry.filters) == (1, place, (1,))
    assert entry.maximum == pytest.approx(abs(float(flipped[place]) - float(weights[name][place])))
    assert _filters_in(found.weights.sentence) == ["1"]
    assert not found.passed


def test_the_lowest_bit_is_named_though_nothing_shows(good: Bundle, tmp_path: Path) -> None:
    weights, name = _weights(), "decoder.amplitude.0.conv.1.weight"
    flipped = weights[name].copy()
    flipped.view(np.uint32)[2, 0, 1, 1] ^= np.uint32(1)
    found = compare(good, make_bundle(tmp_path / "flipped.onnx", RECIPE, weights={**weights, name: flipped}))
    assert [entry.name for entry in found.weights.arrays if not entry.equal] == [name]
    assert found.activations.passed is True
    assert found.identity.passed is False
    assert found.passed


def test_two_swapped_filters_are_named(good: Bundle, tmp_path: Path) -> None:
    weights, name = _weights(), "encoder.1.conv.1.weight"
    swapped = weights[name].copy()
    swapped[[0, 3]] = swapped[[3, 0]]
    found = compare(good, make_bundle(tmp_path / "swapped.onnx", RECIPE, weights={**weights, name: swapped}))
    _check_attributed(found, name, "encoder.1.conv.1")
    assert found.weights.arrays[0].filters == (0, 3)
    assert _filters_in(found.weights.sentence) == ["0, 3"]


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_twenty_random_faults_are_named(
    good: Bundle, values: dict[str, NDArray[np.float32]], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """One bit (three highest of the mantissa, three lowest of the exponent) of a kernel or bias, or one filter.

    Of these, the visible ones: the layer's output changes by 1e-4 of its largest value or more, in
    float64. The rest falls on inputs that are zero.
    """
    layer = data.draw(st.sampled_from(sorted(CONVOLUTIONS)))
    part = data.draw(st.sampled_from(["weight", "weight", "bias"]))
    name = f"{layer}.{part}"
    weights = _weights()
    changed = weights[name].copy()
    place = tuple(data.draw(st.integers(0, size - 1)) for size in changed.shape)
    if part == "weight" and data.draw(st.booleans()):
        changed[place[0]] *= np.float32(data.draw(st.sampled_from([-1, 0, 0.5, 1.25])))
    else:
        changed.view(np.uint32)[place] ^= np.uint32(1 << data.draw(st.integers(20, 25)))
    difference = changed.astype(np.float64) - weights[name]
    if part == "weight":
        assume(_change(values, layer, difference) > 1e-4)
    else:
        assume(np.abs(difference).max() > 1e-4 * np.abs(values[layer]).max())
    path = tmp_path_factory.mktemp("fault") / "faulty.onnx"
    found = compare(good, make_bundle(path, RECIPE, weights={**weights, name: changed}))
    _check_attributed(found, name, layer)
    assert found.weights.arrays[0].filters == (place[0],)


class FaultyEngine:
    """onnxruntime on a graph that is not the recipe's: an implementation with a bug."""

    name, provider, concurrency, batch_px = "faulty", "cpu", 1, SHARED_BATCH_PX

    def __init__(self, bundle: Bundle, operator: str = "", attribute: str = "", value: Any = None) -> None:
        model = onnx.load_from_string(canonical_model(RECIPE, _weights()))
        for node in model.graph.node:
            if node.op_type == operator:
                (old,) = [found for found in node.attribute if found.name == attribute]
                old.CopyFrom(onnx.helper.make_attribute(attribute, value))
        for initializer in model.graph.initializer:
            if operator == "dropped" and initializer.name == attribute:
                initializer.raw_data = bytes(len(initializer.raw_data))
        self._names = value_names(bundle.graph)
        every = with_every_value(model.SerializeToString(), bundle.graph)
        self._session = onnxruntime.InferenceSession(every, providers=["CPUExecutionProvider"])

    def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(self._names, self._session.run(list(self._names), {"diffraction": diffraction}), strict=True))

    def run(self, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        result: NDArray[np.complex64] = self.activations(diffraction)["object"].view(np.complex64)[..., 0]
        return result

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "fault, layer",
    [
        (("Resize", "coordinate_transformation_mode", "half_pixel"), "decoder.amplitude.0.upsample"),
        (("Resize", "mode", "linear"), "decoder.amplitude.0.upsample"),
        (("MaxPool", "pads", [1, 1, 0, 0]), "encoder.0.pool"),
        (("Conv", "pads", [2, 2, 0, 0]), "encoder.0.conv.0"),
        (("dropped", "decoder.phase.2.conv.1.bias"), "decoder.phase.2.conv.1"),
        ((), None),
    ],
    ids=["half-pixel upsampling", "linear upsampling", "pooling pads", "convolution pads", "dropped bias", "none"],
)
def test_a_fault_of_an_implementation_is_named(good: Bundle, fault: tuple[Any, ...], layer: str | None) -> None:
    """Weights and graph are the same: only the values can tell, and float64 whose are wrong."""
    sound, faulty = Implementation(good), Implementation(good, opened=FaultyEngine(good, *fault))
    for letter, pair in (("B", (sound, faulty)), ("A", (faulty, sound))):
        found = compare(*pair)
        assert found.same_function
        assert found.weights.passed
        assert found.activations.first == layer
        assert found.activations.passed is (layer is None)
        assert found.passed is (layer is None)
        attribution = found.activations.attribution
        assert (attribution and (attribution.layer, attribution.wrong)) == (layer and (layer, (letter,)))
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["activations"]["first"] == layer


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_non_finite_values_differ(good: Bundle, number: float) -> None:
    class Broken(FaultyEngine):
        def activations(self, diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            values = super().activations(diffraction)
            values["encoder.1.conv.0"][0, 0, 3, 5] = number
            return values

    patterns = PatternGroups("scan", good.selftest.diffraction)
    sound, broken = FaultyEngine(good), Broken(good)
    for letter, pair in (("B", (sound, broken)), ("A", (broken, sound)), ("A and B", (broken, broken))):
        found = compare_activations(good.graph, *pair, patterns)
        assert found.first == "encoder.1.conv.0"
        problem = next(layer.problem for layer in found.layers if layer.name == "encoder.1.conv.0")
        assert re.findall(r"\b[AB]\b", problem) == letter.split(" and ")
        layers = {layer["name"]: layer for layer in found.to_dict()["layers"]}
        assert layers["encoder.1.conv.0"]["largest"] is None
        assert [name for name, layer in layers.items() if not layer["passed"]] == ["encoder.1.conv.0"]
    assert compare_activations(good.graph, sound, sound, patterns).passed
