"""Files with names that are not UTF-8, and networks exported in training mode, are refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from adopting import PLAIN, adopted
from foreign_networks import ptychonn
from onnx import TensorProto, helper, numpy_helper

from ptyonnx.exchange.adopting import adopt
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.declaration import Declaration, Source

PHASE = Declaration(**{**vars(PLAIN), "phase": Source("y", None)})


def worded() -> bytes:
    """A model with text in every field that may contain text."""
    model = ptychonn()
    model.domain, model.doc_string = "some domain", "some words"
    model.metadata_props.add(key="some key", value="some value")
    model.graph.node[0].name, model.graph.node[0].doc_string = "first node", "node words"
    model.graph.value_info.append(helper.make_tensor_value_info("some value", TensorProto.FLOAT, ["some axis", 3]))
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    batch.dim_param = "some batch"
    content: bytes = model.SerializeToString()
    return content


WORDS = (
    b"input.1", b"94", b"e.w", b"first node", b"node words", b"Conv", b"Relu", b"kernel_shape", b"nearest", b"asymmetric",
    b"torch-jit-export", b"pytorch", b"some domain", b"some words", b"some key", b"some value", b"some axis", b"some batch",
)  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_text_that_is_not_utf8_is_refused_wherever_it_stands(
    word: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for damaged in (b"\xff" + word[1:], word[:-1] + b"\xe2"):
        (tmp_path / "m.onnx").write_bytes(worded().replace(word, damaged))
        with pytest.raises(ConversionError) as raised:
            adopt(tmp_path / "m.onnx", tmp_path / "b.onnx", PLAIN)
        assert "\n" not in str(raised.value)
        assert raised.value.file is not None
        assert capfd.readouterr() == ("", "")  # onnxruntime prints what it falls back from
    assert not (tmp_path / "b.onnx").exists()


def normalised(opset: int, *, training: bool, operator: str = "BatchNormalization") -> onnx.ModelProto:
    arrays = {name: np.full(1, 0.5, np.float32) for name in ("scale", "bias", "mean", "variance")}
    arrays |= {"ratio": np.array(0.5, np.float32), "flag": np.array(training)}
    if operator == "Dropout":
        node = helper.make_node(operator, ["x", "ratio", "flag"], ["y"])
    else:
        outputs = ["y", "m", "v"] if training else ["y"]
        outputs += ["s", "t"] if training and opset < 14 else []
        said = {"training_mode": int(training)} if opset >= 14 else {}
        node = helper.make_node(operator, ["x", "scale", "bias", "mean", "variance"], outputs, **said)
    shape = ["b", 1, 32, 32]
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in node.input],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    "opset, operator",
    [(9, "BatchNormalization"), (13, "BatchNormalization"), (15, "BatchNormalization"), (13, "Dropout")],
)
def test_a_network_in_training_is_refused_with_the_advice_to_evaluate(
    opset: int, operator: str, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError) as raised:
        adopted(normalised(opset, training=True, operator=operator), tmp_path, PHASE)
    assert "model.eval()" in str(raised.value.remedy)
    adopted(normalised(opset, training=False, operator=operator), tmp_path, PHASE)


def test_statistics_of_the_batch_that_are_written_out_get_the_same_advice(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0, 2, 3], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    shape = ["b", 1, 32, 32]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])
    with pytest.raises(ConversionError) as raised:
        adopted(model, tmp_path, PHASE)
    assert raised.value.key == "batch"
    assert "model.eval()" in str(raised.value.remedy)
