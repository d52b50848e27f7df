"""N patterns of N x N pixels fit every order of axes: their light decides, or the user."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle

from ptyonnx.cli import main
from ptyonnx.formats import load_scan
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import ScanError

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
ORDERS = {"nyx": (0, 1, 2), "yxn": (1, 2, 0)}


def few() -> dict[str, Any]:
    """64 patterns of 64 x 64."""
    with np.load(SAMPLE) as arrays:
        return {key: array[::8][:64] if len(array) == 516 else array for key, array in arrays.items()}


@pytest.fixture
def truth() -> Any:
    return few()["diffraction"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axes", ORDERS)
def test_the_light_on_the_patterns_decides(tmp_path: Path, axes: str, order: Any, save: Any) -> None:
    arrays = few()
    truth = arrays.pop("diffraction")
    save(tmp_path / "a.npz", **arrays, diff3d=np.asarray(truth.transpose(ORDERS[axes]), order=order))
    for limit in (None, 7):
        np.testing.assert_array_equal(load_scan(tmp_path / "a.npz", limit=limit).diffraction[:], truth[:limit])


@pytest.mark.parametrize("axes", ORDERS)
def test_what_is_unusual_is_said_aloud(tmp_path: Path, truth: Any, axes: str, caplog: Any) -> None:
    np.savez(tmp_path / "a.npz", **{**few(), "diffraction": truth.transpose(ORDERS[axes])})
    with caplog.at_level(logging.WARNING):
        load_scan(tmp_path / "a.npz")
    assert ("(y, x, pattern)" in caplog.text) == (axes == "yxn")


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(lambda truth: truth.transpose(1, 0, 2), id="patterns along the middle axis"),
        pytest.param(lambda truth: np.random.default_rng(0).uniform(0, 1, truth.shape), id="noise"),
    ],
)
def test_where_it_does_not_tell_the_order_is_asked_for(tmp_path: Path, truth: Any, stored: Any) -> None:
    np.savez(tmp_path / "a.npz", **{**few(), "diffraction": stored(truth)})
    with pytest.raises(ScanError) as caught:
        load_scan(tmp_path / "a.npz")
    assert caught.value.key == "diffraction"
    assert 'axes="yxn"' in str(caught.value.remedy)


@pytest.mark.parametrize("axes", ["nyx", "yxn", "xyn"])
def test_what_is_declared_is_believed(tmp_path: Path, truth: Any, axes: str) -> None:
    np.savez(tmp_path / "a.npz", **{**few(), "diffraction": truth.transpose(1, 2, 0)})
    expected = truth.transpose(1, 2, 0).transpose([axes.index(axis) for axis in "nyx"])
    np.testing.assert_array_equal(load_scan(tmp_path / "a.npz", axes=axes).diffraction[:], expected)


def test_the_command_line_says_how_it_read_a_cube(tmp_path: Path, truth: Any, capsys: Any) -> None:
    bundle = make_bundle(tmp_path / "bundle.onnx", Recipe(N=64, filters_scale=0.0625)).path
    np.savez(tmp_path / "a.npz", **{**few(), "diffraction": truth.transpose(1, 2, 0)})
    np.savez(tmp_path / "b.npz", **{**few(), "diffraction": truth.transpose(1, 0, 2)})
    words = ["reconstruct", str(bundle), "-o", str(tmp_path / "r.npz"), "--data"]
    assert main([*words, str(tmp_path / "a.npz")]) == 0
    assert "--axes nyx" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "b.npz")]) == 2
    assert "--axes yxn" in capsys.readouterr().err
