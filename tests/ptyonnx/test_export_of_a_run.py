"""Exporting while a training goes on in the same run, and after one that was killed before its export."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_factory import make_bundle
from refusal import contents, refused
from small_training import SMALL, simulated_scan

from ptyonnx import export, import_bundle, open_bundle
from ptyonnx.cli import main
from ptyonnx.exchange.training import train
from ptyonnx.formats import write_scan
from ptyonnx.runs.folder import locked
from ptyonnx.runs.run import Run
from ptyonnx.settings import Settings
from ptyonnx_bundles import Bundle, Recipe


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", Recipe(N=32, filters_scale=0.125))


def test_a_run_that_is_written_to_can_be_exported_elsewhere_and_not_into_itself(
    tmp_path: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    run = import_bundle(bundle, "torch", tmp_path / "run")
    with locked(run.directory):
        record = Run.open(run.directory).record
        line = refused(capsys, tmp_path, "export", run.directory)
        assert line.startswith(f"{run.directory}: another process writes there")
        export(run, tmp_path / "elsewhere.onnx")
        assert Run.open(run.directory).record == record  # it may be about to change: only its writer writes it
    assert open_bundle(tmp_path / "elsewhere.onnx").manifest.digests == bundle.manifest.digests


def test_an_export_keeps_what_the_record_has_become_meanwhile(tmp_path: Path, bundle: Bundle) -> None:
    run = import_bundle(bundle, "torch", tmp_path / "run")
    run.write(message="changed since")
    export(run, tmp_path / "elsewhere.onnx")
    record = Run.open(run.directory).record
    assert (record.message, record.bundle) == ("changed since", tmp_path / "elsewhere.onnx")


def test_a_training_that_was_killed_before_its_export_is_exported_when_resumed(tmp_path: Path, bundle: Bundle) -> None:
    scan, directory = tmp_path / "scan.npz", tmp_path / "run"
    write_scan(scan, simulated_scan())
    run = train("torch", simulated_scan(), Settings.model_validate({**SMALL, "epochs": 1}), directory)
    (directory / "bundle.onnx").write_bytes(bundle.model)  # as exported before the last epoch
    assert main(["train", "--resume", "--data", str(scan), "-o", str(directory)]) == 0
    exported = open_bundle(directory / "bundle.onnx")
    assert exported.manifest.metrics == run.metrics()
    before = contents(directory)
    assert main(["train", "--resume", "--data", str(scan), "-o", str(directory)]) == 0
    assert contents(directory) == before


def test_a_run_that_cannot_be_written_is_exported_elsewhere(tmp_path: Path, bundle: Bundle) -> None:
    run = import_bundle(bundle, "torch", tmp_path / "run")
    (run.directory / ".lock").mkdir()  # as in a write-protected folder, nobody can hold the lock
    before = contents(run.directory)
    export(run, tmp_path / "elsewhere.onnx")
    assert open_bundle(tmp_path / "elsewhere.onnx").manifest.digests == bundle.manifest.digests
    assert contents(run.directory) == before
