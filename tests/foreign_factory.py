"""Foreign bundles for tests and for the sample: a small phase network, as somebody else might have trained it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from bundle_factory import example_probe, run_model
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles import (
    FOREIGN,
    IR_VERSION,
    OPSET,
    Bundle,
    ForeignManifest,
    ForeignPhysics,
    ForeignProducer,
    ForeignRecipe,
    SelfTest,
    digests,
    write_bundle,
)

TOLERANCE = 5e-5


COARSE_TOLERANCE = 2 * np.pi / 127  # a step of a phase in 8 bits, and one before it


def foreign_model(
    N: int = 32, channels: int = 1, seed: int = 0, amplitude: float | None = None, *, quantised: bool = False
) -> bytes:
    """A network that knows nothing but a phase, in the bundle's interface; its amplitude is 1 or the number given."""
    filters = 4
    generator = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {
        "scale": np.float32(0.05),
        "conv1.w": generator.standard_normal((filters, channels, 3, 3)) * 0.5,
        "conv1.b": np.zeros(filters),
        "conv2.w": generator.standard_normal((channels, filters, 3, 3)) * 0.3,
        "pi": np.float32(np.pi),
    }
    arrays = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    if amplitude is not None:
        arrays["amplitude"] = np.array(amplitude, np.float32)
    arrays["last"] = np.array([-1], np.int64)
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Mul", ["diffraction", "scale"], ["scaled"], name="n0"),
        helper.make_node("Conv", ["scaled", "conv1.w", "conv1.b"], ["c1"], name="n1", pads=pads),
        helper.make_node("Relu", ["c1"], ["r1"], name="n2"),
        helper.make_node("Conv", ["r1", "conv2.w"], ["c2"], name="n3", pads=pads),
        helper.make_node("Tanh", ["c2"], ["t"], name="n4"),
        helper.make_node("Mul", ["t", "pi"], ["phase"], name="n5"),
        helper.make_node("Cos", ["phase"], ["re"], name="n6"),
        helper.make_node("Sin", ["phase"], ["im"], name="n7"),
        helper.make_node("Unsqueeze", ["re", "last"], ["re.last"], name="n8"),
        helper.make_node("Unsqueeze", ["im", "last"], ["im.last"], name="n9"),
        helper.make_node("Concat", ["re.last", "im.last"], ["object"], name="n10", axis=-1),
    ]
    if amplitude is not None:
        nodes[8].input[0], nodes[9].input[0] = "re.scaled", "im.scaled"
        scaled = [
            helper.make_node("Mul", [part, "amplitude"], [f"{part}.scaled"], name=f"{part}.scaled")
            for part in ("re", "im")
        ]
        nodes[8:8] = scaled
    if quantised:
        arrays |= {"step": np.float32(1 / 127), "middle": np.int8(0)}
        nodes[5].input[0] = "t.rounded"
        nodes[5:5] = [
            helper.make_node("QuantizeLinear", ["t", "step", "middle"], ["t.steps"], name="q0"),
            helper.make_node("DequantizeLinear", ["t.steps", "step", "middle"], ["t.rounded"], name="q1"),
        ]
    shape = ["batch", channels, N, N]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("diffraction", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("object", TensorProto.FLOAT, [*shape, 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    content: bytes = model.SerializeToString()
    return content


def make_foreign_bundle(
    path: str | os.PathLike[str],
    N: int = 64,
    *,
    gridsize: int = 1,
    seed: int = 0,
    mean_photons: float | None = None,
    probe: NDArray[np.complex64] | None = None,
    amplitude: float | None = None,
    quantised: bool = False,
    **changes: Any,
) -> Bundle:
    """Write a complete, valid bundle of protocol 3, or 4.

    Parameters
    ----------
    path : path-like
    N, gridsize, seed : int
    mean_photons : float or None
        None: unknown.
    probe : (mode, N, N) complex64, optional
        An array without modes: unknown.
    amplitude : float or None
        None: no operator for it.
    quantised : bool
        Phases in 8 bits, and protocol 4 for their tolerance.
    **changes
        Of the manifest.
    """
    probe = example_probe(N) if probe is None else probe
    model = foreign_model(N, gridsize**2, seed, amplitude, quantised=quantised)
    diffraction = np.random.default_rng(seed).gamma(2.0, 5.0, (2, gridsize**2, N, N)).astype(np.float32)
    manifest = ForeignManifest.model_validate(
        {
            "protocol": 4 if quantised else 3,
            "recipe": ForeignRecipe(system="a test", N=N, gridsize=gridsize, conventions={"input": "amplitude"}),
            "producer": ForeignProducer(versions={"onnx": onnx.__version__}),
            "physics": ForeignPhysics(N=N, gridsize=gridsize, probe_modes=len(probe), mean_photons=mean_photons),
            "digests": digests(model, FOREIGN),
            **changes,
        }
    )
    return write_bundle(
        path,
        model,
        manifest,
        probe,
        SelfTest(diffraction, run_model(model, diffraction), COARSE_TOLERANCE if quantised else TOLERANCE),
    )
