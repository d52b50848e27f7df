"""Adopted networks compute the same as their original files with the declared conventions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from adopting import PLAIN, REST, SCAN, adopted
from bundle_factory import example_probe, make_bundle
from float32_bounds import of_bundle, of_functions, of_polar, of_roundings, of_sums
from foreign_networks import ptychonn, ptychovit
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx import load_scan, open_bundle, reconstruct
from ptyonnx.cli import main
from ptyonnx.comparison import compare
from ptyonnx.exchange.adopting import example_patterns
from ptyonnx_bundles import ForeignManifest
from ptyonnx_bundles.errors import BundleError, ConversionError, ScanError
from ptyonnx_converters import from_onnx
from ptyonnx_converters.foreign.declaration import ONE, Declaration, Limit, Scale, Source
from ptyonnx_runtime.inference.session import Session
from ptyonnx_runtime.inference.verify import verify

pytestmark = pytest.mark.numerical


def run(model: onnx.ModelProto, name: str, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Run the original in onnxruntime, eight patterns at a time."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[NDArray[np.float32]] = session.run(None, {name: values})
    return results


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
    session, atol = Session(bundle, threads=1), of_bundle(bundle.model, patterns)
    for count in (8, 3, 1):
        np.testing.assert_allclose(session.run(patterns[:count]), np.exp(1j * phase[:count]), rtol=0, atol=atol)
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
    """Attention, class token expanded to the batch, reshapes with the batch in them, as in PtychoViT."""
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
    atol = of_bundle(
        bundle.model, diffraction, roundings=4
    )  # scaled in float64 and rounded once; in the graph, 4 times
    for count in (3, 1, 2):
        found = Session(bundle, threads=1).run(diffraction[:count])[:, 0]
        np.testing.assert_allclose(found, (amplitude * np.exp(1j * phase))[:count], rtol=0, atol=atol)


def probed_network(fields: str, axes: str = "first", N: int = 64) -> onnx.ModelProto:
    """Outputs its input as the phase, which shows the effect of the input adapter."""
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
    phase = expected(amplitude.astype(np.float64))
    largest = float(np.abs(phase).max())
    # A square, a scale and a logarithm make the phase, which of_polar rounds twice already.
    atol = of_polar(1, largest) + of_functions(largest) + of_roundings(2, largest)
    np.testing.assert_allclose(found, np.exp(1j * phase), rtol=0, atol=atol)


def test_counts_at_the_limit_stay_and_one_more_goes(tmp_path: Path) -> None:
    declaration = Declaration(**{**vars(PLAIN), "phase": Source("y", None), "limit": Limit("zero-above", 50_000)})
    bundle = adopted(probed_network("y"), tmp_path, declaration)
    counts = np.zeros((1, 1, 64, 64))
    counts[..., 0, :3] = 49_999, 50_000, 50_001
    found = np.angle(Session(bundle, threads=1).run(np.sqrt(counts).astype(np.float32)))[0, 0, 0, :3]
    wanted = np.angle(np.exp(1j * np.array([49_999.0, 50_000.0, 0.0])))
    # A root that is rounded, squared, and rounded again is off by 3 roundings of 5e4 rad.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=of_roundings(3, 50_000) + of_polar())


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
    atol = of_bundle(bundle.model, patterns)
    np.testing.assert_allclose(Session(bundle, threads=1).run(patterns), expected, rtol=0, atol=atol)


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
    assert found.flux.scale == pytest.approx(np.sqrt(1.04), rel=1e-6)  # in float64; a native bundle would bear 4 %
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
    rel = of_sums(2 * 64 * 64)  # squares of two modes
    assert np.sum(np.abs(found) ** 2) == pytest.approx(scan.mean_photons, rel=rel)
    found = reconstruct(adopted(ptychonn(), tmp_path, PLAIN), scan, threads=1).probe
    ratio = found / scan.probe
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=of_sums(64 * 64))  # of the mean


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
        "network of PtychoNN",
        "adopted with",
        "photons",
        "unknown: amplitudes are not scaled",
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
    # The roundoff of half precision is 2**13 times that of float32, and some processors add up in half precision.
    atol = 2**13 * of_sums(4 * 9, size=float(np.abs(expected).max()))
    np.testing.assert_allclose(Session(bundle, threads=1).run(diffraction), expected, rtol=0, atol=atol)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison notices adapters that do not implement the declaration."""
    given = from_onnx.add_io_adapters
    wrong = Declaration(**{**vars(PLAIN), "zero_frequency": "corner"})
    monkeypatch.setattr(from_onnx, "add_io_adapters", lambda model, _, *rest: given(model, wrong, *rest))
    with pytest.raises(ConversionError) as refusal:
        adopted(ptychonn(), tmp_path, PLAIN)
    assert str(refusal.value.found).startswith("a difference of ")
    assert not (tmp_path / "bundle.onnx").exists()


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_any_fixed_batch_is_freed(batch: int, patterns: NDArray[np.float32], tmp_path: Path) -> None:
    bundle = adopted(ptychonn(batch=batch), tmp_path, PLAIN)
    (expected,) = run(ptychonn(batch="b"), "input.1", patterns**2)
    atol = of_bundle(bundle.model, patterns)
    np.testing.assert_allclose(Session(bundle, threads=1).run(patterns), np.exp(1j * expected), rtol=0, atol=atol)


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


def test_a_native_bundle_needs_no_adoption_but_can_be_had(tmp_path: Path) -> None:
    """The recipe's own graph, declared correctly, computes the same object: the adapters add nothing."""
    native = make_bundle(tmp_path / "n.onnx")
    model = onnx.load_model_from_string(native.model)
    for name in ("amplitude", "phase"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 64, 64]))
    declared = {"values": "amplitude", "phase": Source("phase", None), "amplitude": Source("amplitude", None)}
    bundle = adopted(model, tmp_path, Declaration(**{**vars(PLAIN), **declared}))
    diffraction = native.selftest.diffraction
    patches, atol = Session(native, threads=1).run(diffraction), of_bundle(native.model, diffraction)
    np.testing.assert_allclose(Session(bundle, threads=1).run(diffraction), patches, rtol=0, atol=atol)


def test_what_needs_a_recipe_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="importing needs a network of ptyonnx's own recipe"):
        adopted(ptychonn(), tmp_path, PLAIN).native_recipe("importing")
