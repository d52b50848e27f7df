"""Valid foreign bundles that harm what runs them: they crash, take memory behind the arena's back, or never end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from foreign_factory import make_foreign_bundle
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles import FOREIGN, Bundle, digests, write_bundle

KINDS = ("crash", "memory", "endless")

_DISTINCT = 12_000_000  # numbers, 96 MB in the arena, and many times that in the tree that Unique builds
_WIDTH = 4096  # of matrices whose product takes seconds
_PRODUCTS = 200


def hostile_bundle(path: Path, kind: str, N: int = 64) -> Bundle:
    """A bundle that passes every check of the reader, and is hostile once it runs.

    Parameters
    ----------
    path : Path
        The file to write.
    kind : str
        One of :data:`KINDS`.
    N : int
    """
    plain = make_foreign_bundle(path, N)
    content = hostile_model(plain.model, kind)
    manifest = plain.manifest.model_copy(update={"digests": digests(content, FOREIGN)})
    return write_bundle(path, content, manifest, plain.probe, plain.selftest)


def hostile_model(model: bytes, kind: str) -> bytes:
    """The same network, with something hostile added to its input."""
    harmed = onnx.load_model_from_string(model)
    graph = harmed.graph
    nodes, arrays = {"crash": _crash, "memory": _memory, "endless": _endless}[kind]()
    given = graph.input[0].name
    for node in nodes:
        node.name = node.output[0]
        node.input[:] = [given if name == "diffraction" else name for name in node.input]
    for node in graph.node:
        node.input[:] = ["harmed" if name == given else name for name in node.input]
    nodes += [helper.make_node("Add", [given, "harm"], ["harmed"], "harmed")]
    kept = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.checker.check_model(harmed, full_check=True)
    content: bytes = harmed.SerializeToString()
    return content


_Part = tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]


def _crash() -> _Part:
    """The smallest int64 divided by -1, which processors of PCs answer with an exception."""
    least = np.array(np.iinfo(np.int64).min, np.int64)
    nodes = [
        helper.make_node("Cast", ["diffraction"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sub", ["whole", "whole"], ["none"]),
        helper.make_node("Add", ["none", "least"], ["smallest"]),
        helper.make_node("Div", ["smallest", "minus"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "tiny"], ["harm"]),
    ]
    return nodes, {"least": least, "minus": np.array(-1, np.int64), "tiny": np.array(1e-30, np.float32)}


def _memory() -> _Part:
    nodes = [
        helper.make_node("Range", ["from", "to", "step"], ["numbers"]),
        helper.make_node("Unique", ["numbers"], ["distinct"]),
        helper.make_node("ReduceMax", ["distinct"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "tiny"], ["harm"]),
    ]
    numbers = {name: np.array(value, np.int64) for name, value in (("from", 0), ("to", _DISTINCT), ("step", 1))}
    return nodes, {**numbers, "tiny": np.array(1e-30, np.float32)}


def _endless() -> _Part:
    nodes = [
        helper.make_node("ReduceMax", ["diffraction"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "tiny"], ["number"]),
        helper.make_node("Expand", ["number", "square"], ["product0"]),
    ]
    nodes += [
        helper.make_node("MatMul", [f"product{index}", "product0"], [f"product{index + 1}"])
        for index in range(_PRODUCTS)
    ]
    nodes.append(helper.make_node("ReduceMax", [f"product{_PRODUCTS}"], ["harm"], keepdims=0))
    return nodes, {"tiny": np.array(1e-30, np.float32), "square": np.array([_WIDTH, _WIDTH], np.int64)}
