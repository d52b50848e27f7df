"""Write a bundle's network in the interface in which ptychoml and holoptycho load PtychoViT.

The input `input` is float32 [batch, 1, N, N], the amplitude `sqrt(counts / norm * 1e4)`; the output `output`
is float32 [batch, 2, N, N], amplitude and phase in rad; the batch is fixed. If the bundle has a probe, its
strongest mode is written as two more outputs, `probe_real` and `probe_imag`, float32 [N, N]: the pipelines
derive the orientation of the detector and the usable part of a patch from it. The file's output is compared
with the bundle's before the file is returned.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.confinement import Confinement
from ptyonnx_bundles.errors import ConversionError, SettingsError
from ptyonnx_bundles.zero_frequency import PLACES
from ptyonnx_converters.foreign.simplify import required_nodes
from ptyonnx_converters.onnxruntime_session import Graph, LocalGraph, first_line, onnxruntime_errors, open_confined

__all__ = ["INPUT", "OUTPUT", "PROBE", "TIMES", "TOLERANCE", "convert"]

INPUT, OUTPUT = "input", "output"
PROBE = ("probe_real", "probe_imag")
TIMES = 1e4  # ptychoml: sqrt(counts / norm * 1e4)
TOLERANCE = 1e-4  # of the complex object; onnxruntime fuses the same operators differently
_CONFINEMENT = Confinement()


def convert(
    bundle: Bundle,
    batch: int,
    *,
    norm: float = TIMES,
    zero_frequency: str = "centre",
    confinement: Confinement = _CONFINEMENT,
) -> bytes:
    """Write a bundle's network with the interface of a deployed PtychoViT.

    Parameters
    ----------
    bundle : Bundle
        gridsize 1.
    batch : int
        Patterns per call, fixed.
    norm : float
        The pipeline divides counts by it. With 1e4 the network's input is the square root of the counts.
    zero_frequency : {"centre", "corner"}
        Its position in the pipeline's patterns.
    confinement : Confinement
        Limits on time and memory while the graph of a foreign bundle is tested.

    Returns
    -------
    bytes
        A serialised model; its doc_string describes its input and output.

    Raises
    ------
    SettingsError
        An argument has an unusable value.
    ConversionError
        The network takes groups of patterns, or the file computes another object.
    WorkerError
        A foreign graph crashed its process or exceeded the time limit.
    """
    if batch < 1 or not (math.isfinite(norm) and norm > 0) or zero_frequency not in PLACES:
        raise SettingsError(
            "unusable value", key="batch, norm, zero_frequency", found=(batch, norm, zero_frequency),
            expected="positive numbers, and centre or corner",
        )  # fmt: skip
    zero_frequency = PLACES[zero_frequency]
    physics = bundle.manifest.physics
    if physics.gridsize != 1:
        raise ConversionError(
            "the profile ptychovit has no groups of patterns", file=bundle.path or bundle.name, key="gridsize",
            found=physics.gridsize, expected=1,
        )  # fmt: skip
    model = onnx.load_model_from_string(bundle.model)
    _write_interface(model.graph, batch, physics.N, math.sqrt(norm / TIMES), zero_frequency)
    _add_probe(model.graph, bundle.probe)
    del model.metadata_props[:]
    model.doc_string = (
        f"{bundle.name} for PtychoViT pipelines: input amplitude sqrt(counts / {norm:g} * 1e4), zero frequency at the "
        f"{zero_frequency}; output amplitude, phase (rad){'; probe_real, probe_imag' if len(bundle.probe) else ''}. "
        f"Weights {bundle.manifest.digests.weights}."
    )
    try:
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the network cannot have a fixed batch ({first_line(error)})", file=bundle.name
        ) from None
    content: bytes = model.SerializeToString(deterministic=True)
    try:
        with _opened(content, bundle, confinement) as graph, _opened(bundle.model, bundle, confinement) as original:
            _check(bundle, (graph, original), batch, norm, zero_frequency)
    except onnxruntime_errors() as error:
        raise ConversionError(f"onnxruntime cannot run the file ({first_line(error)})", file=bundle.name) from None
    return content


def _write_interface(graph: onnx.GraphProto, batch: int, N: int, factor: float, zero_frequency: str) -> None:
    """Replace the input and output of the graph; the nodes between them stay."""
    polar = _polar(graph)
    front, value = _front(graph, factor, N, zero_frequency)
    for node in graph.node:
        node.input[:] = [value if name == "diffraction" else name for name in node.input]
    back = _back(graph, polar, (batch, 1, N, N))
    nodes = required_nodes([*front, *graph.node, *back], [OUTPUT])
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field in ("node", "initializer", "input", "output", "value_info"):
        graph.ClearField(field)
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, 1, N, N]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, 2, N, N]))


def _add_probe(graph: onnx.GraphProto, probe: NDArray[np.complex64]) -> None:
    """Add the strongest mode as constants: weights that are outputs as well, so that readers find them as either."""
    if not len(probe):
        return
    strongest = probe[np.argmax(np.sum(np.abs(probe) ** 2, axis=(1, 2)))]
    for name, part in zip(PROBE, (strongest.real, strongest.imag), strict=True):
        array = np.ascontiguousarray(part, np.float32)
        graph.initializer.append(numpy_helper.from_array(array, name))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(array.shape)))


def _front(graph: onnx.GraphProto, factor: float, N: int, zero_frequency: str) -> tuple[list[onnx.NodeProto], str]:
    """Make nodes from the pipeline's input to measured amplitudes, zero frequency in the centre."""
    nodes, value = [], INPUT
    if zero_frequency == "corner":
        graph.initializer.append(numpy_helper.from_array(np.roll(np.arange(N), N // 2), "profile.centre"))
        for axis in (2, 3):
            name = f"profile.centred.{axis}"
            nodes.append(helper.make_node("Gather", [value, "profile.centre"], [name], name, axis=axis))
            value = name
    if factor != 1:
        graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), "profile.factor"))
        nodes.append(helper.make_node("Mul", [value, "profile.factor"], ["profile.amplitude"], "profile.amplitude"))
        value = "profile.amplitude"
    return nodes, value


def _polar(graph: onnx.GraphProto) -> tuple[str | None, str] | None:
    """Find the amplitude and the phase that the object is computed from; amplitude None: it is 1."""
    made = {name: node for node in graph.node for name in node.output}
    ends = _inputs(made.get("object"), "Concat")
    halves = [_inputs(made.get(end), "Unsqueeze") for end in ends]
    if len(halves) != 2 or not all(halves):
        return None
    real, imaginary = (half[0] for half in halves)
    factors = _inputs(made.get(real), "Mul"), _inputs(made.get(imaginary), "Mul")
    if not any(factors):
        factors = ([real], [imaginary])
    cosines, sines = (
        {_inputs(made.get(name), operator)[0]: name for name in names if _inputs(made.get(name), operator)}
        for names, operator in zip(factors, ("Cos", "Sin"), strict=True)
    )
    common = sorted(set(cosines) & set(sines))
    if len(common) != 1:
        return None
    phase = common[0]
    rests = [
        [name for name in names if name != wave[phase]] for names, wave in zip(factors, (cosines, sines), strict=True)
    ]
    if rests[0] != rests[1] or len(rests[0]) > 1:
        return None
    return (rests[0][0] if rests[0] else None), phase


def _inputs(node: onnx.NodeProto | None, operator: str) -> list[str]:
    return list(node.input) if node is not None and node.op_type == operator else []


def _back(graph: onnx.GraphProto, polar: tuple[str | None, str] | None, shape: tuple[int, ...]) -> list[onnx.NodeProto]:
    """Make nodes from the object, or from its amplitude and phase, to the output."""
    if polar is None:
        nodes, parts = _angle(graph), ["profile.absolute", "profile.angle"]
    else:
        nodes, (amplitude, phase) = [], polar
        if amplitude is None:
            graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), "profile.ones"))
            amplitude = "profile.ones"
        parts = [amplitude, phase]
    return [*nodes, helper.make_node("Concat", parts, [OUTPUT], OUTPUT, axis=1)]


def _angle(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Make nodes for absolute value and angle of the object; ONNX has no atan2.

    The angle is ``atan(im / re)``, plus or minus pi for a negative real part.
    """
    constants: dict[str, NDArray[Any]] = {
        "profile.re": np.array(0, np.int64),
        "profile.im": np.array(1, np.int64),
        "profile.least": np.array(1e-30, np.float32),
        "profile.zero": np.array(0, np.float32),
        "profile.pi": np.array(np.pi, np.float32),
        "profile.minus": np.array(-np.pi, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    steps: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = [
        ("real", "Gather", ("object", "profile.re"), {"axis": -1}),
        ("imaginary", "Gather", ("object", "profile.im"), {"axis": -1}),
        ("real2", "Mul", ("profile.real", "profile.real"), {}),
        ("imaginary2", "Mul", ("profile.imaginary", "profile.imaginary"), {}),
        ("square", "Add", ("profile.real2", "profile.imaginary2"), {}),
        ("absolute", "Sqrt", ("profile.square",), {}),
        ("upright", "Equal", ("profile.real", "profile.zero"), {}),
        ("divisor", "Where", ("profile.upright", "profile.least", "profile.real"), {}),
        ("tangent", "Div", ("profile.imaginary", "profile.divisor"), {}),
        ("right", "Atan", ("profile.tangent",), {}),
        ("below", "Less", ("profile.imaginary", "profile.zero"), {}),
        ("turn", "Where", ("profile.below", "profile.minus", "profile.pi"), {}),
        ("left", "Add", ("profile.right", "profile.turn"), {}),
        ("negative", "Less", ("profile.real", "profile.zero"), {}),
        ("angle", "Where", ("profile.negative", "profile.left", "profile.right"), {}),
    ]
    return [
        helper.make_node(operator, list(inputs), [f"profile.{name}"], f"profile.{name}", **attributes)
        for name, operator, inputs, attributes in steps
    ]


def _opened(model: bytes, bundle: Bundle, confinement: Confinement) -> Graph:
    return open_confined(model, bundle.name, confinement) if bundle.is_foreign else LocalGraph(model)


def _check(bundle: Bundle, graphs: tuple[Graph, Graph], batch: int, norm: float, zero_frequency: str) -> None:
    """Run the file as the pipelines do and compare its object with the bundle's."""
    graph, original = graphs
    shape = (batch, *bundle.selftest.diffraction.shape[1:])
    diffraction = np.resize(bundle.selftest.diffraction, shape)
    counts = diffraction.astype(np.float64) ** 2
    fed = np.sqrt(counts / norm * TIMES).astype(np.float32)
    if zero_frequency == "corner":
        fed = np.ascontiguousarray(np.fft.ifftshift(fed, axes=(-2, -1)))
    found = {name: (kind, list(size)) for side in graph.about.values() for name, kind, size in side}
    wanted = {INPUT: ("tensor(float)", list(shape)), OUTPUT: ("tensor(float)", [shape[0], 2, *shape[2:]])}
    wanted |= {name: ("tensor(float)", list(shape[2:])) for name in PROBE if len(bundle.probe)}
    if found != wanted:
        raise ConversionError("the file does not have the interface of the profile", found=found, expected=wanted)
    (result,) = graph.run([OUTPUT], {INPUT: fed})
    first = diffraction[: len(bundle.selftest.diffraction)]
    (expected,) = original.run(["object"], {"diffraction": first})
    patches = result[: len(first), 0] * np.exp(1j * result[: len(first), 1].astype(np.float64))
    reference = expected.view(np.complex64)[:, 0, ..., 0]
    difference = float(np.abs(patches - reference).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(reference).max())):
        raise ConversionError(
            "the file computes another object than the bundle", found=f"a difference of {difference:.2g}",
            expected=f"at most {TOLERANCE:g}", remedy="nothing was written; report this with the bundle",
        )  # fmt: skip
