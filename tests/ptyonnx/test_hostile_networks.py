"""Every verb that runs a network which another system made says in one line when that does not end; `--limit-s`."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest
from foreign_factory import foreign_model, make_foreign_bundle
from hostile_graphs import hostile_bundle, hostile_model
from refusal import refused

from ptyonnx.comparison import compare
from ptyonnx.exchange.adopting import adopt
from ptyonnx_bundles.errors import WorkerError
from ptyonnx_converters.foreign.declaration import Declaration, Limit, Scale, Source

Output = pytest.CaptureFixture[str]
SCAN = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
N = 64
SLOW_S = 20.0  # far less than the network would take


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    return Path(hostile_bundle(tmp_path / "hostile.onnx", "endless").path or "")


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "{bundle}"),
        ("reconstruct", "{bundle}", "--data", SCAN, "-o", "{folder}/result.h5"),
        ("diff", "{bundle}", "{plain}"),
        ("export", "{bundle}", "--profile", "ptychovit", "--batch", 1, "-o", "{folder}/vit.onnx"),
    ],
    ids=lambda words: words[0],
)
def test_a_verb_ends_in_time(capsys: Output, tmp_path: Path, hostile: Path, words: tuple[object, ...]) -> None:
    plain = make_foreign_bundle(tmp_path / "plain.onnx", N).path
    given = [str(word).format(bundle=hostile, plain=plain, folder=tmp_path) for word in words]
    start = time.monotonic()
    line = refused(capsys, tmp_path, *given, "--limit-s", "0.5")
    assert time.monotonic() - start < SLOW_S
    assert "hostile.onnx" in line.split(" ")[0]
    assert "longer than 0.5 s" in line


def test_adopting_ends_in_time(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(hostile_model(foreign_model(N), "endless"))
    path = tmp_path / "stranger.onnx"
    onnx.save(model, path)
    declaration = Declaration(
        system="x", values="amplitude", zero_frequency="centre", scale=Scale("factor", 1.0), limit=Limit("none"),
        transform="none", mean_photons="unknown", object=Source("object", None),
    )  # fmt: skip
    with pytest.raises(WorkerError, match=r"longer than 0\.5 s") as caught:
        adopt(path, tmp_path / "bundle.onnx", declaration, limit_s=0.5)
    assert str(caught.value.file).endswith("stranger.onnx")
    assert not (tmp_path / "bundle.onnx").exists()


def test_comparing_in_python_has_the_same_limit(tmp_path: Path, hostile: Path) -> None:
    plain = make_foreign_bundle(tmp_path / "plain.onnx", N)
    with pytest.raises(WorkerError, match=r"longer than 0\.5 s"):
        compare(hostile, plain, limit_s=0.5)


def test_no_time_is_refused(capsys: Output, tmp_path: Path, hostile: Path) -> None:
    line = refused(capsys, tmp_path, "verify", hostile, "--limit-s", 0)
    assert "--limit-s" in line
