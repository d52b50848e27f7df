"""`-o` into a folder that does not exist: the last one is made and mentioned, more is refused; by every verb."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from refusal import refused
from small_training import SMALL, simulated_scan

from ptyonnx import Settings, import_bundle, open_bundle, train
from ptyonnx.cli import main
from ptyonnx.exchange.autoencoder import export_autoencoder
from ptyonnx.formats import write_scan
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import OutputError

Output = pytest.CaptureFixture[str]

WRITES = {
    "result": ("reconstruct", "b.onnx", "--data", "scan.npz", "-o", "{}/r.h5"),
    "picture": ("reconstruct", "b.onnx", "--data", "scan.npz", "-o", "r.h5", "--plot", "{}/r.png"),
    "PtychoPINN's directory": ("reconstruct", "b.onnx", "--test_data", "scan.npz", "--output_dir", "{}"),
    "scan": ("simulate", "--object", "scan.npz", "--probe", "scan.npz", "--count", "4", "-o", "{}/s.npz"),
    "report": ("diff", "b.onnx", "b.onnx", "--report", "{}/page.html"),
    "autoencoder": ("export", "b.onnx", "--graph", "autoencoder", "-o", "{}/a.onnx"),
    "profile": ("export", "b.onnx", "--profile", "ptychovit", "--batch", "1", "-o", "{}/v.onnx"),
    "bundle": ("export", "run", "-o", "{}/b.onnx"),
    "adopted": ("adopt", "b.onnx", "-o", "{}/b.onnx"),
    "run": ("train", "--backend", "torch", "--data", "scan.npz", "-o", "{}/run"),
    "imported run": ("import", "b.onnx", "--backend", "torch", "-o", "{}/run"),
}
MADE = ("result", "picture", "PtychoPINN's directory", "scan", "report", "autoencoder", "profile")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_scan("scan.npz", simulated_scan(count=24))
    make_bundle(tmp_path / "b.onnx", Recipe(N=32, filters_scale=0.0625))
    return tmp_path


@pytest.mark.parametrize("kind", MADE)
def test_the_last_folder_is_made_and_mentioned(capsys: Output, folder: Path, kind: str) -> None:
    assert main([word.format("new") for word in WRITES[kind]]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: the folder")]
    assert notes == [f"note: the folder {folder / 'new'} did not exist and was created"]


@pytest.mark.parametrize("kind", [kind for kind in WRITES if kind != "bundle"])
def test_more_than_the_last_folder_is_refused_before_the_work(capsys: Output, folder: Path, kind: str) -> None:
    line = refused(capsys, folder, *(word.format("some/new") for word in WRITES[kind]))
    assert line.startswith("some/new")
    assert "mkdir -p" in line


def test_the_folder_above_a_run_is_made_and_mentioned(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The default of `train` and `import` lies in runs/."""
    with caplog.at_level(logging.WARNING):
        run = import_bundle(open_bundle("b.onnx"), "torch", "runs/imported")
        import_bundle(open_bundle("b.onnx"), "torch", "runs/other")
    assert [text for text in caplog.messages if "folder" in text] == [
        f"the folder {folder / 'runs'} did not exist and was created"
    ]
    assert main(["export", str(run.directory), "-o", "some/new/b.onnx"]) == 2
    assert not (folder / "some").exists()


def test_python_is_refused_before_the_work_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("refused only after the work")

    monkeypatch.setattr("ptyonnx.backends.load", worked)
    monkeypatch.setattr("ptyonnx.exchange.importing._check_native_network", worked)
    monkeypatch.setattr("ptyonnx.exchange.autoencoder._build", worked)
    bundle = open_bundle("b.onnx")
    with pytest.raises(OutputError):
        train("torch", simulated_scan(count=24), Settings.model_validate(SMALL), "some/new/run")
    with pytest.raises(OutputError):
        import_bundle(bundle, "torch", "some/new/run")
    with pytest.raises(OutputError):
        export_autoencoder(bundle, "some/new/a.onnx")
    assert {path.name for path in folder.iterdir()} == {"b.onnx", "scan.npz"}


def test_a_training_makes_the_folder_above_its_run(folder: Path) -> None:
    run = train("torch", simulated_scan(count=24), Settings.model_validate({**SMALL, "epochs": 1}), "runs/one")
    assert run.directory == Path("runs/one")
    assert np.isfinite(run.metrics()["loss"])
    assert folder.joinpath("runs", "one", "run.json").is_file()
