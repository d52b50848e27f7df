"""The same weights in three implementations: the tolerances must let them pass, with something to spare."""

import re
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import example_weights, make_bundle

from ptyonnx.comparison import Implementation, compare
from ptyonnx_bundles import Bundle, Recipe

pytestmark = pytest.mark.numerical

MARGIN = 0.5  # of the tolerance; measured: at most 0.29


def _bundle(path: Path, recipe: Recipe) -> Bundle:
    """Weights as after a training: no bias is zero, the heads reach far."""
    generator = np.random.default_rng(3)
    weights = {
        name: array + generator.normal(0, 0.1, array.shape).astype(np.float32) if name.endswith("bias") else array
        for name, array in example_weights(recipe, seed=5).items()
    }
    for head in ("amplitude", "phase"):
        weights[f"decoder.{head}.output.weight"] = weights[f"decoder.{head}.output.weight"] * np.float32(10)
    return make_bundle(path, recipe, weights=weights)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(N=32, filters_scale=0.125),
        Recipe(N=64, gridsize=2, filters_scale=0.25),
        pytest.param(Recipe(N=128, filters_scale=0.5), marks=pytest.mark.slow),
        pytest.param(Recipe(N=256, filters_scale=0.25), marks=pytest.mark.slow),
    ],
    ids=lambda recipe: f"N{recipe.N}-gridsize{recipe.gridsize}",
)
@pytest.mark.parametrize("a, b", [("onnxruntime", "pytorch"), ("onnxruntime", "tensorflow"), ("tensorflow", "pytorch")])
def test_the_same_weights_agree_to_rounding_in_every_layer(a: str, b: str, recipe: Recipe, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "bundle.onnx", recipe)
    found = compare(Implementation(bundle, a), Implementation(bundle, b))
    assert found.same_function
    assert [layer.name for layer in found.activations.layers] == [node.name for node in recipe.nodes()]
    assert max(layer.excess for layer in (*found.activations.layers, *found.activations.outputs)) < MARGIN
    assert found.activations.passed
    assert found.passed
    assert {a, b} <= set(re.findall(r"\w+", found.identity.sentence))


def test_a_framework_is_named_where_its_weights_differ(tmp_path: Path) -> None:
    recipe = Recipe(N=32, filters_scale=0.125)
    good = _bundle(tmp_path / "good.onnx", recipe)
    name = "decoder.phase.1.conv.0.weight"
    swapped = np.array(good.weights[name])
    swapped[[0, 2]] = swapped[[2, 0]]
    weights = {key: array for key, array in good.weights.items() if key not in recipe.graph_constants()}
    other = make_bundle(tmp_path / "other.onnx", recipe, weights={**weights, name: swapped})
    found = compare(good, f"{other.path}@torch")
    assert found.weights.arrays[0].name == name
    assert found.activations.first == "decoder.phase.1.conv.0"
    assert found.b.endswith("other.onnx by pytorch")
