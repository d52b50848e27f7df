"""Every value of a graph: checked against the onnx package's own reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from bundle_factory import make_bundle
from float32_bounds import of_network
from onnx.reference import ReferenceEvaluator

from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_runtime.inference.activations import value_names, with_every_value
from ptyonnx_runtime.inference.session import Session

pytestmark = pytest.mark.numerical
RECIPE = Recipe(N=32, gridsize=2, filters_scale=0.0625, depth=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("activations") / "bundle.onnx", RECIPE)


def test_every_operator_has_one_value_of_its_name_in_order(bundle: Bundle) -> None:
    names = tuple(node.name for node in RECIPE.nodes())
    assert value_names(bundle.graph) == names
    assert tuple(Session(bundle, threads=1).activations(bundle.selftest.diffraction)) == names


def test_protobuf_merges_what_was_appended(bundle: Bundle) -> None:
    """Read by the onnx package: the same graph, with more outputs."""
    before, after = onnx.ModelProto(), onnx.ModelProto()
    before.ParseFromString(bundle.model)
    after.ParseFromString(with_every_value(bundle.model, bundle.graph))
    assert after.graph.node == before.graph.node
    assert after.graph.initializer == before.graph.initializer
    assert {value.name for value in after.graph.output} == {node.name for node in RECIPE.nodes()}
    assert len(after.graph.output) == len(RECIPE.nodes())


def test_values_are_those_of_the_reference_implementation(bundle: Bundle) -> None:
    model = onnx.ModelProto()
    model.ParseFromString(with_every_value(bundle.model, bundle.graph))
    names = [value.name for value in model.graph.output]
    expected = dict(
        zip(names, ReferenceEvaluator(model).run(None, {"diffraction": bundle.selftest.diffraction}), strict=True)
    )
    found = Session(bundle, threads=1).activations(bundle.selftest.diffraction)
    assert found.keys() == expected.keys()
    _, allowed = of_network(RECIPE, bundle.weights, bundle.selftest.diffraction)
    for name, value in found.items():
        assert value.dtype == np.float32
        # The reference computes in float32, too: each may err as far.
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=2 * allowed[name], err_msg=name)


def test_the_last_value_is_what_the_session_computes(bundle: Bundle, tmp_path: Path) -> None:
    recipe = Recipe(N=32, filters_scale=0.0625)
    one = make_bundle(tmp_path / "one.onnx", recipe)
    session = Session(one, threads=1)
    diffraction = bundle.selftest.diffraction[:, :1]
    last = session.activations(diffraction)["object"].view(np.complex64)[..., 0]
    _, allowed = of_network(recipe, one.weights, diffraction)
    np.testing.assert_allclose(last, session.run(diffraction), rtol=0, atol=2 * allowed["object"])
