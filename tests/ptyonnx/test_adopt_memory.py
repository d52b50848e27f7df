"""A foreign graph that needs gigabytes is refused before it is run, and one that needs little memory is accepted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from refusal import refused

from ptyonnx.cli import main
from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.memory import check_memory

ALL = (
    "--system", "x", "--values", "intensity", "--limit", "none", "--transform", "none", "--zero-frequency", "centre",
    "--scale", "factor=1", "--mean-photons", "unknown", "--phase", "y",
)  # fmt: skip
MiB = 2**20
Nodes = list[onnx.NodeProto]
Weights = dict[str, np.ndarray]


def network(nodes: Nodes, weights: Weights, batch: int | str = "b", opset: int = 17, N: int = 64) -> onnx.ModelProto:
    """Something is computed from `x`; a number from its result `z` is added to `x`."""
    most = helper.make_node("ReduceMax", ["z"], ["most"], keepdims=0)
    last = helper.make_node("Add", ["x", "most"], ["y"])
    shape = [batch, 1, N, N]
    graph = helper.make_graph(
        [*nodes, most, last], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


SCALAR: Weights = {"zero": np.zeros((), np.float32)}
BOMBS: dict[str, tuple[Nodes, Weights]] = {
    "Expand": ([node("Expand", "x shape", "z")], {"shape": ints(1, 2**16, 64, 64)}),
    "ConstantOfShape": ([node("ConstantOfShape", "shape", "z")], {"shape": ints(2**14, 2**14)}),
    "Tile": ([node("Tile", "x times", "z")], {"times": ints(1, 2**10, 2**3, 2**3)}),
    "Resize": (
        [helper.make_node("Resize", ["x", "", "scales"], ["z"])], {"scales": np.array([1, 1, 200, 200], np.float32)},
    ),
    "Pad": ([node("Pad", "x pads", "z")], {"pads": ints(0, 2**15, 0, 0, 0, 2**15, 0, 0)}),
    "Range": (
        [node("Range", "zero many one", "z")],
        {**SCALAR, "many": np.array(2**28, np.float32), "one": np.ones((), np.float32)},
    ),
    "OneHot": (
        [node("Cast", "x", "i", to=TensorProto.INT64), node("OneHot", "i depth values", "z")],
        {"depth": ints(2**17), "values": np.zeros(2, np.float32)},
    ),
    "an outer product": (
        [node("Reshape", "x column", "c"), node("Reshape", "x row", "r"), node("MatMul", "c r", "p"),
         node("Unsqueeze", "p axes", "q"), node("Add", "q more", "z")],
        {"column": ints(-1, 1), "row": ints(1, -1), "axes": ints(0), "more": np.zeros((64, 1, 1), np.float32)},
    ),
    "a convolution with much around it": (
        [node("Conv", "x w", "z", pads=[10**4] * 4)], {"w": np.zeros((1, 1, 3, 3), np.float32)},
    ),
    "the workspace of a transposed convolution": (
        [node("ConvTranspose", "x w", "z")], {"w": np.zeros((1, 32, 40, 40), np.float32)},
    ),
    "a shape that is computed": (
        [node("Mul", "half half", "full"), node("Shape", "x", "s"), node("Gather", "s first", "n"),
         node("Concat", "n full full", "shape", axis=0), node("ConstantOfShape", "shape", "z")],
        {"half": ints(2**7), "first": ints(3)},
    ),
    "a shape that depends on the patterns": (
        [node("ReduceMax", "x", "m", keepdims=0), node("Mul", "m large", "l"), node("Cast", "l", "i", to=TensorProto.INT64),
         node("Reshape", "i one", "shape"), node("Expand", "zero shape", "z")],
        {**SCALAR, "large": np.array(1e9, np.float32), "one": ints(1)},
    ),
    "many at a time": (
        [*(node("Expand", "x shape", f"z{index}") for index in range(60)),
         node("Sum", " ".join(f"z{index}" for index in range(60)), "z")],
        {"shape": ints(1, 2**10, 64, 64)},
    ),
    "many constants, which are kept when the graph is opened": (
        [*(part for index in range(60) for part in (
            node("Expand", "zero shape", f"e{index}"), node("Mul", f"e{index} {'x' if not index else f'm{index - 1}'}", f"f{index}"),
            node("ReduceMax", f"f{index}", f"m{index}", keepdims=0))),
         node("Identity", "m59", "z")],
        {**SCALAR, "shape": ints(2**10, 1, 64, 64)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_graph_that_would_take_gigabytes_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(network(*BOMBS[name]), path)
    assert path.stat().st_size < MiB
    line = refused(capsys, tmp_path, "adopt", path, "-o", tmp_path / "b.onnx", *ALL)
    assert line.startswith(str(path))
    assert ("expected at most " in line) != ("depends" in name)
    assert ("expected sizes that follow" in line) == ("depends" in name)


def test_memory_stays_small_while_a_bomb_is_refused(tmp_path: Path) -> None:
    """The memory is that of a separate process, as the system counts it."""
    code = """
import re, sys
from pathlib import Path
import onnx.reference, onnxruntime, ptyonnx.exchange.adopting, ptyonnx_converters.from_onnx
from ptyonnx.cli import main
peak = lambda: int(re.search("VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
code = main(sys.argv[1:])
print("grown", peak() - before, "code", code)
"""
    for name in ("ConstantOfShape", "Tile", "many at a time"):
        onnx.save(network(*BOMBS[name]), tmp_path / "m.onnx")
        words = ["adopt", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "b.onnx"), *ALL]
        outcome = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, timeout=120
        )
        _, grown, _, status = outcome.stdout.splitlines()[-1].split()
        assert (status, int(grown) < 64 * 1024) == ("2", True), outcome.stdout  # kB


def test_a_file_that_fixes_a_huge_batch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network([node("Relu", "x", "z")], {}, batch=2**40), tmp_path / "m.onnx")
    line = refused(capsys, tmp_path, "adopt", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", *ALL)
    assert "'the input': " in line
    assert line.endswith("; export the network with a smaller batch")


def test_an_input_that_nothing_needs_is_not_fed_with_gigabytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network([node("Relu", "x", "z")], {})
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [2**20, 2**20]))
    onnx.save(model, tmp_path / "m.onnx")
    line = refused(capsys, tmp_path, "adopt", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", *ALL)
    assert "'the input': " in line


FREE: dict[str, tuple[Nodes, Weights]] = {
    "values that are used and gone": (
        [*(part for index in range(60) for part in (
            node("Expand", f"{'x' if not index else f'm{index - 1}'} shape", f"e{index}"),
            node("ReduceMax", f"e{index}", f"m{index}", axes=[1]))),
         node("Identity", "m59", "z")],
        {"shape": ints(1, 2**10, 1, 1)},
    ),
    "shapes as exporters compute them": (
        [node("Shape", "x", "s"), node("Gather", "s zero", "b"), node("Gather", "s three", "w"), node("Div", "w two", "h"),
         node("Unsqueeze", "b axes", "b1"), node("Unsqueeze", "h axes", "h1"),
         node("Concat", "b1 h1 rest", "shape", axis=0), node("Reshape", "x shape", "r"), node("ConstantOfShape", "axes1", "ones"),
         node("NonZero", "ones", "places"), node("Expand", "r shape", "z")],
        {"zero": np.array(0), "three": np.array(3), "two": np.array(2), "axes": ints(0), "axes1": ints(3), "rest": ints(128)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_what_takes_little_is_not_refused(name: str) -> None:
    nodes, weights = FREE[name]
    check_memory(network(nodes, weights), {"x": (1, 1, 64, 64)}, 64, 1, None)


def test_the_bound_is_as_stated() -> None:
    """The limit is 512 MiB per pattern; inputs and outputs of a node count together."""

    def taken(megabytes: int) -> Callable[[], None]:
        model = network([node("Expand", "x shape", "z")], {"shape": ints(1, 64 * megabytes, 64, 64)})
        return lambda: check_memory(model, {"x": (1, 1, 64, 64)}, 64, 1, "f")

    taken(511)()
    with pytest.raises(ConversionError, match=r"'z': .* MiB for 1 pattern\(s\), expected at most 512"):
        taken(512)()


@pytest.mark.parametrize("N", [64, 256, 512, 1024])
def test_a_large_network_of_the_field_fits(N: int) -> None:
    """A U-Net of 64 channels, which keeps 64 of them at full size for its decoder."""
    widths, weights = (1, 64, 128, 256, 512), {"twice": np.array([1, 1, 2, 2], np.float32)}
    nodes, value = [], "x"
    for level, (few, many) in enumerate(pairwise(widths)):
        weights[f"d{level}"] = np.zeros((many, few, 1, 1), np.float32)
        nodes += [node("Conv", f"{value} d{level}", f"c{level}"), node("Relu", f"c{level}", f"r{level}"),
                  node("MaxPool", f"r{level}", f"p{level}", kernel_shape=[2, 2], strides=[2, 2])]  # fmt: skip
        value = f"p{level}"
    for level, (many, few) in zip((3, 2, 1, 0), ((512, 256), (256, 128), (128, 64), (64, 64)), strict=True):
        weights[f"u{level}"] = np.zeros((few, 2 * many, 1, 1), np.float32)
        nodes += [helper.make_node("Resize", [value, "", "twice"], [f"w{level}"]),
                  node("Concat", f"w{level} r{level}", f"k{level}", axis=1),
                  node("Conv", f"k{level} u{level}", f"v{level}")]  # fmt: skip
        value = f"v{level}"
    nodes.append(node("Identity", value, "z"))
    check_memory(network(nodes, weights, N=N), {"x": (1, 1, N, N)}, N, 1, None)


def test_a_declared_size_is_not_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file says that the value has one element."""
    nodes, weights = BOMBS["a shape that depends on the patterns"]
    model = network(nodes, weights)
    model.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / "m.onnx")
    line = refused(capsys, tmp_path, "adopt", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", *ALL)
    assert "(Expand)" in line


@pytest.mark.parametrize(
    "kind, shape, code",
    [
        (TensorProto.FLOAT, [0, 4], 0),
        (TensorProto.BOOL, ["", 3], 0),
        (TensorProto.FLOAT, [-3], 2),
        (TensorProto.STRING, [2], 2),
        (None, [2], 2),
    ],
)
def test_an_input_that_nothing_needs_is_fed_or_refused(
    *, kind: int | None, shape: list[int | str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network([node("Relu", "x", "z")], {})
    del model.graph.node[:]
    model.graph.node.append(node("Relu", "x", "y"))
    model.graph.input.append(
        helper.make_tensor_sequence_value_info("other", TensorProto.FLOAT, shape)
        if kind is None
        else helper.make_tensor_value_info("other", kind, shape)
    )
    onnx.save(model, tmp_path / "m.onnx")
    words = ("adopt", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", *ALL)
    if code:
        assert "'other': " in refused(capsys, tmp_path, *words)
    else:
        assert main([str(word) for word in words]) == 0


def test_a_batch_below_zero_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network([node("Relu", "x", "z")], {}, batch=-3), tmp_path / "m.onnx")
    line = refused(capsys, tmp_path, "adopt", tmp_path / "m.onnx", "-o", tmp_path / "b.onnx", *ALL)
    assert "'x': " in line
    assert "found (-3, 1, 64, 64)" in line
