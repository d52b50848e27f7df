"""From `ptyonnx diff --report` to the page: what was compared is what is shown."""

from __future__ import annotations

import base64
import json
import re
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle, overflowing
from float32_bounds import of_roundings
from numpy.typing import NDArray

from ptyonnx import load_scan
from ptyonnx.cli import main
from ptyonnx.comparison import Comparison, Implementation, compare, compare_objects, open_implementation
from ptyonnx.report.comparison_report import build_report
from ptyonnx.report.content import Report
from ptyonnx.report.page import render
from ptyonnx.runs.history import write_history
from ptyonnx.runs.run import Record, Run
from ptyonnx.settings import Settings
from ptyonnx_bundles import Bundle, Recipe, write_bundle

SCAN = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
RECIPE = Recipe(N=64, filters_scale=0.0625)
ROWS = [
    {"epoch": float(epoch), "loss": -4 - epoch / 10, "val_loss": -4 - epoch / 20, "r_factor": 0.2, "val_r_factor": 0.2}
    for epoch in (1, 2, 3)
]

Compared = tuple[Comparison, Implementation, Implementation]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs whose bundles have one name."""
    folder = tmp_path_factory.mktemp("runs")
    scan = load_scan(SCAN)
    for seed, run in enumerate(("first", "second")):
        (folder / run).mkdir()
        make_bundle(folder / run / "bundle.onnx", RECIPE, seed=seed, probe=scan.probe, mean_photons=4.4e5)
    return folder


@pytest.fixture(scope="module")
def compared(folder: Path) -> Compared:
    a, b = (open_implementation(folder / run / "bundle.onnx") for run in ("first", "second"))
    return compare(a, b, load_scan(SCAN)), a, b


def _turn_into_run(bundle: Bundle, metrics: dict[str, float]) -> Bundle:
    """Write what a training leaves beside its bundle; the manifest records the given figures."""
    assert bundle.path is not None
    manifest = bundle.manifest.model_copy(update={"metrics": metrics})
    record = Record(
        backend="pytorch", producer=manifest.producer, recipe=manifest.recipe, physics=manifest.physics,
        training_data=manifest.training_data,
    )  # fmt: skip
    Run(bundle.path.parent, record, Settings()).write()
    write_history(bundle.path.parent / "history.csv", ROWS)
    return write_bundle(bundle.path, bundle.model, manifest, bundle.probe, bundle.selftest)


def test_every_level_and_figure_is_there(compared: Compared) -> None:
    found, a, b = compared
    report = build_report(found, a, b, "siemens_star_64.npz")
    assert {verdict.level: verdict.passed for verdict in report.verdicts} == {
        name: level.passed for name, level in found.levels.items()
    }
    assert report.outcome is not None
    assert report.outcome.passed is found.passed
    assert [layer.name for layer in report.layers] == [layer.name for layer in found.activations.layers]
    assert [layer.passed for layer in report.layers] == [layer.passed for layer in found.activations.layers]
    assert found.image is not None
    assert report.ring is not None
    np.testing.assert_array_equal(report.ring.correlation, found.image.ring.correlation)
    figures = {row[0]: row[1] for table in report.tables if table.section == "images" for row in table.rows}
    assert figures["R-factor of B"] == found.image.r_factor_b
    assert figures["phase (rad)"] == found.image.phase.maximum
    weights = [row[0] for table in report.tables if table.section == "weights" for row in table.rows]
    assert weights == [entry.name for entry in found.weights.arrays if not entry.equal]
    assert report.curves == ()


def test_bundles_of_one_name_are_told_apart_by_their_folders(compared: Compared, folder: Path) -> None:
    report = build_report(*compared)
    assert report.title == f"{Path('first/bundle.onnx')} and {Path('second/bundle.onnx')}"
    same = (
        open_implementation(folder / "first" / "bundle.onnx"),
        open_implementation(f"{folder / 'first' / 'bundle.onnx'}@cpu"),
    )
    assert build_report(compare(*same), *same).title == "bundle.onnx and bundle.onnx by onnxruntime (cpu)"


def test_the_page_holds_the_two_objects_as_they_were_compared(compared: Compared) -> None:
    found, *_ = compared
    assert found.image is not None
    page = render(build_report(*compared))
    assert len(page.encode()) < 5_000_000
    stored = re.search(r'id="pixels">(.*?)</script>', page)
    assert stored
    data = json.loads(stored[1])
    shape = (data["height"], data["width"])
    assert shape == found.image.object_a.shape
    plane = data["amplitude"]["difference"]
    high, low = np.frombuffer(zlib.decompress(base64.b64decode(plane["bytes"])), np.uint8).reshape(2, *shape)
    shown = plane["low"] + (256.0 * high + low) / 65535 * (plane["high"] - plane["low"])
    expected = np.abs(found.image.object_b) - np.abs(found.image.object_a)
    known = np.isfinite(expected)
    step = (plane["high"] - plane["low"]) / 65535  # 16 bits; float32 rounds the amplitudes before
    np.testing.assert_allclose(
        shown[known], expected[known], atol=step / 2 + of_roundings(4, np.abs(found.image.object_a[known]).max())
    )


def test_the_page_shows_where_only_one_of_the_two_is_known(compared: Compared) -> None:
    found, *subjects = compared
    one, other = _object_of(found).copy(), _object_of(found).copy()
    one[:20] = other[:, :30] = np.nan
    image = compare_objects(one, other)
    page = render(build_report(replace(found, images=replace(found.images, image=image)), *subjects))
    stored = re.search(r'id="pixels">(.*?)</script>', page)
    assert stored
    data = json.loads(stored[1])
    known = np.frombuffer(zlib.decompress(base64.b64decode(data["known"])), np.uint8).reshape(one.shape)
    np.testing.assert_array_equal(known & 1 > 0, ~np.isnan(one))
    np.testing.assert_array_equal(known & 2 > 0, ~np.isnan(other))
    assert {1, 2, 3} <= set(known.ravel().tolist())


def test_the_page_says_that_images_agree_at_no_frequency(compared: Compared) -> None:
    found, *subjects = compared
    a, b = (
        (generator.standard_normal((96, 96)) + 1j * generator.standard_normal((96, 96)) + 3).astype(np.complex64)
        for generator in map(np.random.default_rng, (1, 2))
    )
    image = compare_objects(a, b, 1e-8, free=False)
    assert image.ring.agreement == "nowhere"
    report = build_report(replace(found, images=replace(found.images, image=image)), *subjects)
    rows = {row[0]: row[1:] for table in report.tables if table.section == "images" for row in table.rows}
    assert rows["resolution (Fourier rings, half bit)"] == (f"none: {image.ring.sentence}", None)
    assert "resolution" not in rows
    page = render(report)
    assert "A and B agree at no frequency" in page
    assert "they agree at no spatial frequency" in page


@pytest.mark.parametrize("word", ["only in", "known in", "non-finite pixels in"])
def test_the_two_are_called_by_capitals(word: str, compared: Compared, tmp_path: Path) -> None:
    found, *subjects = compared
    other = make_bundle(tmp_path / "deeper.onnx", Recipe(N=64, filters_scale=0.0625, depth=2))
    unlike = compare(subjects[0], Implementation(other))
    broken, whole = _object_of(found).copy(), _object_of(found)
    broken[:60] = np.nan
    broken[-20:] = np.inf
    image = compare_objects(broken, whole)
    sentences = " ".join([unlike.identity.sentence, *image.flaws, *image.unlike])
    assert re.search(rf"{word} [AB]\b", sentences)
    assert not re.search(rf"{word} [ab]\b", sentences)
    assert "only in A" in render(build_report(unlike, subjects[0], Implementation(other)))


def _styles(found: Comparison, a: Implementation, b: Implementation) -> dict[str, str]:
    """Styles of the outcome and of the levels that may be a fault of one network or a fact about two."""
    report = build_report(found, a, b)
    assert report.outcome is not None
    verdicts = {verdict.level: verdict for verdict in (report.outcome, *report.verdicts)}
    styles = {}
    for name in ("outcome", "activations", "images"):
        (style,) = re.findall(r'<li class="(\w+)">', render(Report("t", verdicts=(verdicts[name],))))
        styles[name] = style
    return styles


@pytest.mark.parametrize("data", [True, False], ids=["scan", "self-tests"])
def test_non_finite_pixels_are_a_fault_of_a_network_however_much_two_may_differ(
    compared: Compared, tmp_path: Path, data: bool
) -> None:
    _, sound, _ = compared
    broken = Implementation(overflowing(sound.bundle, tmp_path / "broken.onnx"))
    found = compare(sound, broken, load_scan(SCAN) if data else None)
    assert not found.same_function
    images = "failed" if data else "unknown"
    assert _styles(found, sound, broken) == {"outcome": "failed", "activations": "failed", "images": images}


def test_a_flaw_of_an_image_is_a_fault_and_a_difference_of_two_networks_is_none(compared: Compared) -> None:
    found, *subjects = compared
    assert _styles(found, *subjects) == {"outcome": "differs", "activations": "differs", "images": "differs"}
    broken = _object_of(found).copy()
    broken[-20:] = np.inf
    image = compare_objects(broken, _object_of(found), unknown=(np.isnan(broken), np.isnan(_object_of(found))))
    assert image.flaws
    flawed = replace(found, images=replace(found.images, image=image))
    assert _styles(flawed, *subjects) == {"outcome": "failed", "activations": "differs", "images": "failed"}


def _object_of(found: Comparison) -> NDArray[np.complex64]:
    assert found.image is not None
    return found.image.object_b


def test_losses_are_those_of_the_run_in_which_a_bundle_lies(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    a = make_bundle(tmp_path / "run" / "bundle.onnx", RECIPE)
    b = make_bundle(tmp_path / "b.onnx", RECIPE, seed=1)
    pair = (
        Implementation(_turn_into_run(a, {key: ROWS[1][key] for key in ("epoch", "loss", "val_loss")})),
        Implementation(b),
    )
    curves = build_report(compare(*pair), *pair).curves
    assert [(curve.label, curve.side, curve.dashed) for curve in curves] == [
        ("A, training", "a", False),
        ("A, validation", "a", True),
    ]
    for curve, key in zip(curves, ("loss", "val_loss"), strict=True):
        np.testing.assert_array_equal(curve.x, [1, 2, 3])
        np.testing.assert_array_equal(curve.y, [row[key] for row in ROWS])


def test_losses_of_a_run_that_went_on_without_the_bundle_are_left_out(tmp_path: Path) -> None:
    a = make_bundle(tmp_path / "bundle.onnx", RECIPE)
    other = Implementation(_turn_into_run(a, {"epoch": 2.0, "loss": -1.0, "val_loss": -1.0}))
    assert build_report(compare(other, other), other, other).curves == ()
    (tmp_path / "history.csv").write_text("epoch,loss\n1,x\n", encoding="utf-8")
    assert build_report(compare(other, other), other, other).curves == ()


def test_diff_writes_the_page_beside_its_usual_output(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder / run / "bundle.onnx") for run in ("first", "second")]
    assert main(["diff", *words]) == 1
    usual = capsys.readouterr().out
    assert main(["diff", *words, "--report", str(tmp_path / "page.html")]) == 1
    with_page = capsys.readouterr().out.splitlines()
    differing = [(a, b) for a, b in zip(usual.splitlines(), with_page, strict=True) if a != b]
    assert len(differing) == 1
    assert "--report" in differing[0][0]
    assert str(tmp_path / "page.html") in differing[0][1]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>first/bundle.onnx and second/bundle.onnx</h1>" in page
    assert "decoder.phase.output" in page
    assert "<canvas" not in page  # no scan, no image


@pytest.mark.parametrize("name, problem", [("page.pdf", "unknown format of a report"), ("folder", "unknown format")])
def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(
    name: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", "absent.onnx", "absent.onnx", "--report", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line
    assert list(tmp_path.iterdir()) == []


def test_without_jinja2_diff_works_and_its_report_asks_for_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    bundle = str(folder / "first" / "bundle.onnx")
    assert main(["diff", bundle, bundle]) == 0
    capsys.readouterr()
    assert main(["diff", bundle, bundle, "--report", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err.strip().endswith("the report needs Jinja2; pip install 'ptyonnx[compare]'")
    assert list(tmp_path.iterdir()) == []
