"""Files that cannot be adopted are refused in one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from adopting import REST
from bundle_factory import example_probe
from foreign_networks import ptychonn
from onnx import TensorProto, helper, numpy_helper
from refusal import refused


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
    assert "expected --zero-frequency centre|corner;" in line
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
    """Subtract the mean over the batch, so that every pattern depends on the others."""
    head = model.graph.node[-1]
    head.output[0] = "raw"
    mean = helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[0], keepdims=1)
    model.graph.node.extend([mean, helper.make_node("Sub", ["raw", "mean"], ["94"])])


def _fixed_reshape(model: onnx.ModelProto) -> None:
    """Split the batch into two axes, which no other number of patterns allows."""
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


# A change of the file, and what the line names: the key, what was found, or the operator.
REFUSED = {
    "external data": (_external, "'e.w': "),
    "control flow": (_control_flow, "(If)"),
    "unknown operator": (lambda m: setattr(m.graph.node[1], "op_type", "Evil"), "Evil"),
    "foreign operator": (lambda m: setattr(m.graph.node[1], "domain", "com.evil"), "'com.evil::Relu'"),
    "several inputs": (_second_input, "found input.1, positions"),
    "integer input": (_integer_input, "found int32, expected float"),
    "batch statistics": (_batch_norm_in_training, "'batch': "),
    "fixed batch": (_fixed_reshape, "found (8, 1, 64, 64) to (4, 2, 1, 64, 64)"),
    "random numbers": (_random, "RandomNormalLike"),
    "smaller patches": (_cropped, "found (8, 1, 32, 32)"),
    "nan": (_nan, "'e.b': "),
    "no such opset": (lambda m: setattr(m.opset_import[0], "version", 5), "found 5"),
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
    "words, key, details",
    [
        (("--phase", "93"), "--phase", "found 93, expected 94"),
        (("--phase", "94@1", "--amplitude", "one"), "--phase", "found 1 channel(s)"),
        (("--phase", "94@x"), "--phase", "found 94@x"),
        (("--phase", "94", "--real", "94"), "--amplitude, --phase, --real, --imaginary, --object", ""),
        (("--phase", "94", "--scale", "factor=-1"), "--scale", "found -1"),
        (("--phase", "94", "--scale", "norm=2"), "--scale", "'times'"),
        (("--phase", "94", "--scale", "double"), "--scale", "found double"),
        (("--phase", "94", "--limit", "saturate"), "--limit", "found saturate"),
        (("--phase", "94", "--values", "counts"), "--values", "found counts"),
        (("--phase", "94", "--zero-frequency", "left"), "--zero-frequency", "found left"),
        (("--phase", "94", "--mean-photons", "many"), "--mean-photons", "found many"),
        (("--phase", "94", "--input", "x"), "--input", "found x, expected input.1"),
        (("--phase", "94", "--gridsize", "2"), "--gridsize", "found 1, expected 4"),
        (("--phase", "94", "--size", "128"), "input.1", "found (8, 1, 64, 64)"),
    ],
)
def test_declarations_that_do_not_fit_are_refused_in_one_line(
    words: tuple[str, ...], key: str, details: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, ptychonn())
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", *ALL, *words)
    assert f"'{key}': " in line
    assert details in line


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"", "not an ONNX model"),
        (b"not a model", "not an ONNX model"),
        (b"\x08\x07", "not an ONNX model"),
        (b"PK\x03\x04" + b"\0" * 60, "not a complete ZIP archive"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(
    content: bytes, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.onnx").write_bytes(content)
    assert problem in refused(capsys, tmp_path, "adopt", tmp_path / "f.onnx", "-o", tmp_path / "b.onnx")
    assert "no such file" in refused(capsys, tmp_path, "adopt", tmp_path / "g.onnx", "-o", tmp_path / "b.onnx")
    assert "not a file" in refused(capsys, tmp_path, "adopt", tmp_path, "-o", tmp_path / "b.onnx")


def test_a_probe_of_another_size_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "p.npy", example_probe(32))
    path = save(tmp_path, ptychonn())
    words = ("adopt", path, "-o", tmp_path / "b.onnx", "--system", "ptychonn", "--probe", tmp_path / "p.npy", *REST)
    assert "'probe': " in refused(capsys, tmp_path, *words)
