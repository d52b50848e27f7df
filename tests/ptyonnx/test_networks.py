"""The two native networks: the same weights are the same function."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from float32_bounds import of_functions, of_network

from ptyonnx.backends.pytorch.network import Network as TorchNetwork
from ptyonnx.backends.pytorch.output_convolution import OutputConvolution as TorchOutput
from ptyonnx.backends.tensorflow.network import Network as KerasNetwork
from ptyonnx.backends.tensorflow.output_convolution import OutputConvolution as KerasOutput
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import SettingsError

Network = TorchNetwork | KerasNetwork

SUMMED_TOLERANCE = 256 * 2**-24 / 3  # rows of 256 like products, each rounded, a third of the bound; then a tree
GRADIENT_TOLERANCE = 2 * SUMMED_TOLERANCE  # of the layer's largest: that, and as much for the values that are summed
BFLOAT16_TOLERANCE = 0.1  # 8 bits of mantissa through 13 layers

NETWORKS = pytest.mark.parametrize("network_class", [TorchNetwork, KerasNetwork], ids=["pytorch", "tensorflow"])
RECIPES = pytest.mark.parametrize(
    "recipe",
    [Recipe(N=N, gridsize=gridsize) for N, gridsize in ((64, 1), (128, 1), (48, 2), (96, 3), (64, 2))],
    ids=lambda recipe: f"N{recipe.N}-gridsize{recipe.gridsize}",
)


def some_weights(recipe: Recipe) -> dict[str, np.ndarray]:
    """Larger last convolutions than at the start of a training, and biases everywhere."""
    generator = np.random.default_rng(7)
    weights = recipe.initial_weights(seed=3)
    for name, array in weights.items():
        if name.endswith("bias"):
            weights[name] = (array + 0.1 * generator.standard_normal(array.shape)).astype(np.float32)
        elif "output" in name:
            weights[name] = array * np.float32(50)
    weights["whitening.mean"] = generator.random((recipe.N, recipe.N), np.float32)
    weights["whitening.scale"] = np.asarray(0.7, np.float32)
    return weights


def some_patterns(recipe: Recipe, count: int = 2) -> np.ndarray:
    shape = (count, recipe.channels, recipe.N, recipe.N)
    return np.random.default_rng(11).random(shape, np.float32) * np.float32(3)


def as_array(result: Any) -> np.ndarray:
    return result.detach().numpy() if isinstance(result, torch.Tensor) else result.numpy()


def as_input(network: Network, patterns: np.ndarray) -> Any:
    return torch.from_numpy(patterns) if isinstance(network, TorchNetwork) else tf.constant(patterns)


@pytest.mark.numerical
@RECIPES
def test_the_same_weights_give_the_same_object_in_both_frameworks(recipe: Recipe) -> None:
    """That of float64, as closely as float32 can."""
    weights, patterns = some_weights(recipe), some_patterns(recipe)
    exact, allowed = of_network(recipe, weights, patterns)
    assert exact["amplitude"].std() > 300 * allowed["amplitude"]
    assert exact["phase"].std() > 300 * allowed["phase"]
    for network in (TorchNetwork(recipe), KerasNetwork(recipe)):
        network.set_weights_by_name(weights)
        heads = network.amplitude_and_phase(as_input(network, patterns))
        for name, head in zip(("amplitude", "phase"), heads, strict=True):
            assert head.shape == patterns.shape
            np.testing.assert_allclose(as_array(head), exact[name], rtol=0, atol=allowed[name])


@NETWORKS
@RECIPES
def test_weights_come_back_bit_for_bit(network_class: type[Network], recipe: Recipe) -> None:
    network, weights = network_class(recipe), some_weights(recipe)
    network.set_weights_by_name(weights)
    returned = network.weights_by_name()
    assert returned.keys() == weights.keys()
    for name, array in returned.items():
        assert (array.dtype, array.shape, array.tobytes()) == (np.float32, weights[name].shape, weights[name].tobytes())


@NETWORKS
def test_returned_weights_are_copies(network_class: type[Network]) -> None:
    network = network_class(Recipe(N=64))
    network.weights_by_name()["decoder.phase.output.bias"] += 1
    assert network.weights_by_name()["decoder.phase.output.bias"] == 0


@NETWORKS
@RECIPES
def test_training_starts_near_vacuum(network_class: type[Network], recipe: Recipe) -> None:
    network = network_class(recipe)
    whitened = np.random.default_rng(0).standard_normal((2, recipe.channels, recipe.N, recipe.N), np.float32)
    amplitude, phase = (as_array(head) for head in network.amplitude_and_phase(as_input(network, whitened)))
    assert abs(amplitude.mean() - 1) < 0.1
    assert np.sqrt(np.mean((amplitude - 1) ** 2)) < 0.2
    assert np.sqrt(np.mean(phase**2)) < 1.0


@NETWORKS
def test_the_object_is_amplitude_and_phase_as_real_and_imaginary_part(network_class: type[Network]) -> None:
    recipe = Recipe(N=48, gridsize=2)
    network = network_class(recipe)
    patterns = as_input(network, some_patterns(recipe))
    amplitude, phase = (as_array(head) for head in network.amplitude_and_phase(patterns))
    expected = amplitude * np.exp(1j * phase.astype(np.complex128))
    result = as_array(network(patterns))
    assert result.shape == (2, 4, 48, 48, 2)
    atol = of_functions(float(amplitude.max()))
    np.testing.assert_allclose(result.view(np.complex64)[..., 0], expected, rtol=0, atol=atol)


@NETWORKS
def test_patterns_equal_to_the_mean_are_vacuum(network_class: type[Network]) -> None:
    recipe = Recipe(N=64)
    network, weights = network_class(recipe), network_class(recipe).weights_by_name()
    weights["whitening.mean"] = some_patterns(recipe, 1)[0, 0]
    network.set_weights_by_name(weights)
    amplitude, phase = network.amplitude_and_phase(as_input(network, some_patterns(recipe, 1)))
    np.testing.assert_allclose(as_array(amplitude), 1, atol=of_functions())
    assert not as_array(phase).any()


def test_the_torch_state_dict_has_the_canonical_names() -> None:
    recipe = Recipe(N=128, gridsize=2)
    shapes = {name: tuple(tensor.shape) for name, tensor in TorchNetwork(recipe).state_dict().items()}
    assert shapes == {**recipe.weight_shapes(), **recipe.constant_shapes()}


def test_whitening_is_not_trained() -> None:
    recipe = Recipe(N=64)
    trained = set(recipe.weight_shapes())
    assert {name for name, _ in TorchNetwork(recipe).named_parameters()} == trained
    network = KerasNetwork(recipe)
    assert len(network.trainable_weights) == len(trained)
    assert {variable.name for variable in network.non_trainable_weights} == {"whitening.mean", "whitening.scale"}


@NETWORKS
@pytest.mark.parametrize(
    "change, key",
    [
        ({"encoder.0.conv.0.bias": None}, "encoder.0.conv.0.bias"),
        ({"whitening.scale": None}, "whitening.scale"),
        ({"encoder.9.conv.0.bias": np.zeros(3, np.float32)}, "encoder.9.conv.0.bias"),
        ({"encoder.0.conv.0.weight": np.zeros((3, 3, 1, 16), np.float32)}, "encoder.0.conv.0.weight"),
        ({"whitening.mean": np.zeros((64, 64))}, "whitening.mean"),
    ],
    ids=["missing", "missing constant", "unknown", "HWIO", "float64"],
)
def test_weights_that_are_not_the_recipes_are_refused_and_change_nothing(
    network_class: type[Network], change: dict[str, np.ndarray | None], key: str
) -> None:
    network = network_class(Recipe(N=64))
    before = network.weights_by_name()
    weights = {name: array + np.float32(1) for name, array in before.items()} | change
    weights = {name: array for name, array in weights.items() if array is not None}
    with pytest.raises(SettingsError) as refusal:
        network.set_weights_by_name(weights)
    assert refusal.value.key == key
    after = network.weights_by_name()
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())


def test_torch_autocast_leaves_both_heads_in_float32() -> None:
    recipe = Recipe(N=64)
    network, patterns = TorchNetwork(recipe), torch.from_numpy(some_patterns(recipe))
    network.set_weights_by_name(some_weights(recipe))
    exact = network(patterns)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(patterns)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).abs().max() < BFLOAT16_TOLERANCE


def test_a_mixed_keras_policy_leaves_both_heads_in_float32() -> None:
    recipe = Recipe(N=64)
    patterns = tf.constant(some_patterns(recipe))
    networks = [KerasNetwork(recipe), KerasNetwork(recipe, policy="mixed_bfloat16")]
    for network in networks:
        network.set_weights_by_name(some_weights(recipe))
    exact, mixed = (network(patterns) for network in networks)
    assert mixed.dtype == tf.float32
    assert 0 < np.abs(mixed - exact).max() < BFLOAT16_TOLERANCE
    assert all(weight.dtype == "float32" for weight in networks[1].weights)


@pytest.mark.numerical
@pytest.mark.parametrize("channels_out", [1, 4])
def test_the_gradient_of_the_last_convolution_is_summed_without_drift(channels_out: int) -> None:
    """A quarter of a million like terms: PyTorch's own convolution errs by 1.5e-5 here."""
    generator = np.random.default_rng(2)
    value = (1 + 0.1 * generator.standard_normal((4, 3, 256, 256))).astype(np.float32)
    slope = (1e-3 * (1 + 0.3 * generator.standard_normal((4, channels_out, 256, 256)))).astype(np.float32)
    kernel = generator.standard_normal((channels_out, 3, 3, 3)).astype(np.float32)
    found = {"pytorch": torch_gradients(value, kernel, slope), "tensorflow": keras_gradients(value, kernel, slope)}
    exact = torch_gradients(*(array.astype(np.float64) for array in (value, kernel, slope)), plain=True)
    for gradients in found.values():
        for name, gradient in gradients.items():
            scale = np.abs(exact[name]).max()
            np.testing.assert_allclose(gradient / scale, exact[name] / scale, rtol=0, atol=SUMMED_TOLERANCE)


def test_gradients_of_the_last_convolutions_agree_at_the_largest_size() -> None:
    """To 1e-5 of the layer's largest; with the libraries' own sums it is more."""
    recipe = Recipe(N=256, filters_scale=0.0625)
    weights, patterns = some_weights(recipe), some_patterns(recipe, 8)
    exact = network_gradients(recipe, weights, patterns.astype(np.float64))
    single = network_gradients(recipe, weights, patterns)
    network = KerasNetwork(recipe)
    network.set_weights_by_name(weights)
    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_mean(head) for head in network.amplitude_and_phase(tf.constant(patterns)))
    names = list(network.trained_by_name())
    found = dict(zip(names, tape.gradient(loss, list(network.trained_by_name().values())), strict=True))
    for head in ("amplitude", "phase"):
        name = f"decoder.{head}.output"
        keras_kernel = found[f"{name}.weight"].numpy().transpose(3, 2, 0, 1)
        largest = max(np.abs(exact[f"{name}.{part}"]).max() for part in ("weight", "bias"))
        for kernel, bias in (
            (keras_kernel, found[f"{name}.bias"].numpy()),
            (single[f"{name}.weight"], single[f"{name}.bias"]),
        ):
            assert np.abs(kernel - exact[f"{name}.weight"]).max() < GRADIENT_TOLERANCE * largest
            assert np.abs(bias - exact[f"{name}.bias"]).max() < GRADIENT_TOLERANCE * largest


def network_gradients(recipe: Recipe, weights: dict[str, np.ndarray], patterns: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's gradients of the mean of both heads, in the precision of the patterns."""
    given = torch.from_numpy(patterns)
    network = TorchNetwork(recipe)
    network.set_weights_by_name(weights)
    network.to(given.dtype)
    sum(head.mean() for head in network.amplitude_and_phase(given)).backward()  # type: ignore[union-attr]
    return {name: part.grad.numpy() for name, part in network.named_parameters() if part.grad is not None}


def torch_gradients(
    value: np.ndarray, kernel: np.ndarray, slope: np.ndarray, *, plain: bool = False
) -> dict[str, np.ndarray]:
    """Gradients of kernel, bias and input; `plain` with PyTorch's own convolution."""
    channels = kernel.shape[:2][::-1]
    layer = torch.nn.Conv2d(*channels, 3, padding=1) if plain else TorchOutput(*channels)
    layer.weight.data = torch.from_numpy(kernel)
    layer.bias.data = torch.zeros(channels[1], dtype=layer.weight.dtype)  # type: ignore[union-attr]
    given = torch.from_numpy(value).requires_grad_()
    result = layer(given)
    result.backward(torch.from_numpy(slope))
    parts = {"kernel": layer.weight.grad, "bias": layer.bias.grad, "input": given.grad}  # type: ignore[union-attr]
    return {name: part.numpy() for name, part in parts.items() if part is not None}


def keras_gradients(value: np.ndarray, kernel: np.ndarray, slope: np.ndarray) -> dict[str, np.ndarray]:
    """The same with the layer of the TensorFlow backend."""
    layer = KerasOutput(len(kernel), 3, padding="same", data_format="channels_last")
    given = tf.Variable(value.transpose(0, 2, 3, 1))
    layer.build(given.shape)
    layer.kernel.assign(kernel.transpose(2, 3, 1, 0))
    with tf.GradientTape() as tape:
        result = layer(given)
    of_kernel, of_bias, of_input = tape.gradient(
        result, [layer.kernel.value, layer.bias.value, given], output_gradients=slope.transpose(0, 2, 3, 1)
    )
    return {
        "kernel": of_kernel.numpy().transpose(3, 2, 0, 1),
        "bias": of_bias.numpy(),
        "input": of_input.numpy().transpose(0, 3, 1, 2),
    }


def test_the_last_convolution_learns_in_bfloat16_too() -> None:
    generator = np.random.default_rng(3)
    given = torch.from_numpy(generator.standard_normal((2, 3, 16, 16)).astype(np.float32)).requires_grad_()
    layer, gradients = TorchOutput(3, 1), []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            result = layer(given)
        result.float().square().mean().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == torch.float32
        gradients.append(layer.weight.grad.clone())
    exact, mixed = gradients
    assert 0 < (mixed - exact).abs().max() < BFLOAT16_TOLERANCE * exact.abs().max()
