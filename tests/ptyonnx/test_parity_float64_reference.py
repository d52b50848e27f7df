"""The float64 reference: its values, gradients and tolerances, compared with independent computations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
from bundle_factory import canonical_model
from hypothesis import given, settings
from hypothesis import strategies as st

from ptyonnx.parity import verdicts
from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.float64_reference import compute_reference
from ptyonnx.parity.monte_carlo_tolerances import monte_carlo_tolerances
from ptyonnx.parity.result import ImplementationVerdict, Row
from ptyonnx.parity.shared_inputs import SharedInputs, of_recipe
from ptyonnx.reference import layers
from ptyonnx.reference.analytic_tolerances import UNIT_ROUNDOFF
from ptyonnx.reference.gradient_rounding import sum_error
from ptyonnx.reference.local_errors import local_errors
from ptyonnx.reference.network import Network, compute
from ptyonnx.reference.physics import Objective, fourier
from ptyonnx.reference.simulated_rounding import EXACT, SimulatedFloat32
from ptyonnx.training.objective import ObjectiveConstants, expected_intensity
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import BundleError
from ptyonnx_runtime.physics import Pair, dft_matrix, pair_from_complex

pytestmark = pytest.mark.numerical

RECIPES = pytest.mark.parametrize(
    "recipe",
    [Recipe(N=32, filters_scale=0.06), Recipe(name="two-headed-cnn-1", N=32, filters_scale=0.06, gridsize=2, depth=2)],
    ids=["leaky", "plain, gridsize 2"],
)
STEP = 1e-7  # of finite differences: the logarithm bends sharply at dark pixels; rounding of the loss is 1e-16 of it


def small(recipe: Recipe, steps: int = 2) -> SharedInputs:
    return of_recipe(recipe, None, seed=1, steps=steps, threads=1)


def test_a_convolution_is_scipys_cross_correlation_with_zeros_outside() -> None:
    generator = np.random.default_rng(0)
    value, kernel = generator.standard_normal((2, 3, 6, 8)), generator.standard_normal((4, 3, 3, 3))
    bias = generator.standard_normal(4)
    expected = [
        [sum(scipy.signal.correlate2d(v, k, mode="same") for v, k in zip(each, of, strict=True)) + b
         for of, b in zip(kernel, bias, strict=True)]
        for each in value
    ]  # fmt: skip
    np.testing.assert_allclose(layers.convolution(value, kernel, bias), expected, atol=1e-13)


def test_pooling_and_upsampling_undo_each_other_and_are_adjoint_to_their_way_back() -> None:
    value = np.random.default_rng(0).standard_normal((2, 3, 6, 4))
    np.testing.assert_array_equal(layers.pool(layers.upsample(value)), value)
    wide = np.random.default_rng(1).standard_normal((2, 3, 12, 8))
    assert np.vdot(layers.upsample(value), wide) == pytest.approx(np.vdot(value, layers.upsample_backwards(wide)))
    back = layers.pool_backwards(value, layers.pooled_pixel(wide))
    assert np.count_nonzero(back) == value.size
    assert np.vdot(back, wide) == pytest.approx(np.vdot(value, layers.pool(wide)))


@RECIPES
def test_the_network_is_the_graph_that_onnx_evaluates_in_float64(recipe: Recipe) -> None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    inputs = small(recipe)
    done = Network(recipe, inputs.weights).forward(inputs.patterns)
    model = onnx.load_from_string(canonical_model(recipe, inputs.weights))
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name != "upsample.scales":
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    (expected,) = ReferenceEvaluator(model).run(["object"], {"diffraction": inputs.patterns.astype(np.float64)})
    assert expected.dtype == np.float64
    np.testing.assert_allclose(done.values["object"], expected, atol=1e-12)


@pytest.mark.parametrize("modes", [1, 2])
def test_the_forward_model_is_the_one_that_trains_evaluated_in_float64(modes: int) -> None:
    generator, N = np.random.default_rng(0), 32
    patch = generator.standard_normal((2, 3, N, N)) + 1j * generator.standard_normal((2, 3, N, N))
    probe = generator.standard_normal((modes, N, N)) + 1j * generator.standard_normal((modes, N, N))
    offset = generator.uniform(0, 5, (2, 3, 2))
    objective = Objective(probe, 1.0, "poisson")
    canvas = N + 7
    lattice = np.arange(canvas)[:, np.newaxis] - np.arange(N).astype(np.float64)
    constants = ObjectiveConstants(objective.weight, lattice, dft_matrix(N, np.float64))
    modes_pair = pair_from_complex(probe, np.float64)
    expected = expected_intensity(pair_from_complex(patch, np.float64), offset, modes_pair, constants)
    found = objective.evaluate(patch, offset, np.ones((2, 3, N, N)))
    np.testing.assert_allclose(found.intensity, expected, rtol=1e-10)


def test_the_fourier_transform_is_centred_and_unitary() -> None:
    wave = np.random.default_rng(0).standard_normal((8, 8)) + 0j
    matrix: Pair = dft_matrix(8, np.float64)
    F = matrix.real + 1j * matrix.imag
    np.testing.assert_allclose(fourier(wave), F @ wave @ F, atol=1e-14)
    np.testing.assert_allclose(fourier(fourier(wave), inverse=True), wave, atol=1e-14)


@RECIPES
@pytest.mark.parametrize("kind", ["poisson", "amplitude_mse", "amplitude_mae"])
def test_gradients_are_finite_differences(recipe: Recipe, kind: str) -> None:
    inputs = small(recipe)
    batch, task = inputs.batches[0], inputs.task
    objective = Objective(task.probe, task.mean_counts, kind)  # type: ignore[arg-type]
    shape = (*batch.offset_px.shape[:2], recipe.N, recipe.N)
    weights = {name: array.astype(np.float64) for name, array in inputs.weights.items()}

    def score(changed: dict[str, np.ndarray]) -> tuple[Network, object, object]:
        network = Network(recipe, {**weights, **changed})
        done = network.forward(batch.diffraction)
        scored = objective.evaluate(done.object.reshape(shape), batch.offset_px, batch.diffraction.reshape(shape))
        return network, done, scored

    network, done, scored = score({})
    gradients = network.backward(done, scored.slope.reshape(batch.diffraction.shape))  # type: ignore[arg-type,attr-defined]
    assert set(gradients) == set(recipe.weight_shapes())
    generator = np.random.default_rng(0)
    for name, gradient in gradients.items():
        direction = generator.standard_normal(gradient.shape)
        ahead, behind = (
            score({name: weights[name] + sign * STEP * direction})[2].loss  # type: ignore[attr-defined]
            for sign in (1, -1)
        )
        slope = float(np.sum(gradient * direction))
        size = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
        assert (ahead - behind) / (2 * STEP) == pytest.approx(slope, abs=1e-3 * size), name


@pytest.mark.parametrize("kind", ["poisson", "amplitude_mse", "amplitude_mae"])
def test_the_gradient_by_the_probe_is_finite_differences(kind: str) -> None:
    generator, N = np.random.default_rng(0), 16
    patch, probe = (
        generator.standard_normal(shape) + 1j * generator.standard_normal(shape) for shape in ((2, 3, N, N), (2, N, N))
    )
    offset, amplitude = generator.uniform(0, 5, (2, 3, 2)), generator.uniform(1, 3, (2, 3, N, N))
    objective = Objective(probe, 2.0, kind)  # type: ignore[arg-type]
    slope = objective.evaluate(patch, offset, amplitude).probe_slope
    assert slope.shape == probe.shape
    for _ in range(4):
        direction = generator.standard_normal(probe.shape) + 1j * generator.standard_normal(probe.shape)
        ahead, behind = (
            objective.refined(sign * STEP * direction).evaluate(patch, offset, amplitude).loss for sign in (1, -1)
        )
        size = float(np.linalg.norm(slope) * np.linalg.norm(direction))
        wanted = float(np.vdot(slope, direction).real)
        assert (ahead - behind) / (2 * STEP) == pytest.approx(wanted, abs=1e-5 * size)


def test_the_rounding_errors_that_are_played_have_the_size_of_float32() -> None:
    generator = np.random.default_rng(0)
    terms = 576
    weights, values = generator.standard_normal((terms, 1)), generator.standard_normal((4000, terms))
    exact = values.astype(np.float32).astype(np.float64) @ weights.astype(np.float32).astype(np.float64)
    running = np.zeros(len(values), np.float32)
    for value, weight in zip(values.astype(np.float32).T, weights.astype(np.float32)[:, 0], strict=True):
        running = running + value * weight
    true = np.std(running - exact[:, 0])
    played = np.std(SimulatedFloat32(1).result(exact[:, :, np.newaxis], terms) - exact[:, :, np.newaxis])
    assert 0.5 < played / true < 3  # the model takes the partial sums for as large as the result


def test_a_tolerance_is_a_few_roundings_at_the_start_and_grows_with_depth() -> None:
    inputs = small(Recipe(N=32, filters_scale=0.1))
    allowed = monte_carlo_tolerances(inputs, compute_reference(inputs), lambda _: None)
    layers_met = [allowed["forward", node.name] for node in inputs.recipe.nodes() if node.operator == "Conv"]
    assert allowed["forward", "whitening.centred"] < 20 * UNIT_ROUNDOFF
    assert layers_met[0] < layers_met[5] < layers_met[-1]
    assert allowed["object", ""] < 1e-4
    assert max(value for (stage, _), value in allowed.items() if stage == "gradient") < 1e-3
    assert {stage for stage, _ in allowed} == {"forward", "object", "physics", "loss", "gradient", "step"}


def rounded(inputs: SharedInputs, weights: dict[str, np.ndarray]) -> ComputedValues:
    """A float32 implementation with these weights, whose read-back tells nothing."""
    known: dict[str, np.ndarray] = {"diffraction": inputs.patterns}
    for node in inputs.recipe.nodes():  # each layer from the float32 values before it
        constants = {**inputs.recipe.graph_constants(), **weights}
        operands = [np.asarray(known.get(name, constants.get(name)), np.float64) for name in node.inputs if name]
        known[node.name] = compute(node, operands).astype(np.float32)
    del known["diffraction"]
    return ComputedValues("suspect", weights=dict(inputs.weights), activations=known)


PROPERTY = small(Recipe(N=32, filters_scale=0.1, depth=2))
PROPERTY_EXACT = compute_reference(PROPERTY, EXACT)


VISIBLE = 1e-3  # of the largest weight: what shows in a sum of some hundred float32 products


def faults() -> st.SearchStrategy[tuple[str, str, int, int]]:
    """A convolution, and one of its weights' bits or two of its filters."""
    convolution = st.sampled_from([layer.name for layer in PROPERTY.recipe.convolutions()])
    number = st.integers(0, 2**31)
    return st.tuples(convolution, st.sampled_from(["bit", "filters"]), number, number)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(faults())
def test_any_single_bit_or_two_swapped_filters_are_named_where_they_are(fault: tuple[str, str, int, int]) -> None:
    layer, kind, first, second = fault
    name = f"{layer}.weight"
    changed = {weight: array.copy() for weight, array in PROPERTY.weights.items()}
    array = changed[name]
    if kind == "filters" and len(array) > 1:
        a = first % len(array)
        b = (a + 1 + second % (len(array) - 1)) % len(array)
        array[[a, b]] = array[[b, a]]
    else:
        flat = array.reshape(-1).view(np.uint32)
        flat[first % array.size] ^= np.uint32(
            1 << (second % 23 if second % 2 else 31)
        )  # mantissa or sign: stays finite
    held = ComputedValues("suspect", weights=changed)
    verdict = verdicts.verdict("suspect", verdicts.rows(PROPERTY, PROPERTY_EXACT, held, {}, stages=("weights",)))
    assert (verdict.stage, verdict.key) == ("weights", name)
    own = local_errors(PROPERTY.recipe, PROPERTY.weights, PROPERTY.patterns, rounded(PROPERTY, changed).activations)
    wrong = [node for node, error in own.items() if error > 1]
    change = np.abs(changed[name] - PROPERTY.weights[name]).max() / np.abs(PROPERTY.weights[name]).max()
    assert wrong == [layer] if change > VISIBLE else wrong in ([], [layer])


def test_float32_itself_is_not_suspected() -> None:
    own = local_errors(
        PROPERTY.recipe, PROPERTY.weights, PROPERTY.patterns, rounded(PROPERTY, dict(PROPERTY.weights)).activations
    )
    assert max(own.values()) <= 1
    assert own["encoder.0.pool"] == own["decoder.phase.0.upsample"] == 0


def test_computed_values_survive_a_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "computed_values.npz"
    PROPERTY_EXACT.write(path)
    found = ComputedValues.read(path)
    assert found.implementation == "float64"
    assert list(found.gradients) == list(PROPERTY_EXACT.gradients)
    np.testing.assert_array_equal(found.activations["object"], PROPERTY_EXACT.activations["object"])
    assert found.losses is not None
    assert PROPERTY_EXACT.losses is not None
    assert found.losses.tolist() == PROPERTY_EXACT.losses.tolist()
    assert found.model is None


@pytest.fixture(scope="module")
def perfect() -> ComputedValues:
    """A framework that finds what float64 finds, and exports it."""
    model = canonical_model(PROPERTY.recipe, PROPERTY.weights)
    return replace(PROPERTY_EXACT, implementation="suspect", model=model)


def judged(found: ComputedValues, stages: Sequence[str] = verdicts.BACKEND_STAGES) -> ImplementationVerdict:
    return verdicts.verdict("suspect", verdicts.rows(PROPERTY, PROPERTY_EXACT, found, {}, stages=stages))


def without(values: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {each: array for each, array in values.items() if each != name}


FIRST_WEIGHT = next(iter(PROPERTY.weights))
LAST_GRADIENT = next(iter(PROPERTY_EXACT.gradients))  # in the order of the backward pass


def test_whoever_gives_everything_passes_and_a_runtime_need_not_train(perfect: ComputedValues) -> None:
    assert judged(perfect).passed, judged(perfect).sentence
    untrained = replace(perfect, intensity=None, gradients={}, branches={}, losses=None, model=None)
    assert judged(untrained, verdicts.RUNTIME_STAGES).passed
    assert judged(untrained).stage == "physics"


@pytest.mark.parametrize(
    "left_out, stage, key",
    [
        ({"weights": {}}, "weights", FIRST_WEIGHT),
        ({"activations": {}}, "forward", "whitening.centred"),
        ({"object": None}, "object", ""),
        ({"intensity": None}, "physics", "intensity"),
        ({"losses": None}, "loss", ""),
        ({"gradients": {}}, "gradient", LAST_GRADIENT),
        ({"gradients": {}, "branches": {}}, "gradient", LAST_GRADIENT),
        ({"model": None}, "export", "graph"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_stage_that_an_implementation_leaves_out_is_a_finding(
    left_out: dict[str, Any], stage: str, key: str, perfect: ComputedValues
) -> None:
    verdict = judged(replace(perfect, **left_out))
    assert (verdict.stage, verdict.key) == (stage, key)
    assert "missing" in verdict.sentence


def test_one_value_that_an_implementation_does_not_give_is_a_finding(perfect: ComputedValues) -> None:
    verdict = judged(replace(perfect, activations=without(perfect.activations, "encoder.1.pool")))
    assert (verdict.stage, verdict.key) == ("forward", "encoder.1.pool")
    verdict = judged(replace(perfect, gradients=without(perfect.gradients, "encoder.0.conv.1.bias")))
    assert (verdict.stage, verdict.key) == ("gradient", "encoder.0.conv.1.bias")
    assert "missing" in verdict.sentence


def test_a_value_of_another_shape_is_named_with_both_shapes(perfect: ComputedValues) -> None:
    cropped = {name: array[..., :-1] for name, array in perfect.activations.items() if name.startswith("encoder.1")}
    branches = {name: array[..., :-1] for name, array in perfect.branches.items()}
    verdict = judged(replace(perfect, activations={**perfect.activations, **cropped}, branches=branches))
    assert (verdict.stage, verdict.key) == ("forward", "encoder.1.conv.0")
    assert "shape" in verdict.sentence


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_never_passes_even_where_nothing_is_demanded(bad: float, perfect: ComputedValues) -> None:
    assert perfect.losses is not None
    losses = perfect.losses.copy()
    losses[-1] = bad
    verdict = judged(replace(perfect, losses=losses))
    assert (verdict.stage, verdict.key) == ("step", "after 1 step")
    assert "not finite" in verdict.sentence
    for relative in (bad, math.nan):
        assert not Row("curve", "after 4 steps", "suspect", relative=relative).passed
    assert Row("export", "graph", "suspect").passed


def test_another_input_of_an_export_is_a_finding_and_the_export_is_not_to_be_run(perfect: ComputedValues) -> None:
    import onnx

    assert perfect.model is not None
    model = onnx.load_from_string(perfect.model)
    model.graph.input[0].name = model.graph.node[0].input[0] = "pattern"
    for bad in (model.SerializeToString(), b"no graph at all", None):
        found = replace(perfect, model=bad)
        assert judged(found).stage == "export"
        with pytest.raises(BundleError):
            verdicts.exported_graph(PROPERTY, found)
    assert verdicts.exported_graph(PROPERTY, perfect).initializers


def test_long_sums_of_like_terms_are_allowed_the_drift_that_float32_has() -> None:
    generator = np.random.default_rng(0)
    slope = 1e-3 * (1 + 0.1 * generator.standard_normal((4, 1, 256, 256)))
    naive = np.add.accumulate(slope.astype(np.float32).ravel(), dtype=np.float32)[-1]
    drifted = abs(float(naive) - slope.sum())
    allowed = sum_error(np.zeros(1), slope, None)
    assert allowed.shape == (1,)
    assert drifted / 2 < 4 * allowed[0] < 40 * drifted
    assert sum_error(np.zeros((1, 2, 3, 3)), slope, np.zeros((4, 2, 256, 256))).tolist() == [[[[0.0]], [[0.0]]]]
