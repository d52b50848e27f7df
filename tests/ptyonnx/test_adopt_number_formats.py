"""The tolerance of a self-test depends on the number format in which a network computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from adopting import PLAIN, adopted
from bundle_factory import make_bundle
from foreign_factory import COARSE_TOLERANCE, TOLERANCE, foreign_model, make_foreign_bundle, run_model
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx.exchange.adopting import example_patterns
from ptyonnx_bundles import Bundle, SelfTest, read_bundle, write_bundle
from ptyonnx_bundles.errors import BundleError, ConversionError
from ptyonnx_converters import from_onnx
from ptyonnx_converters.foreign.declaration import Declaration, Source
from ptyonnx_converters.foreign.tolerance import is_coarse, is_quantised, relative_tolerance, shift_quantised_outputs

pytestmark = pytest.mark.numerical

N = 32
PHASE = Declaration(**{**vars(PLAIN), "phase": Source("y", None)})


def network(nodes: list[onnx.NodeProto], arrays: dict[str, Any], opset: int = 17) -> onnx.ModelProto:
    shape = ["b", 1, N, N]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def counts_in_eight_bits(rad_per_count: float) -> onnx.ModelProto:
    """Steps of two counts: every odd count lies between two of them, and rounding decides."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        helper.make_node("Mul", ["d", "factor"], ["y"]),
    ]
    return network(nodes, {"step": np.float32(2), "zero": np.uint8(0), "factor": np.float32(rad_per_count)})


def optimised_and_plain(bundle: Bundle, diffraction: NDArray[np.float32]) -> list[NDArray[np.complex64]]:
    found = []
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
        found.append(session.run(["object"], {"diffraction": diffraction})[0].view(np.complex64)[..., 0])
    return found


def test_a_network_in_eight_bits_is_allowed_the_steps_that_rounding_takes(tmp_path: Path) -> None:
    """One step is 0.02 rad here. A change of 1e-9 that rounds differently stays within the tolerance."""
    bundle = adopted(counts_in_eight_bits(0.01), tmp_path, PHASE)
    selftest = bundle.selftest
    assert bundle.manifest.protocol == 4
    assert 2 * 0.02 <= selftest.tolerance <= 4 * 0.0201
    largest = 0.0
    for factor in (1 - 1e-7, 1.0, 1 + 1e-7):
        for found in optimised_and_plain(bundle, (selftest.diffraction * np.float64(factor)).astype(np.float32)):
            largest = max(largest, float(np.abs(found - selftest.object).max()))
    assert 0.019 < largest <= selftest.tolerance  # rounding does move it, or nothing was tested


def test_a_wrong_graph_in_eight_bits_is_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = from_onnx.add_io_adapters
    wrong = Declaration(**{**vars(PHASE), "zero_frequency": "corner"})
    monkeypatch.setattr(from_onnx, "add_io_adapters", lambda model, _, *rest: given(model, wrong, *rest))
    with pytest.raises(ConversionError) as refusal:
        adopted(counts_in_eight_bits(0.01), tmp_path, PHASE)
    assert str(refusal.value.found).startswith("a difference of ")


def test_steps_that_are_too_large_for_any_self_test_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as raised:
        adopted(counts_in_eight_bits(0.1), tmp_path, PHASE)
    assert raised.value.remedy is not None
    assert "0.25" in str(raised.value.expected)


def test_weights_in_eight_bits_alone_move_nothing(tmp_path: Path) -> None:
    """They are the same numbers everywhere: the tolerance stays that of float32, and the protocol the lower one."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "step", "zero"], ["d"]),
        helper.make_node("Conv", ["x", "d"], ["y"], pads=[1] * 4),
    ]
    weight = np.random.default_rng(0).integers(-99, 99, (1, 1, 3, 3)).astype(np.int8)
    bundle = adopted(network(nodes, {"w": weight, "step": np.float32(1e-5), "zero": np.int8(0)}), tmp_path, PHASE)
    assert bundle.manifest.protocol == 3
    assert bundle.selftest.tolerance == pytest.approx(1e-4)


def test_a_step_is_taken_where_nothing_is_added_up_behind_it() -> None:
    model = counts_in_eight_bits(0.01)
    moved = shift_quantised_outputs(model)
    values = example_patterns(N, 1, 1e3)[:1] ** 2
    first, second = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": values})[0]
        for each in (model, moved)
    )  # fmt: skip
    np.testing.assert_allclose(second - first, 0.02, rtol=1e-3)  # float32 differences of phases below 100 steps: 1e-5
    nodes = [
        *model.graph.node[:2],
        helper.make_node("ReduceSum", ["d"], ["s"]),
        helper.make_node("Add", ["s", "x"], ["y"]),
    ]
    summed = network(nodes, {"step": np.float32(2), "zero": np.uint8(0)})
    assert shift_quantised_outputs(summed) == summed


@pytest.mark.parametrize(
    "kind, expected",
    [(TensorProto.FLOAT, 1e-4), (TensorProto.FLOAT16, 10 * 2**-11), (TensorProto.BFLOAT16, 10 * 2**-8)],
)
def test_the_tolerance_of_floating_point_follows_its_last_place(kind: int, expected: float, tmp_path: Path) -> None:
    """Only a Cast shows the format; no weight has it."""
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["f"]),
        helper.make_node("Cast", ["f"], ["c"], to=kind),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    model = network(nodes, {"factor": np.float32(1e-3)})
    assert relative_tolerance(model) == pytest.approx(expected)
    assert (is_quantised(model), is_coarse(model)) == (False, kind == TensorProto.BFLOAT16)
    bundle = adopted(model, tmp_path, PHASE)
    assert bundle.selftest.tolerance == pytest.approx(expected, rel=1e-3)
    assert bundle.manifest.protocol == (4 if kind == TensorProto.BFLOAT16 else 3)


def rewritten(bundle: Bundle, path: Path, tolerance: float, protocol: int) -> Bundle:
    selftest = SelfTest(bundle.selftest.diffraction, bundle.selftest.object, tolerance)
    manifest = bundle.manifest.model_copy(update={"protocol": protocol})
    return write_bundle(path, bundle.model, manifest, bundle.probe, selftest)


def test_the_wide_tolerance_is_for_coarse_graphs_of_protocol_4_only(tmp_path: Path) -> None:
    coarse = make_foreign_bundle(tmp_path / "coarse.onnx", N, quantised=True)
    plain = make_foreign_bundle(tmp_path / "plain.onnx", N)
    assert read_bundle(tmp_path / "coarse.onnx").selftest.tolerance == COARSE_TOLERANCE > 0.01
    assert rewritten(coarse, tmp_path / "a.onnx", TOLERANCE, 3).manifest.protocol == 3
    for bundle, tolerance, protocol, key in (
        (coarse, 0.02, 3, "ptyonnx.selftest"),  # protocol 3 stays as it was
        (coarse, 0.26, 4, "ptyonnx.selftest"),
        (plain, TOLERANCE, 4, "protocol"),
        (make_bundle(tmp_path / "own.onnx"), 0.02, 2, "ptyonnx.selftest"),
    ):
        with pytest.raises(BundleError) as raised:
            rewritten(bundle, tmp_path / "b.onnx", tolerance, protocol)
        assert raised.value.key == key
    assert not (tmp_path / "b.onnx").exists()


def test_the_sample_of_protocol_4_moves_by_a_step_and_no_more() -> None:
    values = np.random.default_rng(1).gamma(2.0, 5.0, (2, 1, N, N)).astype(np.float32)
    rounded, exact = (run_model(foreign_model(N, quantised=quantised), values) for quantised in (True, False))
    assert 0 < np.abs(rounded - exact).max() <= COARSE_TOLERANCE / 4 * 1.001  # half a step of pi / 127
