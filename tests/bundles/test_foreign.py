"""Foreign bundles (protocol 3): written and read back, their published schema, and their separation from native ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from bundle_factory import canonical_model, example_weights, make_bundle
from foreign_factory import foreign_model, make_foreign_bundle
from hostile import FOREIGN_SAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import ptyonnx_bundles
from ptyonnx_bundles import (
    FOREIGN,
    FOREIGN_OPERATORS,
    ForeignManifest,
    Manifest,
    Recipe,
    digests,
    parse_manifest,
    read_bundle,
    read_onnx,
    schema,
)
from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.manifest import generate_schema

README = Path(__file__).parents[2] / "bundles" / "README.md"
SAMPLE_TEXT = read_bundle(FOREIGN_SAMPLE).graph.metadata["ptyonnx.manifest"]
VALIDATOR = jsonschema.Draft202012Validator(schema(3), format_checker=jsonschema.FormatChecker())
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=6,
)
REFUSED_OPERATORS = {
    *("If", "Loop", "Scan", "SequenceMap"),  # control flow
    *("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
    *("SequenceLength", "SplitToSequence", "Optional", "OptionalGetElement", "OptionalHasElement"),
    *("StringNormalizer", "TfIdfVectorizer"),  # text
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    "Constant",
}


def test_the_allowed_operators_are_those_of_opset_18_less_the_ones_that_are_refused_for_a_reason() -> None:
    newest: dict[str, onnx.defs.OpSchema] = {}
    for operator in onnx.defs.get_all_schemas_with_history():
        if operator.domain == "" and operator.since_version <= 18:
            before = newest.get(operator.name)
            if before is None or before.since_version < operator.since_version:
                newest[operator.name] = operator
    existing = {name for name, operator in newest.items() if not operator.deprecated}
    assert existing - FOREIGN_OPERATORS == REFUSED_OPERATORS
    assert not FOREIGN_OPERATORS - existing


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "f.onnx", 64, gridsize=2, mean_photons=1024.0)
    again = read_bundle(tmp_path / "f.onnx")
    assert isinstance(again.manifest, ForeignManifest)
    assert again.manifest == bundle.manifest
    assert again.is_foreign
    assert again.manifest.protocol == 3
    assert again.trained_with == "a test"
    assert again.manifest.recipe.channels == 4
    assert again.manifest.training_data is None
    assert "1.02e+03 photons per pattern, trained with a test" in repr(again)
    np.testing.assert_array_equal(again.selftest.object, bundle.selftest.object)


def test_what_is_unknown_stays_unknown(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "f.onnx", 64, probe=np.zeros((0, 64, 64), np.complex64))
    again = read_bundle(tmp_path / "f.onnx")
    assert again.probe.shape == (0, 64, 64)
    assert again.manifest.physics.mean_photons is None
    assert "0 probe mode(s), unknown photons per pattern" in repr(bundle)


def test_a_native_bundle_stays_protocol_2_and_gives_its_recipe(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "n.onnx")
    assert isinstance(bundle.manifest, Manifest)
    assert not bundle.is_foreign
    assert '"protocol":2' in bundle.graph.metadata["ptyonnx.manifest"]
    assert bundle.native_recipe("this") == bundle.manifest.recipe


def test_a_foreign_bundle_says_in_one_line_why_it_has_no_layers(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "f.onnx")
    with pytest.raises(BundleError) as raised:
        bundle.native_recipe("training on")
    assert (raised.value.key, raised.value.found) == ("recipe", "a test")
    assert "training on" in raised.value.problem


def test_a_graph_of_our_own_recipe_may_not_hide_behind_a_foreign_one_and_the_other_way_round(tmp_path: Path) -> None:
    recipe = Recipe(N=64, filters_scale=0.0625)
    model = canonical_model(recipe, example_weights(recipe))
    assert digests(model) == digests(model, FOREIGN)  # one definition for both protocols
    native = make_bundle(tmp_path / "n.onnx", recipe)
    values = json.loads(native.graph.metadata["ptyonnx.manifest"])
    values["recipe"] = json.loads(SAMPLE_TEXT)["recipe"]
    with pytest.raises(BundleError) as raised:
        parse_manifest(json.dumps(values))
    assert raised.value.key == "recipe.name"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (0,)])
def test_weights_of_every_allowed_type_are_decoded_as_onnx_decodes_them(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    model = onnx.load_model_from_string(foreign_model())
    model.graph.initializer.append(numpy_helper.from_array(array, "added"))
    found = read_onnx(model.SerializeToString(), limits=FOREIGN).initializers["added"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_a_graph_as_large_as_a_vision_transformer_is_read() -> None:
    model = onnx.load_model_from_string(foreign_model(64))
    first = model.graph.node[0]
    first.output[0] = "chain0"
    for index in range(3000):
        node = helper.make_node("Neg", [f"chain{index}"], [f"chain{index + 1}"], name=f"chain{index}")
        model.graph.node.insert(index + 1, node)
    model.graph.node[3001].input[0] = "chain3000"
    content = model.SerializeToString()
    assert len(read_onnx(content, limits=FOREIGN).nodes) == 3011
    with pytest.raises(BundleError) as raised:
        read_onnx(content)
    assert "1024 'node'" in raised.value.problem


def test_the_published_schema_is_current_and_the_sample_follows_it() -> None:
    assert json.loads(generate_schema(3)) == schema(3)
    jsonschema.Draft202012Validator.check_schema(schema(3))
    VALIDATOR.validate(json.loads(SAMPLE_TEXT))


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in members for place in [(*here, key), *_paths(inner, (*here, key))]]


@given(st.sampled_from(_paths(json.loads(SAMPLE_TEXT))), st.one_of(JSON, st.just("remove")))
@settings(max_examples=300, deadline=None)
def test_what_is_read_follows_the_schema(place: tuple[Any, ...], value: Any) -> None:
    """The reader is never laxer than the published schema."""
    manifest = json.loads(SAMPLE_TEXT)
    holder = manifest
    for key in place[:-1]:
        holder = holder[key]
    if value == "remove":
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    try:
        parse_manifest(json.dumps(manifest))
    except BundleError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are checked
        return
    VALIDATOR.validate(manifest)


def test_the_specification_names_the_fields_of_the_foreign_recipe_and_the_operators_that_are_refused() -> None:
    section = README.read_text(encoding="utf-8").split("### Recipe `foreign`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert rows == list(ptyonnx_bundles.ForeignRecipe.model_fields)
    for name in REFUSED_OPERATORS:
        assert name in section
