"""Digests agree with a second implementation of the specification, with the onnx package and hashlib."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundle_factory import canonical_model, example_weights
from hostile import SAMPLE
from onnx import TensorProto, helper, numpy_helper

from ptyonnx_bundles import IR_VERSION, OPSET, Recipe, digests, graph_digest, read_bundle, read_onnx, weight_digest

SPECIFICATION = (Path(__file__).parents[2] / "bundles" / "README.md").read_text(encoding="utf-8")


def specified(marker: str) -> str:
    """Give the digest that the specification states after some text."""
    found = re.search(r"SHA-256  ([0-9a-f]{64})", SPECIFICATION[SPECIFICATION.index(marker) :])
    assert found
    return found[1]


def test_the_worked_example_of_weights() -> None:
    stream = b'["a","int64",[]]' + b"\xff" * 8 + b'["b","float32",[1,2]]' + bytes.fromhex("0000803f 00000040")
    digest = specified('["a","int64",[]]')
    assert hashlib.sha256(stream).hexdigest() == digest
    assert weight_digest({"b": np.array([[1, 2]], np.float32), "a": np.array(-1, np.int64)}) == digest


def test_the_worked_example_of_a_graph() -> None:
    text = next(line for line in SPECIFICATION.splitlines() if line.startswith('{"opset":18'))
    digest = specified(text)
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="y")], "any", [x], [y])
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    assert graph_digest(read_onnx(model.SerializeToString())) == digest


def independent_digests(model: onnx.ModelProto) -> tuple[str, str, str]:
    """Digests of weights, graph and metadata as the specification says, without ptyonnx."""

    def compact(value: object) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()

    def of_value(attribute: onnx.AttributeProto) -> object:
        value = helper.get_attribute_value(attribute)
        return value.decode() if isinstance(value, bytes) else value if isinstance(value, float | int) else list(value)

    def interface(values: list[onnx.ValueInfoProto]) -> list[object]:
        return [[v.name, "float32", [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]] for v in values]

    weights, described = hashlib.sha256(), []
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name.encode()):
        array = numpy_helper.to_array(tensor)
        described.append([tensor.name, str(array.dtype), list(tensor.dims)])
        weights.update(compact(described[-1]) + tensor.raw_data)
    graph = {
        "opset": model.opset_import[0].version,
        "nodes": [
            [n.name, n.op_type, list(n.input), list(n.output), sorted([a.name, of_value(a)] for a in n.attribute)]
            for n in model.graph.node
        ],
        "inputs": interface(model.graph.input),
        "outputs": interface(model.graph.output),
        "initializers": described,
    }
    texts = {item.key: item.value.encode() for item in model.metadata_props}
    said = b"\n".join(texts[f"ptyonnx.{part}"] for part in ("manifest", "probe", "selftest"))
    return weights.hexdigest(), hashlib.sha256(compact(graph)).hexdigest(), hashlib.sha256(said).hexdigest()


def test_all_digests_of_the_sample_computed_independently() -> None:
    model = onnx.load_model(SAMPLE)
    stated = json.loads(next(item.value for item in model.metadata_props if item.key == "ptyonnx.manifest"))["digests"]
    of_text = next(item.value for item in model.metadata_props if item.key == "ptyonnx.digest")
    assert independent_digests(model) == (stated["weights"], stated["graph"], of_text)


@pytest.mark.parametrize(
    "protocol, weights, graph",
    [
        (
            1,
            "4c1d1ae0ec6e6b8af9e37e9b6340678d9b2690e70f883ac960faecfccfd67599",
            "397335882cf92f20f544e3a04b7affb6b72a56295b301a2943ae73cd73183943",
        ),
        (
            2,
            "776454c6cbb812965100e8daa78214b37032d99529bee0900a4dabe5dfbc6d5b",
            "3d3834de937fed020ee91099e3760e78e35e72a01fdbe86ae5282d952e3b5aca",
        ),
        (
            3,
            "2299275337a8187685fb499962c00aa776aaa1cc1bf03847064c59438c9a327f",
            "f836c4fd46b85b2f9383d6191eac7c079d4267b2b9b354cd0c4cdd84ef2af522",
        ),
    ],
)
def test_digests_of_the_samples_never_change(protocol: int, weights: str, graph: str) -> None:
    stated = read_bundle(SAMPLE.with_name(f"protocol-{protocol}.onnx")).manifest.digests
    assert (stated.weights, stated.graph) == (weights, graph)


RECIPE = Recipe(N=32, filters_scale=0.05)


@pytest.mark.parametrize("name", ["encoder.0.conv.0.bias", "whitening.mean", "whitening.scale"])
def test_the_last_bit_of_any_weight_changes_the_weight_digest_alone(name: str) -> None:
    weights = example_weights(RECIPE)
    before = digests(canonical_model(RECIPE, weights))
    weights[name] = np.nextafter(weights[name], np.float32(10))
    after = digests(canonical_model(RECIPE, weights))
    assert before.weights != after.weights
    assert before.graph == after.graph


def test_zeros_of_both_signs_differ() -> None:
    assert weight_digest({"a": np.float32([0.0])}) != weight_digest({"a": np.float32([-0.0])})


def test_neither_memory_layout_nor_order_matters() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    other = np.float32([5])
    digest = weight_digest({"a": array, "b": other})
    assert weight_digest({"b": other, "a": np.asfortranarray(array)}) == digest
    assert weight_digest({"b": other.astype(">f4"), "a": array}) == digest
    assert weight_digest({"b": other, "a": array.reshape(4, 3)}) != digest


def test_what_means_nothing_is_not_in_the_digests() -> None:
    model = onnx.load_model_from_string(canonical_model(RECIPE, example_weights(RECIPE)))
    before = digests(model.SerializeToString())
    model.producer_name, model.graph.name, model.graph.doc_string = "somebody", "else", "described"
    model.graph.node[3].metadata_props.add(key="where", value="there")
    helper.set_model_props(model, {"other": "note"})
    assert digests(model.SerializeToString()) == before


def test_graph_digests_of_different_recipes_differ() -> None:
    recipes = [
        Recipe(N=32, filters_scale=0.05),
        Recipe(N=64, filters_scale=0.05),
        Recipe(N=32, filters_scale=0.1),
        Recipe(N=32, filters_scale=0.05, gridsize=2),
        Recipe(N=32, filters_scale=0.05, depth=2),
    ]
    found = {digests(canonical_model(recipe, example_weights(recipe))).graph for recipe in recipes}
    assert len(found) == len(recipes)
