"""The face of a reconstruction: pictures, notebooks, one line."""

import base64
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle
from PIL import Image

import ptyonnx
from ptyonnx.results.panels import limits
from ptyonnx.results.reconstruction import Reconstruction
from ptyonnx_bundles.errors import OutputError

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    path = tmp_path_factory.mktemp("face") / "b.onnx"
    make_bundle(path)
    return ptyonnx.reconstruct(ptyonnx.open_bundle(path), ptyonnx.load_scan(SAMPLE, limit=40))


def test_the_three_lines_of_the_readme_work(result: Reconstruction, tmp_path: Path) -> None:
    assert isinstance(result, ptyonnx.Reconstruction)
    assert result.object.shape == result.mask.shape == (238, 236)
    assert result.residual.shape == (40,)
    result.save(tmp_path / "r.h5")
    result.plot(tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.size[0] > 1000


def test_the_repr_says_what_it_is(result: Reconstruction) -> None:
    line = repr(result)
    assert re.fullmatch(
        r"<Reconstruction of siemens_star_64.npz with b.onnx: 238 x 236 px, 40 patterns, R-factor .*>", line
    )


def test_a_notebook_gets_a_small_picture_and_no_markup_of_others(result: Reconstruction) -> None:
    named = Reconstruction(**{**vars(result), "scan_name": "<script>"})
    cell = named._repr_html_()
    assert "<script>" not in cell
    picture = re.search(r"base64,([^\"]+)\"", cell)
    assert picture
    assert Image.open(io.BytesIO(base64.b64decode(picture[1]))).format == "PNG"
    assert len(cell) < 1_000_000


def test_drawing_leaves_no_global_figure_and_needs_no_display(
    result: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result.plot()
    assert plt.get_fignums() == before


def test_an_object_without_any_data_can_still_be_drawn(result: Reconstruction) -> None:
    empty = np.full_like(result.object, complex(np.nan, np.nan))
    nothing = {"object": empty, "mask": np.isnan(empty), "residual": np.full(40, np.nan)}
    Reconstruction(**{**vars(result), **nothing}).plot(None)


@pytest.mark.parametrize("name", ["r.txt", "r"])
def test_an_unknown_picture_format_is_refused(result: Reconstruction, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError) as error:
        result.plot(tmp_path / name)
    assert error.value.file == str(tmp_path / name)
    assert ".png" in str(error.value.expected)
    assert not list(tmp_path.iterdir())


def test_colour_limits_ignore_nan_and_a_few_wild_pixels() -> None:
    image = np.random.default_rng(0).uniform(0, 1, (100, 100))
    image[0, :20], image[1, :20] = np.nan, 8071
    low, high = limits(image)
    assert -0.1 < low < 0.05
    assert 0.95 < high < 1.1


def test_the_options_reach_the_engine(result: Reconstruction) -> None:
    calls: list[Any] = []
    ptyonnx.reconstruct(
        result.bundle,
        ptyonnx.load_scan(SAMPLE, limit=10),
        provider="cpu",
        threads=1,
        batch_size=5,
        flux="as-is",
        progress=lambda *done: calls.append(done),
    )
    assert calls == [(5, 10), (10, 10)]
