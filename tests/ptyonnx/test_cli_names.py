"""Names of files that a terminal would obey are shown; names that are not text are refused before the work."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from refusal import refused
from small_training import SMALL, simulated_scan

from ptyonnx import reconstruct
from ptyonnx.cli import VERBS, main
from ptyonnx.formats import load_scan, write_scan
from ptyonnx_bundles import Bundle, Recipe, read_bundle

Output = pytest.CaptureFixture[str]
RED, SHOWN = "\x1b[31m\nx$\\frac$", "\\x1b[31m\\nx$\\frac$"
BAD = os.fsdecode(b"\xff")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a scan and a bundle, whose names hold an escape, a line break and dollars."""
    monkeypatch.chdir(tmp_path)
    write_scan(f"{RED}.npz", simulated_scan(count=24))
    bundle(tmp_path / f"{RED}.onnx")
    return tmp_path


def bundle(path: Path) -> Bundle:
    return make_bundle(path, Recipe(N=32, filters_scale=0.0625))


def words(verb: str) -> list[str]:
    source, scan, output = f"{RED}.onnx", f"{RED}.npz", f"out{RED}"
    return {
        "verify": ["verify", source],
        "inspect": ["inspect", source],
        "reconstruct": [
            "reconstruct", source, "--data", scan, "-o", f"{output}/r.h5", "--plot", f"{output}/r.svg", "--n-images", "3"
        ],
        "diff": ["diff", source, source, "--data", scan, "--report", f"{output}.html"],
        "simulate": ["simulate", "--object", scan, "--probe", source, "--count", "4", "-o", f"{output}.npz"],
        "export": ["export", source, "--graph", "autoencoder", "-o", f"{output}.onnx"],
        "adopt": [
            "adopt", source, "-o", f"{output}.onnx", "--system", RED, "--values", "intensity",
        ],
        "parity": ["parity", "--from", f"no{source}"],
        "train": ["train", "--backend", "torch", "--data", scan, "--resume", "-o", f"{output}"],
        "import": ["import", f"no{source}", "--backend", "torch", "-o", f"{output}"],
    }[verb]  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_sends_to_the_terminal_what_a_name_holds(capsys: Output, verb: str) -> None:
    """Verbs that need a framework are refused before; what they say goes the same way."""
    main(words(verb))
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "\x1b" not in said
    assert said.replace("\n", "").isprintable()
    assert SHOWN in said or SHOWN.replace("\\n", " ") in said  # cells of tables have no line breaks
    assert not any(line.startswith("x$") for line in said.splitlines())


@pytest.mark.slow
def test_training_shows_the_names_of_its_files(capsys: Output, folder: Path) -> None:
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    run = f"run{RED}"
    assert main(["train", "--backend", "torch", "--data", f"{RED}.npz", "-o", run, *settings]) == 0
    assert main(["export", run, "-o", f"again{RED}.onnx"]) == 0
    assert main(["import", f"{RED}.onnx", "--backend", "torch", "-o", f"imported{RED}"]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "imported\\x1b[31m" in captured.out
    assert read_bundle(folder / f"again{RED}.onnx").manifest.training_data is not None


def test_a_picture_of_such_names_is_xml_and_no_formula(tmp_path: Path) -> None:
    write_scan(tmp_path / f"{RED}.npz", simulated_scan(count=24))
    result = reconstruct(bundle(tmp_path / f"{RED}.onnx"), load_scan(tmp_path / f"{RED}.npz"))
    result.plot(tmp_path / "picture.svg")
    ET.parse(tmp_path / "picture.svg")  # noqa: S314 - our own
    assert "\x1b" not in repr(result) + repr(result.bundle)


@pytest.mark.parametrize(
    "line",
    [
        ("reconstruct", "{good}", "--data", "scan.npz", "-o", f"{BAD}.h5"),
        ("reconstruct", "{good}", "--data", f"{BAD}.npz", "-o", "r.h5"),
        ("reconstruct", f"{BAD}.onnx", "--data", "scan.npz", "-o", "r.h5"),
        ("reconstruct", "{good}", "--data", "scan.npz", "-o", "r.h5", "--plot", f"{BAD}.png"),
        ("simulate", "--object", "scan.npz", "--probe", "scan.npz", "-o", f"{BAD}.npz"),
        ("simulate", "--object", f"{BAD}.npz", "--probe", "scan.npz", "-o", "s.npz"),
        ("train", "--backend", "tf", "--data", f"{BAD}.npz", "-o", "run"),
        ("train", "--backend", "tf", "--data", "scan.npz", "-o", f"{BAD}"),
        ("train", "--backend", "tf", "--data", "scan.npz", "--set", f"output={BAD}"),
        ("export", "{good}", "--graph", "autoencoder", "-o", f"{BAD}.onnx"),
        ("export", "run", "-o", "b.onnx", "--notes", BAD),
        ("import", "{good}", "--backend", "torch", "-o", f"{BAD}"),
        ("adopt", "{good}", "-o", f"{BAD}.onnx"),
        ("adopt", "{good}", "-o", "b.onnx", "--licence", BAD),
        ("diff", "{good}", f"{BAD}@torch"),
        ("diff", "{good}", "{good}", "--report", f"{BAD}.html"),
        ("parity", "--data", f"{BAD}.npz"),
        ("inspect", f"{BAD}.onnx"),
        ("verify", f"{BAD}.onnx"),
    ],
    ids=lambda line: " ".join(line).replace(BAD, "BAD"),
)
def test_a_name_that_is_not_utf_8_is_refused_by_every_verb(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    good = bundle(tmp_path / "good.onnx").path
    np.savez(tmp_path / "scan.npz")
    said = refused(capsys, tmp_path, *(word.format(good=good) for word in line))
    assert "not UTF-8" in said
    assert "\\udcff" in said


def test_a_scan_in_a_folder_whose_name_is_not_utf_8_is_refused(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / BAD
    folder.mkdir()
    write_scan(tmp_path / "scan.npz", simulated_scan(count=4))
    monkeypatch.chdir(folder)
    (folder / "scan.npz").write_bytes((tmp_path / "scan.npz").read_bytes())
    made = bundle(tmp_path / "good.onnx").path
    assert "not UTF-8" in refused(capsys, tmp_path, "reconstruct", made, "--data", "scan.npz", "-o", tmp_path / "r.h5")
