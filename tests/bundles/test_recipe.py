"""The recipe: layers, names, shapes, initial weights and the canonical graph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from ptyonnx_bundles import Recipe
from ptyonnx_bundles.recipe import FAMILIES, Family

RECIPES = st.builds(
    Recipe,
    name=st.sampled_from(sorted(FAMILIES)),
    N=st.integers(2, 16).map(lambda n: 16 * n),
    gridsize=st.integers(1, 4),
    filters_scale=st.floats(0.01, 2),
)


def test_shapes_at_64_by_hand() -> None:
    shapes = Recipe(N=64, gridsize=2, filters_scale=1).weight_shapes()
    kernels = {name: shape for name, shape in shapes.items() if name.endswith(".weight")}
    assert kernels == {
        "encoder.0.conv.0.weight": (32, 4, 3, 3),
        "encoder.0.conv.1.weight": (32, 32, 3, 3),
        "encoder.1.conv.0.weight": (64, 32, 3, 3),
        "encoder.1.conv.1.weight": (64, 64, 3, 3),
        "encoder.2.conv.0.weight": (128, 64, 3, 3),
        "encoder.2.conv.1.weight": (128, 128, 3, 3),
        **{
            f"decoder.{head}.{name}.weight": shape
            for head in ("amplitude", "phase")
            for name, shape in {
                "0.conv.0": (64, 128, 3, 3),
                "0.conv.1": (64, 64, 3, 3),
                "1.conv.0": (32, 64, 3, 3),
                "1.conv.1": (32, 32, 3, 3),
                "2.conv.0": (16, 32, 3, 3),
                "2.conv.1": (16, 16, 3, 3),
                "output": (4, 16, 3, 3),
            }.items()
        },
    }
    biases = {name.removesuffix(".bias"): shape for name, shape in shapes.items() if name.endswith(".bias")}
    assert biases == {name.removesuffix(".weight"): shape[:1] for name, shape in kernels.items()}


@pytest.mark.parametrize(
    "N, encoder, decoder",
    [
        (64, (32, 64, 128), (64, 32, 16)),
        (128, (16, 32, 64, 128), (64, 32, 16, 16)),
        (256, (8, 16, 32, 64, 128), (64, 32, 16, 16, 16)),
    ],
)
def test_filters_of_the_usual_sizes(N: int, encoder: tuple[int, ...], decoder: tuple[int, ...]) -> None:
    recipe = Recipe(N=N, filters_scale=1)
    assert (recipe.encoder_filters, recipe.decoder_filters) == (encoder, decoder)


@pytest.mark.parametrize("scale, thousands", [(0.5, 145), (1, 577)])
def test_number_of_parameters_at_64(scale: float, thousands: int) -> None:
    shapes = Recipe(N=64, filters_scale=scale).weight_shapes().values()
    assert round(sum(int(np.prod(shape)) for shape in shapes) / 1000) == thousands


@pytest.mark.parametrize(
    "N, depth",
    [(32, 3), (48, 3), (64, 3), (80, 3), (112, 3), (128, 4), (144, 4), (192, 4), (240, 4), (256, 5), (272, 4), (512, 5), (1024, 5)],
)  # fmt: skip
def test_depth_chosen_from_the_size(N: int, depth: int) -> None:
    assert Recipe(N=N).depth == depth
    assert Recipe(N=N, depth=0).depth == depth


def test_depth_can_be_given() -> None:
    assert Recipe(N=64, depth=2).encoder_filters == (32, 64)
    assert Recipe(N=64, depth=5).depth == 5


@pytest.mark.parametrize(
    "values, said",
    [
        ({"N": 50}, "N = 50 is not a multiple of 16"),
        ({"N": 16}, "greater than or equal to 32"),
        ({"N": 2048}, "less than or equal to 1024"),
        ({"N": "64"}, "valid integer"),
        ({"N": 64.0}, "valid integer"),
        ({"N": 64, "depth": 6}, "N = 64 cannot be halved 6 times"),
        ({"N": 48, "depth": 5}, "N = 48 cannot be halved 5 times"),
        ({"N": 64, "gridsize": 0}, "gridsize"),
        ({"N": 64, "filters_scale": float("nan")}, "filters_scale"),
        ({"N": 64, "filter_scale": 1.0}, "filter_scale"),
    ],
)
def test_impossible_recipes_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate(values)


def test_recipes_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe(N=64).N = 128


def test_initial_weights_are_the_same_bits_for_the_same_seed() -> None:
    recipe = Recipe(N=64, filters_scale=0.1)
    first, again, other = recipe.initial_weights(3), recipe.initial_weights(3), recipe.initial_weights(4)
    assert {name: array.shape for name, array in first.items()} == recipe.weight_shapes()
    assert all(array.dtype == np.float32 for array in first.values())
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert all((first[name] != other[name]).any() for name in first if name.endswith(".weight"))


@pytest.mark.parametrize("family, leak", FAMILIES.items())
def test_initial_kernels_have_the_deviation_of_he_et_al(family: Family, leak: float) -> None:
    weights = Recipe(name=family, N=64, filters_scale=1).initial_weights(0)
    kernel = weights["encoder.2.conv.1.weight"]
    assert kernel.std() == pytest.approx(np.sqrt(2 / ((1 + leak**2) * 128 * 9)), rel=5e-3)
    assert abs(kernel.mean()) < 1e-3
    assert weights["decoder.phase.output.weight"].std() == pytest.approx(0.01 * np.sqrt(2 / (16 * 9)), rel=0.2)


@given(RECIPES)
@settings(max_examples=60, deadline=None)
def test_the_graph_is_complete_and_in_order_and_uses_every_weight(recipe: Recipe) -> None:
    constants = {**recipe.weight_shapes(), **recipe.constant_shapes(), **recipe.graph_constants()}
    known, used = {"diffraction", *constants}, set()
    for node in recipe.nodes():
        inputs = {name for name in node.inputs if name}
        assert inputs <= known  # nothing is used before it is computed
        assert node.name not in known  # and nothing is computed twice
        known.add(node.name)
        used |= inputs
    assert known - used == {"object"}  # one output, nothing is left over


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Correlate (in, y, x) with kernels (out, in, 3, 3), zeros outside."""
    return np.stack(
        [
            sum(ndimage.correlate(channel, k, mode="constant") for channel, k in zip(x, one.astype(float), strict=True))
            + offset
            for one, offset in zip(kernel, bias, strict=True)
        ]
    )


OPERATORS = {
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Conv": convolve,
    "Relu": lambda x: np.maximum(x, 0),
    "LeakyRelu": lambda x, alpha: np.where(x > 0, x, alpha * x),
    "MaxPool": lambda x: np.maximum.reduce([x[:, a::2, b::2] for a in (0, 1) for b in (0, 1)]),
    "Resize": lambda x, _: x.repeat(2, axis=1).repeat(2, axis=2),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
    "Cos": np.cos,
    "Sin": np.sin,
    "Unsqueeze": lambda x, _: x[..., None],
    "Concat": lambda *parts: np.concatenate(parts, axis=-1),
}


def evaluate(recipe: Recipe, weights: dict[str, np.ndarray], diffraction: np.ndarray) -> np.ndarray:
    """Run the canonical graph in float64 with SciPy: (channel, y, x) in, (channel, y, x, 2) out."""
    values: dict[str, np.ndarray] = {**weights, **recipe.graph_constants(), "diffraction": diffraction}
    for node in recipe.nodes():
        alpha = [value for key, value in node.attributes if key == "alpha"]
        values[node.name] = OPERATORS[node.operator](*(values[name] for name in node.inputs if name), *alpha)
    return values["object"]


def test_training_starts_near_vacuum() -> None:
    """Amplitude 1 and phase 0: exactly where the last kernels are zero, nearly where they are small."""
    recipe = Recipe(N=32, gridsize=2, filters_scale=0.1)
    weights = {**recipe.initial_weights(0), "whitening.mean": np.zeros((32, 32)), "whitening.scale": np.array(1.0)}
    diffraction = np.random.default_rng(0).normal(size=(4, 32, 32))
    real, imaginary = np.moveaxis(evaluate(recipe, weights, diffraction), -1, 0)
    assert np.abs(real - 1).mean() < 0.3
    assert np.abs(imaginary).mean() < 0.5
    for head in ("amplitude", "phase"):
        weights[f"decoder.{head}.output.weight"] = np.zeros_like(weights[f"decoder.{head}.output.weight"])
    vacuum = evaluate(recipe, weights, diffraction)
    np.testing.assert_allclose(vacuum[..., 0], 1, atol=1e-7)
    np.testing.assert_allclose(vacuum[..., 1], 0, atol=1e-7)


@pytest.mark.numerical
@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_computes_in_onnxruntime_what_its_operators_mean(family: Family) -> None:
    from bundle_factory import canonical_model, example_weights, run_model
    from float32_bounds import of_network

    recipe = Recipe(name=family, N=32, gridsize=2, filters_scale=0.06)
    weights = example_weights(recipe, seed=4)
    diffraction = np.random.default_rng(1).gamma(2, 5, (1, 4, 32, 32)).astype(np.float32)
    expected = evaluate(recipe, weights, diffraction[0].astype(float))
    found = run_model(canonical_model(recipe, weights), diffraction)[0]
    assert np.ptp(found.imag) > 0.1  # the example is not a constant
    _, allowed = of_network(recipe, weights, diffraction)
    found_parts = np.stack([found.real, found.imag], axis=-1)
    np.testing.assert_allclose(found_parts, expected, rtol=0, atol=allowed["object"])
