"""Networks of both frameworks, exported once for all tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import ptychopinn_bundles
import pytest

from ptyonnx_bundles import Recipe
from ptyonnx_bundles.recipe import Family
from ptyonnx_converters import from_pytorch, from_tensorflow

FRAMEWORKS = ("pytorch", "tensorflow")
Weights = dict[str, np.ndarray]


class Case(NamedTuple):
    """A recipe, and a name for the weights that it gets."""

    N: int
    gridsize: int
    kind: str
    family: Family = "two-headed-cnn-2"

    def __str__(self) -> str:
        return f"N{self.N}-gridsize{self.gridsize}-{self.kind}-{self.family[-1]}"

    @property
    def recipe(self) -> Recipe:
        return Recipe(name=self.family, N=self.N, gridsize=self.gridsize, filters_scale=0.25)

    @property
    def weights(self) -> Weights:
        return WEIGHTS[self.kind](self.recipe)


class Framework(NamedTuple):
    """One converter and its native network."""

    name: str
    convert: Callable[[Any, Recipe], bytes]
    export: Callable[[Any, Recipe], onnx.ModelProto]
    network: Callable[[Recipe, Weights], Any]
    predict: Callable[[Any, np.ndarray], np.ndarray]


def ordinary(recipe: Recipe) -> Weights:
    """Weights as after a training: no bias is zero, no two layers are equal."""
    generator = np.random.default_rng(5)
    weights: Weights = dict(recipe.initial_weights(seed=1))
    for name, array in weights.items():
        if name.endswith("bias"):
            weights[name] = (array + 0.1 * generator.standard_normal(array.shape)).astype(np.float32)
        elif "output" in name:
            weights[name] = array * np.float32(5)
    weights["whitening.mean"] = generator.random((recipe.N, recipe.N), np.float32)
    weights["whitening.scale"] = np.asarray(0.7, np.float32)
    return weights


def shared(recipe: Recipe) -> Weights:
    """All-zero biases, equal layers, and equal kernels under different biases."""
    weights = ordinary(recipe)
    for name in ("encoder.0.conv.0", "decoder.phase.1.conv.1", "decoder.amplitude.output"):
        weights[f"{name}.bias"] = np.zeros_like(weights[f"{name}.bias"])
    for level, parts in ((0, ("weight", "bias")), (1, ("weight",))):
        for index, part in [(index, part) for index in (0, 1) for part in parts]:
            name = f"{level}.conv.{index}.{part}"
            weights[f"decoder.phase.{name}"] = weights[f"decoder.amplitude.{name}"].copy()
    return weights


def untrained(recipe: Recipe) -> Weights:
    """Every bias but one is zero, and whitening changes nothing."""
    return {
        **recipe.initial_weights(seed=2),
        "whitening.mean": np.zeros((recipe.N, recipe.N), np.float32),
        "whitening.scale": np.ones((), np.float32),
    }


WEIGHTS: dict[str, Callable[[Recipe], Weights]] = {"ordinary": ordinary, "shared": shared, "untrained": untrained}
CASES = [
    Case(64, 1, "shared"),
    Case(64, 2, "ordinary"),
    Case(128, 1, "ordinary"),
    Case(128, 2, "shared"),
    Case(48, 1, "untrained"),
    Case(48, 2, "shared", "two-headed-cnn-1"),
    *(
        pytest.param(case, marks=pytest.mark.slow)
        for case in (
            Case(64, 1, "ordinary"),
            Case(64, 2, "shared"),
            Case(128, 1, "shared"),
            Case(128, 2, "ordinary"),
            Case(96, 3, "shared"),
            Case(256, 1, "ordinary"),
        )
    ),
]
SMALL = Case(48, 2, "ordinary")


def _pytorch() -> Framework:
    import torch

    from ptyonnx.backends.pytorch.network import Network

    def network(recipe: Recipe, weights: Weights) -> Any:
        native = Network(recipe)
        native.set_weights_by_name(weights)
        return native

    def predict(native: Any, diffraction: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            output: np.ndarray = native(torch.from_numpy(diffraction)).numpy()
        return np.ascontiguousarray(output).view(np.complex64)[..., 0]

    return Framework("pytorch", from_pytorch.convert, from_pytorch.export, network, predict)


def _tensorflow() -> Framework:
    from ptyonnx.backends.tensorflow.network import Network

    def network(recipe: Recipe, weights: Weights) -> Any:
        native = Network(recipe)
        native.set_weights_by_name(weights)
        return native

    def predict(native: Any, diffraction: np.ndarray) -> np.ndarray:
        output: np.ndarray = native(diffraction).numpy()
        return output.view(np.complex64)[..., 0]

    return Framework("tensorflow", from_tensorflow.convert, from_tensorflow.export, network, predict)


@cache
def load(name: str) -> Framework:
    return {"pytorch": _pytorch, "tensorflow": _tensorflow}[name]()


@pytest.fixture(scope="session", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Framework:
    return load(request.param)


@pytest.fixture(scope="session", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture(scope="session")
def converted() -> Callable[[str, Case], bytes]:
    """The canonical model of a case by name of the framework, made once."""

    @cache
    def convert(name: str, case: Case) -> bytes:
        framework = load(name)
        return framework.convert(framework.network(case.recipe, case.weights), case.recipe)

    return convert


@pytest.fixture(scope="session")
def small() -> Case:
    return SMALL


@pytest.fixture(scope="session")
def _exports() -> Callable[[str], onnx.ModelProto]:
    @cache
    def export(name: str) -> onnx.ModelProto:
        framework = load(name)
        return framework.export(framework.network(SMALL.recipe, SMALL.weights), SMALL.recipe)

    return export


@pytest.fixture
def exported(framework: Framework, _exports: Callable[[str], onnx.ModelProto]) -> onnx.ModelProto:
    """What an exporter wrote for the small case: a copy, to be spoilt."""
    model = onnx.ModelProto()
    model.CopyFrom(_exports(framework.name))
    return model


@pytest.fixture(scope="session")
def torch_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle of PtychoPINN's PyTorch backend."""
    return ptychopinn_bundles.torch_bundle(tmp_path_factory.mktemp("torch"), ptychopinn_bundles.SMALL).path


@pytest.fixture(scope="session")
def keras_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of its TensorFlow backend."""
    return ptychopinn_bundles.keras_bundle(tmp_path_factory.mktemp("keras"), ptychopinn_bundles.SMALL).path
