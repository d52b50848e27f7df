"""Networks of other systems become bundles that compute what their own files compute, by what was declared."""

from __future__ import annotations

import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import example_probe, make_bundle
from foreign_networks import ptychonn, ptychovit
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from ptychopinn_bundles import Variant, repack, torch_bundle
from refusal import refused

from ptyonnx import load_scan, open_bundle, reconstruct
from ptyonnx.adoption import SAME_GRAPH, adopt, example_patterns
from ptyonnx.cli import main
from ptyonnx.comparison import compare
from ptyonnx_bundles import Bundle, ForeignManifest
from ptyonnx_bundles.errors import BundleError, ConversionError, ScanError
from ptyonnx_converters import from_onnx
from ptyonnx_converters.declaration import ONE, Declaration, Limit, Scale, Source
from ptyonnx_runtime.session import Session
from ptyonnx_runtime.verify import verify

SCAN = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
REST = ("--zero-frequency", "centre", "--scale", "factor=1", "--mean-photons", "unknown")
PLAIN = Declaration(
    system="x", values="intensity", zero_frequency="centre", scale=Scale("factor", 1.0), limit=Limit("none"),
    transform="none", mean_photons="unknown", phase=Source("94", None), amplitude=ONE,
)  # fmt: skip


def run(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The original, in onnxruntime, eight patterns at a time as it wants them."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[NDArray[np.float32]] = session.run(None, {name: values})
    return results


def adopted(model: onnx.ModelProto, folder: Path, declaration: Declaration, **options: Any) -> Bundle:
    onnx.save(model, folder / "model.onnx")
    return adopt(folder / "model.onnx", folder / "bundle.onnx", declaration, **options)


@pytest.fixture(scope="module")
def patterns() -> NDArray[np.float32]:
    return load_scan(SCAN).diffraction[:8][:, np.newaxis]


def test_the_edge_network_of_ptychonn_is_adopted_with_its_preset(
    patterns: NDArray[np.float32], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Static batch 8, opset 12, IR 6, an empty roi, a Constant node, raw counts in, phase out."""
    model = ptychonn()
    onnx.save(model, tmp_path / "nn.onnx")
    words = ["adopt", tmp_path / "nn.onnx", "-o", tmp_path / "b.onnx", "--system", "ptychonn", "--probe", SCAN, *REST]
    assert main([str(word) for word in words]) == 0
    bundle = open_bundle(tmp_path / "b.onnx")
    assert isinstance(bundle.manifest, ForeignManifest)
    (phase,) = run(model, "input.1", patterns**2)
    session = Session(bundle, threads=1)
    for count in (8, 3, 1):
        np.testing.assert_allclose(session.run(patterns[:count]), np.exp(1j * phase[:count]), atol=1e-4)
    assert verify(bundle, threads=1).passed
    assert (bundle.graph.opset, bundle.graph.ir_version) == (18, 10)
    conventions = bundle.manifest.recipe.conventions
    assert bundle.manifest.recipe.system == "PtychoNN"
    assert conventions["input"]["values"] == "intensity"  # type: ignore[index,call-overload]
    assert conventions["output"]["amplitude"] == "one"  # type: ignore[index,call-overload]
    assert conventions["original"]["batch"] == 8  # type: ignore[index,call-overload]
    assert len(bundle.probe) == 1
    assert "computed from the original file, within 0.0001 for one and for several patterns" in capsys.readouterr().out


@pytest.mark.parametrize(
    "batch, dynamic, optimize",
    [(4, False, True), (4, False, False), (1, False, True), (4, True, True), (4, True, False)],
)
@pytest.mark.slow
def test_a_vision_transformer_exported_from_torch_is_adopted(
    batch: int, dynamic: bool, optimize: bool, tmp_path: Path
) -> None:
    """Attention, class token expanded to the batch, reshapes with the batch in them: what PtychoViT looks like."""
    import torch

    network = ptychovit(tmp_path / "vit.onnx", batch=batch, dynamic=dynamic, optimize=optimize)
    words = ("adopt", tmp_path / "vit.onnx", "-o", tmp_path / "b.onnx", "--system", "ptychovit", "--zero-frequency", "corner",
             "--scale", "norm=25000,times=10000", "--mean-photons", "unknown")  # fmt: skip
    assert main([str(word) for word in words]) == 0
    bundle = open_bundle(tmp_path / "b.onnx")
    diffraction = example_patterns(32, 1, 1e5)
    diffraction[0, 0, 3, 4] = np.sqrt(60_000)  # a hot pixel
    counts = diffraction.astype(np.float64) ** 2
    counts[counts > 50_000] = 0
    fed = np.sqrt(np.fft.ifftshift(counts, axes=(-2, -1)) / 25_000 * 1e4).astype(np.float32)
    with torch.no_grad():
        amplitude, phase = network(torch.from_numpy(fed)).numpy().swapaxes(0, 1)
    for count in (3, 1, 2):
        found = Session(bundle, threads=1).run(diffraction[:count])[:, 0]
        np.testing.assert_allclose(found, (amplitude * np.exp(1j * phase))[:count], atol=2e-4)


def probed_network(fields: str, axes: str = "first", N: int = 64) -> onnx.ModelProto:
    """Gives back what goes in, as phase: what the operators in front did can be read off."""
    shape = {"first": ["b", 1, N, N], "last": ["b", N, N, 1], "planes": ["b", N, N]}[axes]
    node = helper.make_node("Identity", ["x"], [fields])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(fields, TensorProto.FLOAT, shape)],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 15)])


CASES = [
    ({}, lambda a: a**2),
    ({"values": "amplitude"}, lambda a: a),
    ({"values": "amplitude", "scale": Scale("factor", 0.25)}, lambda a: a / 4),
    ({"scale": Scale("norm", 100.0, 3.0)}, lambda a: a**2 * 0.03),
    ({"values": "amplitude", "scale": Scale("norm", 100.0, 4.0)}, lambda a: a * 0.2),
    ({"scale": Scale("maximum")}, lambda a: a**2 / (a**2).max(axis=(-2, -1), keepdims=True)),
    ({"limit": Limit("zero-above", 2.5)}, lambda a: np.where(a**2 > 2.5, 0, a**2)),
    ({"limit": Limit("clip", 2.0), "values": "amplitude"}, lambda a: np.minimum(a, np.sqrt(2))),
    ({"transform": "log1p"}, lambda a: np.log1p(a**2)),
    ({"transform": "log10p"}, lambda a: np.log10(1 + a**2)),
    ({"zero_frequency": "corner"}, lambda a: np.fft.ifftshift(a**2, axes=(-2, -1))),
]


@pytest.mark.parametrize("axes", ["first", "last", "planes"])
@pytest.mark.parametrize("changes, expected", CASES, ids=[",".join(case[0]) or "counts" for case in CASES])
def test_every_convention_of_the_input_does_what_it_says(
    changes: dict[str, Any], expected: Any, axes: str, tmp_path: Path
) -> None:
    """The declaration against NumPy written here by hand, through the whole of `adopt`."""
    declaration = Declaration(**{**vars(PLAIN), "phase": Source("y", None), **changes})
    bundle = adopted(probed_network("y", axes), tmp_path, declaration)
    amplitude = np.random.default_rng(5).uniform(0, 1.9, (3, 1, 64, 64)).astype(np.float32)
    found = Session(bundle, threads=1).run(amplitude)
    np.testing.assert_allclose(found, np.exp(1j * expected(amplitude.astype(np.float64))), atol=1e-5)


def test_counts_at_the_limit_stay_and_one_more_goes(tmp_path: Path) -> None:
    declaration = Declaration(**{**vars(PLAIN), "phase": Source("y", None), "limit": Limit("zero-above", 50_000)})
    bundle = adopted(probed_network("y"), tmp_path, declaration)
    counts = np.zeros((1, 1, 64, 64))
    counts[..., 0, :3] = 49_999, 50_000, 50_001
    found = np.angle(Session(bundle, threads=1).run(np.sqrt(counts).astype(np.float32)))[0, 0, 0, :3]
    wanted = np.angle(np.exp(1j * np.array([49_999.0, 50_000.0, 0.0])))
    np.testing.assert_allclose(found, wanted, atol=1e-2)  # float32 of 5e4 is 4e-3 apart


@pytest.mark.parametrize(
    "declared",
    [
        {"phase": Source("94", None), "amplitude": Source("95", None)},
        {"real": Source("94", None), "imaginary": Source("95", 0), "phase": None, "amplitude": None},
        {"phase": Source("95", None), "amplitude": ONE},
    ],
)
def test_every_way_to_say_what_comes_out(
    declared: dict[str, Any], patterns: NDArray[np.float32], tmp_path: Path
) -> None:
    model = ptychonn(heads=("94", "95"))
    bundle = adopted(model, tmp_path, Declaration(**{**vars(PLAIN), **declared}))
    first, second = run(model, "input.1", patterns**2)
    if declared.get("real"):
        expected = first + 1j * second
    elif declared["amplitude"] == ONE:
        expected = np.exp(1j * second)
    else:
        expected = second * np.exp(1j * first)
    np.testing.assert_allclose(Session(bundle, threads=1).run(patterns), expected, atol=1e-4)


def test_a_head_that_is_not_wanted_is_left_out(tmp_path: Path) -> None:
    both = adopted(
        ptychonn(heads=("94", "95")), tmp_path, Declaration(**{**vars(PLAIN), "amplitude": Source("95", None)})
    )
    one = adopted(ptychonn(heads=("94", "95")), tmp_path, PLAIN)
    assert len(one.graph.nodes) < len(both.graph.nodes)
    assert len(one.weights) < len(both.weights)


def test_known_photons_are_matched_exactly_and_unknown_ones_left_alone(tmp_path: Path) -> None:
    scan = load_scan(SCAN)
    known = adopted(ptychonn(), tmp_path, Declaration(**{**vars(PLAIN), "mean_photons": scan.mean_photons * 1.04}))
    found = reconstruct(known, scan, threads=1)
    assert found.flux.scale == pytest.approx(np.sqrt(1.04), rel=1e-6)  # a native bundle would bear 4 %
    again = reconstruct(known, scan, threads=1, flux="as-is")
    assert again.flux.scale == 1
    unknown = reconstruct(adopted(ptychonn(), tmp_path, PLAIN), scan, threads=1)
    assert unknown.flux.scale == 1
    assert "trained at an unknown number: left as they are" in str(unknown.flux)
    unknown.save(tmp_path / "r.h5")
    unknown.save(tmp_path / "r.npz")


def test_the_probe_is_the_bundles_else_the_scans_at_the_photons_of_the_patterns(tmp_path: Path) -> None:
    scan = load_scan(SCAN)
    assert scan.probe is not None
    own = adopted(ptychonn(), tmp_path, PLAIN, probe=example_probe(64, modes=2, photons=7.0))
    found = reconstruct(own, scan, threads=1).probe
    assert len(found) == 2
    assert np.sum(np.abs(found) ** 2) == pytest.approx(scan.mean_photons, rel=1e-5)
    found = reconstruct(adopted(ptychonn(), tmp_path, PLAIN), scan, threads=1).probe
    ratio = found / scan.probe
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)


@pytest.mark.slow
def test_every_verb_that_can_work_with_a_foreign_bundle_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(ptychonn(), tmp_path / "nn.onnx")
    bundle, result, native = tmp_path / "b.onnx", tmp_path / "r.h5", make_bundle(tmp_path / "n.onnx").path
    assert main(["adopt", str(tmp_path / "nn.onnx"), "-o", str(bundle), "--system", "PtychoNN", *REST]) == 0
    assert main(["verify", str(bundle)]) == 0
    assert (
        main(["reconstruct", str(bundle), "--data", str(SCAN), "-o", str(result), "--plot", str(tmp_path / "r.png")])
        == 0
    )
    assert main(["diff", str(bundle), str(native), "--data", str(SCAN), "--tolerance", "100"]) == 0
    assert main(["diff", str(bundle), str(bundle), "--data", str(SCAN)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    text = capsys.readouterr().out
    for said in (
        "foreign, of PtychoNN",
        "photons",
        "unknown: amplitudes are taken as they are",
        '"zero_frequency": "centre"',
    ):
        assert said in text
    assert main(["inspect", str(bundle), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["manifest"]["recipe"]["name"] == "foreign"
    assert described["parameters"] > 700
    found = compare(bundle, native, load_scan(SCAN))
    assert found.images.image is not None
    assert found.activations.passed is None
    assert not found.same_function
    itself = compare(bundle, f"{bundle}@cpu", load_scan(SCAN))
    assert (itself.same_function, itself.activations.passed, itself.passed) == (True, None, True)
    assert "has no recipe that names its layers" in itself.activations.sentence


def test_a_scan_without_a_probe_asks_for_one(tmp_path: Path) -> None:
    bundle = adopted(ptychonn(), tmp_path, PLAIN)
    with pytest.raises(ScanError, match=r"neither the scan nor the bundle bundle\.onnx has a probe"):
        reconstruct(bundle, replace(load_scan(SCAN), probe=None), threads=1)


def test_equal_files_and_declarations_give_equal_digests(tmp_path: Path) -> None:
    first = adopted(ptychonn(), tmp_path, PLAIN).manifest.digests
    assert adopted(ptychonn(), tmp_path, PLAIN).manifest.digests == first
    changed = Declaration(**{**vars(PLAIN), "zero_frequency": "corner"})
    assert adopted(ptychonn(), tmp_path, changed).manifest.digests.graph != first.graph


def test_half_precision_and_gridsize_2_are_adopted(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weight = numpy_helper.from_array((generator.standard_normal((8, 4, 3, 3)) * 0.1).astype(np.float16), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["b", 4, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["b", 8, 64, 64])], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    declared = {"phase": Source("y", 1), "amplitude": Source("y", 0), "gridsize": 2, "scale": Scale("maximum")}
    bundle = adopted(model, tmp_path, Declaration(**{**vars(PLAIN), **declared}))
    assert bundle.manifest.recipe.channels == 4
    diffraction = generator.uniform(0.5, 1, (2, 4, 64, 64)).astype(np.float32)
    fed = diffraction**2 / (diffraction**2).max(axis=(2, 3), keepdims=True)
    (found,) = run(model, "x", fed.astype(np.float16))
    expected = found[:, :4].astype(np.float32) * np.exp(1j * found[:, 4:].astype(np.float32))
    np.testing.assert_allclose(Session(bundle, threads=1).run(diffraction), expected, atol=5e-3)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is a proof: operators that do not do what was declared are found out."""
    given = from_onnx.surrounded
    wrong = Declaration(**{**vars(PLAIN), "zero_frequency": "corner"})
    monkeypatch.setattr(from_onnx, "surrounded", lambda model, _, *rest: given(model, wrong, *rest))
    with pytest.raises(ConversionError, match="computes another object than the original, found a difference of"):
        adopted(ptychonn(), tmp_path, PLAIN)
    assert not (tmp_path / "bundle.onnx").exists()


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_any_fixed_batch_is_freed(batch: int, patterns: NDArray[np.float32], tmp_path: Path) -> None:
    bundle = adopted(ptychonn(batch=batch), tmp_path, PLAIN)
    (expected,) = run(ptychonn(batch="b"), "input.1", patterns**2)
    np.testing.assert_allclose(Session(bundle, threads=1).run(patterns), np.exp(1j * expected), atol=1e-4)


def test_the_program_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "adopting.md"
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    model = probed_network("x2")
    model.graph.node.append(helper.make_node("Concat", ["x2", "x2"], ["output"], axis=1))
    model.graph.output[0].name = "output"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    onnx.save(model, tmp_path / "unet.onnx")
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {}
    exec(compile(program, "adopting.md", "exec"), values)  # noqa: S102 - our own page
    assert values["bundle"].trained_with == "our U-Net"
    assert verify(open_bundle(tmp_path / "bundle.onnx"), threads=1).passed


# What is refused.


def save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


ALL = ("--system", "x", "--values", "intensity", "--limit", "none", "--transform", "none", *REST)


def test_everything_that_is_not_declared_is_asked_for_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, ptychonn())
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx")
    for flag in (
        "--system",
        "--values",
        "--zero-frequency",
        "--scale",
        "--limit",
        "--transform",
        "--mean-photons",
        "--phase",
    ):
        assert flag in line
    assert "…" not in line
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", "--system", "ptychonn", *REST[2:])
    assert line.endswith("expected --zero-frequency centre|corner; see ptyonnx adopt --help")
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", "--real", "94", *ALL)
    assert "--imaginary" in line


def test_an_amplitude_of_one_is_not_assumed_where_the_file_gives_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, ptychonn(heads=("94", "95")))
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", "--phase", "94", *ALL)
    assert "--amplitude OUTPUT@CHANNEL|one" in line


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("positions", TensorProto.FLOAT, [8, 1, 64, 64]))
    model.graph.node.insert(0, helper.make_node("Add", ["input.1", "positions"], ["sum"]))
    model.graph.node[1].input[0] = "sum"


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _control_flow(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "then", [], [])
    model.graph.node.append(helper.make_node("If", ["94"], ["x"], then_branch=body, else_branch=body))


def _batch_norm_in_training(model: onnx.ModelProto) -> None:
    """Subtracts the mean over the batch: every pattern sees the others."""
    head = model.graph.node[-1]
    head.output[0] = "raw"
    mean = helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[0], keepdims=1)
    model.graph.node.extend([mean, helper.make_node("Sub", ["raw", "mean"], ["94"])])


def _fixed_reshape(model: onnx.ModelProto) -> None:
    """Cuts the batch in two, inseparably: no other number of patterns can be meant."""
    head = model.graph.node[-1]
    head.output[0] = "raw"
    for name, shape in (("s1", [4, 2, 1, 64, 64]), ("s2", [8, 1, 64, 64])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
    model.graph.node.extend(
        [helper.make_node("Reshape", ["raw", "s1"], ["cut"]), helper.make_node("Reshape", ["cut", "s2"], ["94"])]
    )


def _integer_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    model.graph.node.insert(0, helper.make_node("Cast", ["input.1"], ["cast"], to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "cast"


def _random(model: onnx.ModelProto) -> None:
    head = model.graph.node[-1]
    head.output[0] = "raw"
    model.graph.node.extend(
        [helper.make_node("RandomNormalLike", ["raw"], ["noise"]), helper.make_node("Add", ["raw", "noise"], ["94"])]
    )


def _cropped(model: onnx.ModelProto) -> None:
    head = model.graph.node[-1]
    head.output[0] = "raw"
    model.graph.node.append(helper.make_node("MaxPool", ["raw"], ["94"], kernel_shape=[2, 2], strides=[2, 2]))
    for axis in (2, 3):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = 32


def _nan(model: onnx.ModelProto) -> None:
    tensor = next(item for item in model.graph.initializer if item.name == "e.b")
    tensor.CopyFrom(numpy_helper.from_array(np.full(8, np.nan, np.float32), "e.b"))


REFUSED = {
    "external data": (_external, "'e.w': the weights lie in another file (external data)"),
    "control flow": (_control_flow, "control flow (If)"),
    "unknown operator": (lambda m: setattr(m.graph.node[1], "op_type", "Evil"), "No Op registered for Evil"),
    "foreign operator": (lambda m: setattr(m.graph.node[1], "domain", "com.evil"), "'com.evil::Relu' is not a standard one"),
    "several inputs": (_second_input, "several inputs; which takes the patterns has to be declared"),
    "integer input": (_integer_input, "'input.1': the input does not take real numbers, found int32, expected float"),
    "batch statistics": (_batch_norm_in_training, "a pattern's object depends on the others of its batch"),
    "fixed batch": (_fixed_reshape, "the batch is fixed at 8: a Reshape mixes it with other axes, found (8, 1, 64, 64) to (4, 2, 1, 64, 64)"),
    "random numbers": (_random, "RandomNormalLike"),
    "smaller patches": (_cropped, "the output is no image of the size of a pattern, found (8, 1, 32, 32)"),
    "nan": (_nan, "NaN or infinity"),
    "no such opset": (lambda m: setattr(m.opset_import[0], "version", 5), "too old an operator set, found 5"),
    "training": (lambda m: m.training_info.add(), "training information"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_cannot_be_bundles_are_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = REFUSED[name]
    model = ptychonn()
    change(model)  # type: ignore[no-untyped-call]
    path = save(tmp_path, model)
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", "--phase", "94", *ALL)
    assert expected in line
    assert line.startswith(str(path))


@pytest.mark.parametrize(
    "words, expected",
    [
        (("--phase", "93"), "'--phase': no such output, found 93, expected 94"),
        (("--phase", "94@1", "--amplitude", "one"), "which channels are the phase?, found 1 channel(s)"),
        (("--phase", "94@x"), "not a channel, found 94@x"),
        (("--phase", "94", "--real", "94"), "say the same in two ways"),
        (("--phase", "94", "--scale", "factor=-1"), "'--scale': not a positive number, found -1"),
        (("--phase", "94", "--scale", "norm=2"), "'--scale': 'times' is missing"),
        (("--phase", "94", "--scale", "double"), "'--scale': not a rule, found double"),
        (("--phase", "94", "--limit", "saturate"), "'--limit': not a rule"),
        (("--phase", "94", "--values", "counts"), "'--values': no such choice, found counts"),
        (("--phase", "94", "--zero-frequency", "left"), "'--zero-frequency': no such choice"),
        (("--phase", "94", "--mean-photons", "many"), "'--mean-photons': not a positive number"),
        (("--phase", "94", "--input", "x"), "'--input': no such input, found x, expected input.1"),
        (("--phase", "94", "--gridsize", "2"), "'--gridsize': another number of channels, found 1, expected 4"),
        (("--phase", "94", "--size", "128"), "unusable size of patterns"),
    ],
)
def test_declarations_that_do_not_fit_are_refused_in_one_line(
    words: tuple[str, ...], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, ptychonn())
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", *ALL, *words)
    assert expected in line


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "not an ONNX model"),
        (b"not a model", "not an ONNX model"),
        (b"\x08\x07", "not an ONNX model"),
        (b"PK\x03\x04" + b"\0" * 60, "not a complete ZIP archive"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.onnx").write_bytes(content)
    assert said in refused(capsys, tmp_path, "adopt", tmp_path / "f.onnx", "-o", tmp_path / "b.onnx")
    assert "no such file" in refused(capsys, tmp_path, "adopt", tmp_path / "g.onnx", "-o", tmp_path / "b.onnx")
    assert "not a file" in refused(capsys, tmp_path, "adopt", tmp_path, "-o", tmp_path / "b.onnx")


def test_a_probe_of_another_size_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "p.npy", example_probe(32))
    path = save(tmp_path, ptychonn())
    words = ("adopt", path, "-o", tmp_path / "b.onnx", "--system", "ptychonn", "--probe", tmp_path / "p.npy", *REST)
    assert "a probe of another size than the network's patterns" in refused(capsys, tmp_path, *words)


def test_a_native_bundle_needs_no_adoption_but_can_be_had(tmp_path: Path) -> None:
    """The recipe's own graph, declared as what it is, gives the same object: the machinery adds nothing."""
    native = make_bundle(tmp_path / "n.onnx")
    model = onnx.load_model_from_string(native.model)
    for name in ("amplitude", "phase"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 64, 64]))
    declared = {"values": "amplitude", "phase": Source("phase", None), "amplitude": Source("amplitude", None)}
    bundle = adopted(model, tmp_path, Declaration(**{**vars(PLAIN), **declared}))
    patches = Session(native, threads=1).run(native.selftest.diffraction)
    np.testing.assert_allclose(Session(bundle, threads=1).run(native.selftest.diffraction), patches, atol=1e-5)


# PtychoPINN's files go another way.


def ptychopinn_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.dill", b"\x80\x04cos\nsystem\n")
    return path


@pytest.fixture(scope="module")
def older_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PtychoPINN bundle of PyTorch that says nothing beside its weights."""
    folder = tmp_path_factory.mktemp("older")
    complete = torch_bundle(folder, Variant(scale=1)).path
    return repack(complete, folder / "wts.h5.zip", {"torch_scaling_metadata.pt": None, "manifest.dill": None})


def test_an_older_ptychopinn_bundle_asks_for_what_it_does_not_say(
    older_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "b.onnx"
    assert "declare --probe-big as it was" in refused(capsys, tmp_path, "adopt", older_bundle, "-o", output)
    line = refused(capsys, tmp_path, "adopt", older_bundle, "-o", output, "--probe_big", "true")
    assert "declare --amp-activation as it was" in line
    said = ["--probe-big", "true", "--amp-activation", "sigmoid"]
    assert main(["adopt", str(older_bundle), "-o", str(output), *said]) == 0
    bundle = open_bundle(output)
    assert bundle.trained_with == "PtychoPINN (PyTorch)"
    assert bundle.manifest.physics.mean_photons == 1024
    assert bundle.manifest.recipe.conventions["selftest"] == SAME_GRAPH  # type: ignore[union-attr]
    assert reconstruct(bundle, load_scan(SCAN), threads=1).flux.bundle_photons == 1024


def test_settings_of_ptychopinn_for_another_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(ptychonn(), tmp_path / "m.onnx")
    line = refused(capsys, tmp_path, "adopt", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", "--probe-big", "true")
    assert "'--probe-big': settings of a PtychoPINN bundle, which this is not" in line


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert "not a file" in refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5", ".onnx"])
def test_a_probe_or_a_scan_that_is_a_pipe_is_refused_at_once(
    suffix: str, older_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, bundle = tmp_path / f"pipe{suffix}", make_bundle(tmp_path / "n.onnx").path
    os.mkfifo(pipe)
    for words in (
        ("adopt", older_bundle, "-o", tmp_path / "b.onnx", "--probe", pipe),
        ("reconstruct", bundle, "--data", pipe, "-o", tmp_path / "r.h5"),
    ):
        assert f"{pipe}: not a file" in refused(capsys, tmp_path, *words)


def test_declarations_for_a_ptychopinn_bundle_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ptychopinn_zip(tmp_path / "wts.h5.zip")
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", "--zero-frequency", "corner")
    assert "'--zero-frequency': the conventions of a PtychoPINN bundle are known" in line


def test_what_needs_a_recipe_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="importing needs a network of ptyonnx's own recipe"):
        adopted(ptychonn(), tmp_path, PLAIN).native_recipe("importing")
