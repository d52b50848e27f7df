"""What the command line says about a run without a bundle, one that was interrupted, and names that it refuses."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundle_factory import make_bundle
from refusal import refused
from small_training import SMALL, Losses, simulated_scan

from ptyonnx import export, import_bundle, open_bundle
from ptyonnx.cli import main
from ptyonnx.exchange.adopting import adopt
from ptyonnx.exchange.training import train
from ptyonnx.formats import write_scan
from ptyonnx.settings import Settings
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import BundleError, OutputError, RunError
from ptyonnx_converters.foreign.declaration import Declaration

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", Recipe(N=32, filters_scale=0.125))


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted in the second of three epochs."""
    directory = tmp_path_factory.mktemp("partial") / "run"
    settings = Settings.model_validate({**SMALL, "epochs": 3})
    with pytest.raises(KeyboardInterrupt):
        train("torch", simulated_scan(), settings, directory, observer=Losses(stop_after_epochs=1))
    return directory


def test_an_imported_run_has_no_bundle_before_it_is_exported(tmp_path: Path, bundle: Bundle, capsys: Output) -> None:
    run = import_bundle(bundle, "torch", tmp_path / "run")
    assert run.bundle is None
    with pytest.raises(BundleError) as caught:
        open_bundle(run)
    assert (caught.value.file, caught.value.remedy) == (str(run.directory), f"make one: ptyonnx export {run.directory}")
    assert refused(capsys, tmp_path, "inspect", run.directory).startswith(f"{run.directory}: ")
    export(run, tmp_path / "run" / "bundle.onnx")
    assert main(["inspect", str(run.directory)]) == 0


def test_a_bundle_that_was_moved_is_missed_by_the_name_of_its_run(tmp_path: Path, bundle: Bundle) -> None:
    run = import_bundle(bundle, "torch", tmp_path / "run")
    exported = export(run, tmp_path / "exported.onnx").path
    assert exported is not None
    exported.rename(tmp_path / "moved.onnx")
    with pytest.raises(BundleError) as caught:
        open_bundle(run.directory)
    assert (caught.value.file, caught.value.key) == (str(run.directory), "bundle")
    assert str(exported) in str(caught.value.found)
    assert f"ptyonnx export {run.directory}" in caught.value.remedy


def test_an_interrupted_training_is_noted_when_exported_and_shown_when_inspected(partial: Path, capsys: Output) -> None:
    capsys.readouterr()
    assert main(["export", str(partial)]) == 0
    assert "interrupted after 1 of 3 epochs" in capsys.readouterr().err
    assert main(["inspect", str(partial)]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["epoch", "1 of 3"] in rows
    assert next(text for name, text in rows if name == "state").startswith("interrupted after 1 of 3 epochs")


def test_a_complete_training_has_no_such_note_and_a_whole_number_of_epochs(tmp_path: Path, capsys: Output) -> None:
    scan = tmp_path / "scan.npz"
    write_scan(scan, simulated_scan())
    words = [word for name, value in (SMALL | {"epochs": 1}).items() for word in ("--set", f"{name}={value}")]
    words += ["--backend", "torch", "--data", str(scan), "-o", str(tmp_path / "run")]
    assert main(["train", *words, "--no-export", "--json"]) == 0
    assert '"epoch": 1,' in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "epochs" not in captured.err
    assert Path(json.loads(captured.out)["bundle"]).is_file()


@pytest.mark.parametrize("name", ["q.txt", "bundle", "bundle.onnx.bak"])
def test_another_suffix_than_onnx_is_refused(tmp_path: Path, bundle: Bundle, partial: Path, name: str) -> None:
    for write in (
        lambda path: export(partial, path),
        lambda path: adopt(bundle.path or "", path, Declaration()),
    ):
        with pytest.raises(OutputError) as caught:
            write(tmp_path / name)
        assert caught.value.key in {"path", "output"}
        assert caught.value.expected == ".onnx"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["export {run}", "export {run} --graph autoencoder", "adopt {bundle}"])
def test_the_command_line_names_the_output(
    tmp_path: Path, bundle: Bundle, partial: Path, words: str, capsys: Output
) -> None:
    command = words.format(run=partial, bundle=bundle.path).split()
    line = refused(capsys, tmp_path, *command, "-o", tmp_path / "q.txt")
    assert "output" in line
    assert "found .txt, expected .onnx" in line


def test_an_import_does_not_offer_to_resume(tmp_path: Path, bundle: Bundle) -> None:
    import_bundle(bundle, "torch", tmp_path / "run")
    with pytest.raises(RunError) as caught:
        import_bundle(bundle, "torch", tmp_path / "run")
    assert "resume" not in caught.value.remedy
    assert "overwrite=True" in caught.value.remedy
    with pytest.raises(RunError) as caught:
        train("torch", simulated_scan(), Settings.model_validate(SMALL), tmp_path / "run")
    assert "resume=True" in caught.value.remedy


@pytest.mark.parametrize(
    "declared",
    [{"values": "intensity"}, {"zero_frequency": "corner"}, {"values": "amplitude", "zero_frequency": "corner"}, {}],
)
def test_an_object_like_vacuum_puts_the_declarations_in_question(declared: dict[str, str], capsys: Output) -> None:
    result = SimpleNamespace(is_hardly_better_than_vacuum=True)
    given = {"values": None, "axes": None, "zero_frequency": None, **declared}
    import_module("ptyonnx.cli.reconstruct")._write(result, None, None, {}, given)
    line = capsys.readouterr().err
    for name in ("values", "zero_frequency"):
        flag = f"--{name.replace('_', '-')}"
        assert (f"{flag} {declared[name]}" in line) if name in declared else (flag not in line)
