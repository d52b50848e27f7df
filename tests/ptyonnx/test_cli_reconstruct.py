import sys
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle, overflowing
from refusal import refused

from ptyonnx.backends.engines import canonical_engine
from ptyonnx.cli import main
from ptyonnx.formats import load_result, load_scan, write_scan
from ptyonnx.results.reconstruction import reconstruct
from ptyonnx.runs.run import Record, Run
from ptyonnx.settings import Settings
from ptyonnx.simulation import scan_positions, simulate
from ptyonnx_bundles import Bundle, Recipe

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", Recipe(N=64, filters_scale=0.0625))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    """A small scan of a weak object with the bundle's own probe."""
    y, x = np.indices((100, 110))
    obj = np.exp(0.2j * np.sin(y / 5) * np.cos(x / 7))
    positions = scan_positions("fermat", obj.shape, 64, count=20)
    path = tmp_path_factory.mktemp("data") / "scan.npz"
    write_scan(path, simulate(obj, bundle.probe, positions))
    return path


def test_the_result_is_that_of_the_library(capsys: Output, bundle: Bundle, data: Path, tmp_path: Path) -> None:
    output, picture = tmp_path / "result.h5", tmp_path / "result.png"
    assert main(["reconstruct", str(bundle.path), "--data", str(data), "-o", str(output), "--plot", str(picture)]) == 0
    text = capsys.readouterr().out
    expected = reconstruct(bundle, load_scan(data))
    np.testing.assert_array_equal(load_result(output).object[~expected.mask], expected.object[~expected.mask])
    assert f"R-factor  {expected.r_factor:.4f}" in text
    assert "patterns/s" in text
    assert str(output) in text
    assert picture.stat().st_size > 0


def test_ptychopinns_flags_lead_from_a_run_to_a_directory(
    capsys: Output, bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    manifest = bundle.manifest
    record = Record(
        backend="pytorch",
        producer=manifest.producer,
        recipe=manifest.recipe,
        physics=manifest.physics,
        training_data=manifest.training_data,
        bundle=bundle.path,
    )
    Run(tmp_path / "run", record, Settings()).write()
    words = (
        f"--model_path {tmp_path}/run --test_data {data} --output_dir {tmp_path}/out --backend tensorflow --n_images 8"
    )
    assert main(["reconstruct", *words.split()]) == 0
    captured = capsys.readouterr()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"reconstruction.h5", "reconstruction.png"}
    assert "on cpu in tensorflow)" in captured.out
    assert "note: n_images has no effect here" in captured.err


@pytest.mark.parametrize("words", [("--engine", "torch"), ("--engine", "tensorflow"), ("--backend", "pytorch")])
def test_a_framework_reconstructs_what_onnxruntime_does(
    capsys: Output, bundle: Bundle, data: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    output = tmp_path / "result.npz"
    assert main(["reconstruct", str(bundle.path), "--data", str(data), "-o", str(output), *words]) == 0
    engine = canonical_engine(words[1])
    expected = reconstruct(bundle, load_scan(data))
    text = capsys.readouterr().out
    assert f"on cpu in {engine})" in text
    assert f"R-factor  {expected.r_factor:.4f}" in text
    with np.load(output) as result:
        assert result["engine"] == engine
        found = result["object"]
    np.testing.assert_allclose(found[~expected.mask], expected.object[~expected.mask], rtol=0, atol=5e-5)


def test_an_object_that_explains_next_to_nothing_is_said_aloud(capsys: Output, data: Path, tmp_path: Path) -> None:
    """A network whose weights are random."""
    untrained = make_bundle(tmp_path / "untrained.onnx", Recipe(N=64, filters_scale=0.0625)).path
    assert main(["reconstruct", str(untrained), "--data", str(data), "-o", str(tmp_path / "r.h5")]) == 0
    assert "note: the object explains the patterns hardly better than vacuum does, or worse" in capsys.readouterr().err


def test_a_scaled_exposure_is_said_aloud_and_as_is_leaves_it(
    capsys: Output, bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    scan = load_scan(data)
    bright = tmp_path / "bright.npz"
    write_scan(bright, simulate(scan.object, 2 * bundle.probe, scan.positions_px))  # type: ignore[arg-type]
    words = ["reconstruct", str(bundle.path), "--data", str(bright), "-o", str(tmp_path / "r.npz")]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "note: bright.npz" in captured.err
    assert "amplitudes multiplied by 0.5" in captured.out
    assert main([*words, "--flux", "as-is"]) == 0
    assert "left as they are" in capsys.readouterr().out


@pytest.mark.parametrize(
    "case",
    [
        ("--flux", "double", "found double, expected match or as-is"),
        ("--provider", "abacus", "unknown provider 'abacus'"),
        ("--engine", "torhc", "found torhc, expected one of ort, onnxruntime, tf, "),
        ("--backend", "jax", "found jax, expected one of tf, tensorflow, torch, pytorch"),
        ("--backend", "onnxruntime", "found onnxruntime, expected one of tf, "),
        ("--engine", "tf", "--backend", "torch", "found tf and torch"),
        ("--engine", "torch", "--provider", "tensorrt", "the engine pytorch has no provider 'tensorrt'"),
        ("--engine", "torch", "--provider", "cuda", "PyTorch sees no GPU"),
        ("--engine", "tf", "--provider", "cuda", "TensorFlow sees no GPU"),
        ("--batch-size", "0", "0 is not in the range"),
        ("--values", "counts", "found counts"),
        ("--panels", "phase", "--plot IMAGE"),
        ("--no-ramp", "--probe", "'--probe, --ramp': "),
        ("--plot", "{folder}/p.png", "--panels", "phase,modulus", "'--panels': "),
        ("--plot", "{folder}/p.png", "--cmap", "phase=virids", "found virids"),
        ("--plot", "{folder}/p.png", "--range", "phase=1", "'--range': "),
        ("--plot", "{folder}/p.png", "--range", "phase", "'--range': "),
        ("-o", "result.txt", "expected .h5"),
        ("-o", "{file}/result.h5", "occupied/result.h5"),
    ],
)
def test_a_refused_reconstruction_leaves_nothing_behind(
    capsys: Output, bundle: Bundle, data: Path, tmp_path: Path, case: tuple[str, ...]
) -> None:
    *words, expected = case
    file = tmp_path / "occupied"
    file.write_text("a file, not a directory", encoding="utf-8")
    output = ["-o", str(tmp_path / "result.h5")]
    asked = [word.format(file=file, folder=tmp_path) for word in words]
    assert main(["reconstruct", str(bundle.path), "--data", str(data), *output, *asked]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err.splitlines()[-1]
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == [file]


def test_a_picture_alone_is_enough(capsys: Output, bundle: Bundle, data: Path, tmp_path: Path) -> None:
    words = ["reconstruct", str(bundle.path), "--data", str(data)]
    picture = tmp_path / "picture.svg"
    chosen = "--panels phase,amplitude --probe --cmap phase=twilight --range phase=-0.5,0.5 --no-ramp"
    assert main([*words, "--plot", str(picture), *chosen.split()]) == 0
    text = capsys.readouterr().out
    assert str(picture) in text
    assert "result  " not in text
    assert list(tmp_path.iterdir()) == [picture]
    content = picture.read_text(encoding="utf-8")
    positions = [content.index(f"<!-- {title} -->") for title in ("phase, linear ramp removed:", "amplitude", "probe")]
    assert positions == sorted(positions)


def test_neither_result_nor_picture_is_refused(capsys: Output, bundle: Bundle, data: Path, tmp_path: Path) -> None:
    line = refused(capsys, tmp_path, "reconstruct", str(bundle.path), "--data", str(data))
    assert line.startswith("'-o, --plot': missing")


def test_every_stage_is_shown_on_a_terminal(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    words = ["reconstruct", str(bundle.path), "--data", str(data), "-o", str(tmp_path / "r.npz"), "--plot"]
    assert main([*words, str(tmp_path / "r.png")]) == 0
    shown = capsys.readouterr().err
    expected = (
        "reading " + str(bundle.path)[:20], "preparing the network", "running the network:", "stitching:",
        "computing the residual:", "writing ", "drawing ",
    )  # fmt: skip
    positions = [shown.index(text) for text in expected]
    assert positions == sorted(positions)
    for stage in ("running the network", "stitching", "computing the residual"):
        assert f"{stage}: 100%" in shown


def test_a_run_without_a_bundle_says_how_to_make_one(
    capsys: Output, bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    manifest = bundle.manifest
    record = Record(
        backend="tensorflow",
        producer=manifest.producer,
        recipe=manifest.recipe,
        physics=manifest.physics,
        training_data=manifest.training_data,
    )
    Run(tmp_path, record, Settings()).write()
    assert main(["reconstruct", str(tmp_path), "--data", str(data), "-o", str(tmp_path / "r.h5")]) == 2
    assert f"ptyonnx export {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["onnxruntime", "onnxruntime --phases network", "pytorch", "tensorflow"])
def test_a_network_that_overflows_is_refused_by_every_engine(
    capsys: Output, bundle: Bundle, data: Path, tmp_path: Path, words: str
) -> None:
    overflowing(bundle, tmp_path / "overflowing.onnx")
    scan = ("--data", data, "--threads", 1, "--engine", *words.split())
    output = ("-o", tmp_path / "result.h5", "--plot", tmp_path / "result.png")
    line = refused(capsys, tmp_path, "reconstruct", tmp_path / "overflowing.onnx", *scan, *output)
    assert line.startswith("overflowing.onnx: 'object': the network's object is not finite at pattern 0 of scan.npz")
    assert "check the units of the patterns" in line
    assert line.endswith("ptyonnx verify")
