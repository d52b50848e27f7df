"""Bundles for tests, without a training framework: the recipe's own graph with seeded weights.

`make_bundle` is the front door; `canonical_model` gives the bare ONNX model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles import (
    IR_VERSION,
    OPSET,
    Bundle,
    Manifest,
    Physics,
    Producer,
    Recipe,
    SelfTest,
    TrainingData,
    digests,
    protocol_of,
    write_bundle,
)

MEAN_PHOTONS = 4.5e5
SELFTEST_TOLERANCE = 5e-5


def example_probe(N: int, modes: int = 1, photons: float = MEAN_PHOTONS) -> NDArray[np.complex64]:
    """Gaussian probes with curved phase, `photons` in all; higher modes are weaker and tilted."""
    y, x = (np.indices((N, N)) - N // 2) / N
    probe = np.stack(
        [
            np.exp(-(x**2 + y**2) / (2 * 0.13**2) + 6j * (x**2 + y**2)) * (2 * x) ** mode * 0.7**mode
            for mode in range(modes)
        ]
    )
    return (probe * np.sqrt(photons / np.sum(np.abs(probe) ** 2))).astype(np.complex64)


def example_weights(recipe: Recipe, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Initial weights with outputs large enough to differ from vacuum, and a plausible whitening."""
    weights: dict[str, NDArray[np.generic]] = dict(recipe.initial_weights(seed))
    for head in ("amplitude", "phase"):
        weights[f"decoder.{head}.output.weight"] = weights[f"decoder.{head}.output.weight"] * np.float32(3)
    y, x = (np.indices((recipe.N, recipe.N)) - recipe.N // 2) / recipe.N
    weights["whitening.mean"] = (20 * np.exp(-(x**2 + y**2) / (2 * 0.2**2))).astype(np.float32)
    weights["whitening.scale"] = np.array(0.2, np.float32)
    return weights


def overflowing(bundle: Bundle, path: str | os.PathLike[str]) -> Bundle:
    """The same bundle with finite weights of which float32 makes infinity and then NaN, in the phase head."""
    large = {f"decoder.phase.{stage}.conv.0.weight": np.float32(1e30) for stage in (0, 1)}
    weights = {name: array * large.get(name, np.float32(1)) for name, array in bundle.weights.items()}
    recipe = bundle.manifest.recipe
    assert isinstance(recipe, Recipe)
    constants = recipe.graph_constants()
    model = canonical_model(recipe, {name: array for name, array in weights.items() if name not in constants})
    manifest = bundle.manifest.model_copy(update={"digests": digests(model)})
    return write_bundle(path, model, manifest, bundle.probe, bundle.selftest)


def canonical_model(recipe: Recipe, weights: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The graph of `Recipe.nodes()` as a serialised ONNX model."""
    nodes = [
        helper.make_node(node.operator, node.inputs, [node.name], name=node.name, **dict(node.attributes))
        for node in recipe.nodes()
    ]
    shape = ["batch", recipe.channels, recipe.N, recipe.N]
    initializers = [
        numpy_helper.from_array(np.asarray(array, order="C"), name)
        for name, array in {**weights, **recipe.graph_constants()}.items()
    ]
    graph = helper.make_graph(
        nodes,
        "ptyonnx",
        [helper.make_tensor_value_info("diffraction", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("object", TensorProto.FLOAT, [*shape, 2])],
        initializers,
    )
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model)
    return model.SerializeToString()


def run_model(model: bytes, diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
    """The model's output, computed by onnxruntime alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"diffraction": diffraction})
    return output.view(np.complex64)[..., 0]


def make_bundle(
    path: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    weights: Mapping[str, NDArray[np.generic]] | None = None,
    probe: NDArray[np.complex64] | None = None,
    mean_photons: float = MEAN_PHOTONS,
    framework: str = "pytorch",
) -> Bundle:
    """Write a complete, valid bundle.

    Parameters
    ----------
    path : path-like
        The file to write.
    recipe : Recipe, optional
        By default a very small network at N = 64.
    seed : int
        Of the weights, where none are given.
    weights : mapping, optional
        Canonical names -> arrays, including the two whitening constants.
    probe : (mode, N, N) complex64, optional
    mean_photons : float
    framework : str
        What the manifest says it was trained with.
    """
    recipe = recipe or Recipe(N=64, filters_scale=0.0625)
    probe = example_probe(recipe.N, photons=mean_photons) if probe is None else probe
    model = canonical_model(recipe, weights or example_weights(recipe, seed))
    generator = np.random.default_rng(seed)
    diffraction = generator.gamma(2.0, 5.0, (2, recipe.channels, recipe.N, recipe.N)).astype(np.float32)
    manifest = Manifest.model_validate(
        {
            "protocol": protocol_of(recipe),
            "recipe": recipe,
            "producer": Producer.model_validate({"framework": framework, "versions": {"onnx": onnx.__version__}}),
            "physics": Physics(N=recipe.N, gridsize=recipe.gridsize, probe_modes=len(probe), mean_photons=mean_photons),
            "training_data": TrainingData(name="made by a test", digest="0" * 64, patterns=1),
            "settings": {"seed": seed},
            "digests": digests(model),
        }
    )
    selftest = SelfTest(diffraction, run_model(model, diffraction), SELFTEST_TOLERANCE)
    return write_bundle(path, model, manifest, probe, selftest)
