"""Where a process cannot be confined, as on Windows, an untrusted graph opens in this one, with a warning."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from onnx import TensorProto, helper

from ptyonnx_bundles.confinement import Confinement
from ptyonnx_converters import onnxruntime_session


def model(operator: str) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", values[:1], values[1:])
    content: bytes = helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    return content


@pytest.mark.parametrize("confines", [True, False])
def test_a_foreign_graph_opens_everywhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, confines: bool
) -> None:
    monkeypatch.setattr(onnxruntime_session, "_CAN_CONFINE", confines)
    with (
        caplog.at_level(logging.WARNING),
        onnxruntime_session.open_confined(model("Neg"), "net.onnx", Confinement(), optimize=False) as graph,
    ):
        (found,) = graph.run(["y"], {"x": np.float32([1, 2])})
        np.testing.assert_array_equal(found, [-1, -2])
        assert graph.about["inputs"] == [["x", "tensor(float)", [2]]]
    assert bool(caplog.messages) is not confines
    with pytest.raises(RuntimeError):
        onnxruntime_session.open_confined(model("NoSuchOperator"), "net.onnx", Confinement())
