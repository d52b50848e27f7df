"""`--json` prints one object with the keys that docs/command_line.md promises, and nothing else on stdout."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bundle_factory import make_bundle
from foreign_networks import ptychonn
from small_training import SMALL, simulated_scan

from ptyonnx.cli import VERBS, main
from ptyonnx.formats import write_scan
from ptyonnx_bundles import Recipe

Output = pytest.CaptureFixture[str]
PAGE = Path(__file__).parents[2] / "docs" / "command_line.md"


def _promised() -> dict[str, set[str]]:
    """Keys of every verb, from the table of the page; words in parentheses explain."""
    section = PAGE.read_text(encoding="utf-8").split("## JSON")[1].split("## Exit codes")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", section, re.MULTILINE)
    return {verb: set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", keys))) for verb, keys in rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a scan and a network of another system."""
    folder = tmp_path_factory.mktemp("json")
    make_bundle(folder / "bundle.onnx", Recipe(N=32, filters_scale=0.0625))
    write_scan(folder / "scan.npz", simulated_scan(count=24))
    (folder / "other.onnx").write_bytes(ptychonn(N=32, batch=2).SerializeToString())
    return folder


def _read(output: Output, folder: Path, line: str) -> dict[str, Any]:
    """What a command line prints, in which names of files lie in the folder."""
    output.readouterr()
    words = [str(folder / word) if word.endswith((".onnx", ".npz", ".h5", "_run")) else word for word in line.split()]
    assert main([*words, "--json"]) == 0
    read: dict[str, Any] = json.loads(output.readouterr().out, parse_constant=pytest.fail)
    return read


@pytest.mark.parametrize(
    "verb, line",
    [
        ("inspect", "inspect bundle.onnx"),
        ("verify", "verify bundle.onnx"),
        ("simulate", "simulate --object scan.npz --probe scan.npz --count 4 -o simulated.npz"),
        ("reconstruct", "reconstruct bundle.onnx --data scan.npz -o result.h5"),
        ("export --graph autoencoder", "export bundle.onnx --graph autoencoder -o autoencoder.onnx"),
        ("export --profile", "export bundle.onnx --profile ptychovit --batch 2 -o vit.onnx"),
        (
            "adopt",
            "adopt other.onnx -o a.onnx --system ptychonn --zero-frequency centre --scale factor=1 --mean-photons unknown",
        ),
    ],
)
def test_the_keys_are_those_that_are_documented(capsys: Output, folder: Path, verb: str, line: str) -> None:
    assert set(_read(capsys, folder, line)) == _promised()[verb] - {"run"}


@pytest.mark.slow
def test_the_keys_of_a_run_are_those_that_are_documented(capsys: Output, folder: Path) -> None:
    settings = " ".join(f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items())
    trained = _read(capsys, folder, f"train --backend torch --data scan.npz -o trained_run {settings}")
    assert set(trained) == _promised()["train"]
    assert Path(trained["bundle"]).exists()
    assert set(_read(capsys, folder, "export trained_run -o exported.onnx")) == _promised()["export"]
    assert set(_read(capsys, folder, "import bundle.onnx --backend torch -o imported_run")) == _promised()["import"]
    assert set(_read(capsys, folder, "inspect trained_run")) == _promised()["inspect"]


def test_the_page_lists_every_verb() -> None:
    page = PAGE.read_text(encoding="utf-8").split("## Options of every verb")[0]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(VERBS)
