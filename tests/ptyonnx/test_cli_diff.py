"""The text of `diff`: at most a screen, with the outcome on the last line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle
from numpy.typing import NDArray

from ptyonnx.cli import main
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_runtime.inference.session import Session

SCAN = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
ROWS, COLUMNS = 24, 100  # of a small terminal
RECIPE = Recipe(N=64, filters_scale=0.0625)

Output = pytest.CaptureFixture[str]
Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("a_folder_whose_name_is_so_long_that_no_line_has_room_for_it_and_for_the_rest")
    first, second = (make_bundle(folder / f"{seed}.onnx", RECIPE, seed=seed) for seed in (0, 1))
    return first, second


@pytest.fixture
def diff(capsys: Output) -> Run:
    """Run the command; its exit code, and the lines on stdout."""

    def run(*words: object) -> tuple[int, list[str]]:
        code = main(["diff", *map(str, words)])
        return code, capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("data", [("--data", SCAN), ()], ids=["scan", "self-tests"])
def test_different_functions_fit_a_screen_that_ends_with_the_outcome(
    bundles: tuple[Bundle, Bundle], data: tuple[object, ...], diff: Run
) -> None:
    paths = [bundle.path for bundle in bundles]
    code, lines = diff(*paths, *data)
    _, found = diff(*paths, *data, "--json")
    document = json.loads("\n".join(found))
    assert code == 1
    assert len(lines) <= ROWS
    assert max(map(len, lines)) <= COLUMNS
    assert lines[-1] == document["sentence"]
    assert lines[-2] == f"{document['question']} No."
    assert document["identity"]["sentence"].startswith("different functions")
    if data:
        assert f"{document['images']['image']['phase_correlation']:.3f}" in lines[-1]


def test_verbose_lists_every_array_and_layer_and_ends_alike(bundles: tuple[Bundle, Bundle], diff: Run) -> None:
    _, short = diff(*[bundle.path for bundle in bundles])
    _, full = diff(*[bundle.path for bundle in bundles], "--verbose")
    assert short[-2:] == full[-2:]
    named = {line.split()[0] for line in full if line}
    differing = {
        name for name, array in bundles[0].weights.items() if not np.array_equal(array, bundles[1].weights[name])
    }
    assert differing
    assert differing <= named
    assert "decoder.phase.output" in named  # a layer late in the network
    assert not differing <= {line.split()[0] for line in short if line}


def test_the_same_function_is_said_to_be_that(bundles: tuple[Bundle, Bundle], diff: Run) -> None:
    code, lines = diff(bundles[0].path, bundles[0].path)
    assert code == 0
    assert len(lines) <= ROWS
    assert lines[-2].endswith("Yes.")
    assert lines[-1].startswith("same function")


class _FaultyEngine:
    """An engine that computes one layer incorrectly."""

    name, provider, versions, threads_per_call = "pytorch", "cpu", {"torch": "0"}, 1

    def __init__(self, bundle: Bundle) -> None:
        self._engine = Session(bundle, threads=1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, diffraction: NDArray[np.float32]) -> Any:
        return self._engine.run(diffraction)

    def activations(self, diffraction: NDArray[np.float32]) -> Any:
        values = self._engine.activations(diffraction)
        return {**values, "encoder.1.pool": values["encoder.1.pool"] + np.float32(0.01)}


def test_the_engine_that_is_wrong_is_named_on_the_last_line(
    bundles: tuple[Bundle, Bundle], diff: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _FaultyEngine(bundles[0])
    monkeypatch.setattr("ptyonnx.cli.framework.open_quietly", lambda *_, **__: engine)
    code, lines = diff(bundles[0].path, f"{bundles[0].path}@torch")
    _, found = diff(bundles[0].path, f"{bundles[0].path}@torch", "--json")
    attribution = json.loads("\n".join(found))["activations"]["attribution"]
    assert code == 1
    assert (attribution["layer"], attribution["wrong"]) == ("encoder.1.pool", ["B"])
    assert len(lines) <= ROWS
    assert max(map(len, lines)) <= COLUMNS
    assert lines[-1].startswith("same function; ")
    assert "encoder.1.pool" in lines[-1]


@pytest.mark.parametrize("words", [(), ("--verbose",)])
def test_the_page_is_named_instead_of_the_advice_to_write_one(
    bundles: tuple[Bundle, Bundle], diff: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    page = tmp_path / "page.html"
    paths = [bundle.path for bundle in bundles]
    _, lines = diff(*paths, "--report", page, *words)
    assert page.is_file()
    assert str(page) in lines[-3]
    assert not any("--report" in line for line in lines)
    _, found = diff(*paths, "--report", page, "--json")
    assert json.loads("\n".join(found))["report"] == str(page)
