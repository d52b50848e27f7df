"""The contract of every converter, and the agreement between converters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from ptyonnx_bundles import Recipe, digests, read_onnx
from ptyonnx_bundles.errors import ConversionError, MissingDependencyError
from ptyonnx_converters import exporters
from ptyonnx_converters.selftest import TOLERANCE, make_selftest

Converted = Callable[[str, Any], bytes]
WHITENED = {"whitening.mean": np.zeros((32, 32), np.float32), "whitening.scale": np.ones((), np.float32)}


def patterns(recipe: Any, count: int = 2) -> np.ndarray:
    shape = (count, recipe.channels, recipe.N, recipe.N)
    return np.random.default_rng(13).random(shape, np.float32) * np.float32(3)


def run(model: bytes, diffraction: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["object"], {"diffraction": diffraction})[0]
    return result


class TestConverter:
    """The contract: a converter for another framework is added to `FRAMEWORKS` and must pass all of it."""

    def test_the_graph_is_exactly_the_recipes(self, framework: Any, case: Any, converted: Converted) -> None:
        found = read_onnx(converted(framework.name, case))
        assert [(node.name, node.operator, node.inputs, node.outputs, node.attributes) for node in found.nodes] == [
            (node.name, node.operator, node.inputs, (node.name,), dict(node.attributes)) for node in case.recipe.nodes()
        ]

    def test_every_weight_is_there_bit_for_bit(self, framework: Any, case: Any, converted: Converted) -> None:
        found = read_onnx(converted(framework.name, case)).initializers
        weights, constants = case.weights, case.recipe.graph_constants()
        assert set(found) == {*weights, *constants}
        for name, array in {**weights, **constants}.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert found[name].tobytes() == array.tobytes()

    def test_input_and_output_are_those_of_the_format(self, framework: Any, case: Any, converted: Converted) -> None:
        found = read_onnx(converted(framework.name, case))
        C, N = case.gridsize**2, case.N
        assert [(value.name, value.dtype, value.shape) for value in found.inputs] == [
            ("diffraction", "float32", ("batch", C, N, N))
        ]
        assert [(value.name, value.dtype, value.shape) for value in found.outputs] == [
            ("object", "float32", ("batch", C, N, N, 2))
        ]

    def test_the_checker_of_onnx_passes(self, framework: Any, case: Any, converted: Converted) -> None:
        model = onnx.load_from_string(converted(framework.name, case))
        onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
        assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (10, [("", 18)])

    def test_nothing_is_said_about_where_it_comes_from(self, framework: Any, small: Any, converted: Converted) -> None:
        model = onnx.load_from_string(converted(framework.name, small))
        assert (model.producer_name, model.producer_version, model.doc_string) == ("ptyonnx", "", "")
        assert not model.metadata_props
        assert not model.graph.value_info
        for part in (*model.graph.node, *model.graph.initializer):
            assert not part.doc_string
            assert not part.metadata_props
        assert all(tensor.HasField("raw_data") for tensor in model.graph.initializer)

    def test_onnxruntime_computes_what_the_network_computes(
        self, framework: Any, case: Any, converted: Converted
    ) -> None:
        network, diffraction = framework.network(case.recipe, case.weights), patterns(case.recipe)
        kept = make_selftest(
            lambda batch: framework.predict(network, batch), converted(framework.name, case), diffraction
        )
        assert kept.tolerance == TOLERANCE
        assert kept.diffraction is diffraction
        assert kept.object.dtype == np.complex64
        assert kept.object.shape == diffraction.shape
        assert kept.object.std() > 1e-3

    def test_the_batch_is_free(self, framework: Any, small: Any, converted: Converted) -> None:
        model, diffraction = converted(framework.name, small), patterns(small.recipe, 5)
        together = run(model, diffraction)
        one_by_one = np.concatenate([run(model, diffraction[index : index + 1]) for index in range(5)])
        assert together.tobytes() == one_by_one.tobytes()

    def test_converting_again_gives_the_same_file(self, framework: Any, small: Any, converted: Converted) -> None:
        network = framework.network(small.recipe, small.weights)
        assert framework.convert(network, small.recipe) == converted(framework.name, small)

    def test_exporting_writes_no_file_and_says_nothing(
        self,
        *,
        framework: Any,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        recipe = Recipe(N=32, filters_scale=0.1)
        network = framework.network(recipe, WHITENED | recipe.initial_weights(0))
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        with caplog.at_level(logging.INFO):
            framework.convert(network, recipe)
        assert not list(tmp_path.iterdir())
        assert capsys.readouterr() == ("", "")
        assert not caplog.records

    def test_a_network_of_another_recipe_is_refused(self, framework: Any, small: Any) -> None:
        deeper = small.recipe.model_copy(update={"depth": 2})
        with pytest.raises(ConversionError):
            framework.convert(framework.network(small.recipe, small.weights), deeper)

    def test_a_network_that_reports_other_weights_is_refused(self, framework: Any, small: Any) -> None:
        network = framework.network(small.recipe, small.weights)
        other = network.weights_by_name()
        other["decoder.phase.0.conv.1.bias"][3] += 1
        network.weights_by_name = lambda: other
        with pytest.raises(ConversionError) as refusal:
            framework.convert(network, small.recipe)
        assert "decoder.phase.0.conv.1.bias" in str(refusal.value.expected)

    @pytest.mark.parametrize("missing", ["onnx", "onnxscript or tf2onnx"])
    def test_a_missing_exporter_is_named_with_its_remedy(
        self, framework: Any, small: Any, missing: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extra, own = {"pytorch": ("torch", "onnxscript"), "tensorflow": ("tensorflow", "tf2onnx")}[framework.name]
        package = missing if missing == "onnx" else own
        real = exporters.find_spec
        monkeypatch.setattr(exporters, "find_spec", lambda name: None if name == package else real(name))
        with pytest.raises(MissingDependencyError, match=package) as refusal:
            framework.convert(framework.network(small.recipe, small.weights), small.recipe)
        assert refusal.value.remedy == f"pip install 'ptyonnx[{extra}]'"


class TestPair:
    def test_both_frameworks_give_one_function(self, case: Any, converted: Converted) -> None:
        from_torch, from_tensorflow = (converted(name, case) for name in ("pytorch", "tensorflow"))
        assert digests(from_torch).graph == digests(from_tensorflow).graph
        assert digests(from_torch).weights == digests(from_tensorflow).weights
        diffraction = patterns(case.recipe)
        assert run(from_torch, diffraction).tobytes() == run(from_tensorflow, diffraction).tobytes()

    def test_both_frameworks_give_one_file(self, case: Any, converted: Converted) -> None:
        assert converted("pytorch", case) == converted("tensorflow", case)

    def test_other_weights_are_another_function_on_the_same_graph(self, small: Any, converted: Converted) -> None:
        other = digests(converted("tensorflow", small._replace(kind="shared")))
        one = digests(converted("tensorflow", small))
        assert one.graph == other.graph
        assert one.weights != other.weights
