"""A bad bundle is refused in one line by whoever is given it, before anything is computed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_factory import make_bundle
from hostile import CASES
from hostile.cases import SAMPLE
from refusal import refused

from ptyonnx.cli import main
from ptyonnx_bundles import write_bundle

Output = pytest.CaptureFixture[str]
SCAN = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"

# What the list of bad input names, each from the folder of hostile bundles; all of them are
# tried on the reader itself in tests/bundles.
NAMED = (
    "later_protocol",
    "no_protocol",
    "edited_weight",
    "edited_graph",
    "edited_manifest",
    "ordinary_model",
    "no_probe",
    "no_selftest",
    "external_data",
    "located_elsewhere",
    "missing_weight",
    "additional_weight",
    "renamed_weight",
    "weight_of_another_shape",
    "infinite_weight",
    "control_flow",
    "foreign_operator",
)


def commands(bundle: Path) -> dict[str, tuple[object, ...]]:
    return {
        "reconstruct": ("reconstruct", bundle, "--data", SCAN, "-o", "result.h5"),
        "inspect": ("inspect", bundle),
        "verify": ("verify", bundle),
        "diff": ("diff", SAMPLE, bundle),
        "diff with an engine": ("diff", f"{bundle}@torch", SAMPLE),
        "parity": ("parity", "--from", bundle),
        "import": ("import", bundle, "--backend", "tf", "-o", "run"),
        "train": ("train", "--from", bundle, "--backend", "torch", "--data", SCAN, "-o", "run"),
        "export": ("export", bundle, "--graph", "autoencoder", "-o", "autoencoder.onnx"),
        "reconstruct natively": ("reconstruct", bundle, "--data", SCAN, "-o", "result.h5", "--engine", "tf"),
        "simulate": ("simulate", "--object", SCAN, "--probe", bundle, "-o", "simulated.npz"),
    }


VERBS = tuple(commands(Path()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.h5").write_bytes(b"earlier work")
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("case", NAMED)
def test_a_bad_bundle_is_refused(capsys: Output, folder: Path, case: str, verb: str) -> None:
    damage, said = CASES[case]
    (folder / "bad.onnx").write_bytes(damage(SAMPLE.read_bytes()))
    line = refused(capsys, folder, *commands(Path("bad.onnx"))[verb])
    assert line.startswith("bad.onnx: ")
    assert said in line


@pytest.mark.parametrize("case", CASES)
def test_every_hostile_bundle_is_refused_by_reconstruct(capsys: Output, folder: Path, case: str) -> None:
    (folder / "bad.onnx").write_bytes(CASES[case][0](SAMPLE.read_bytes()))
    assert refused(capsys, folder, *commands(Path("bad.onnx"))["reconstruct"]).startswith("bad.onnx: ")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"no model", SAMPLE.read_bytes()[:4000]], ids=str)
def test_what_is_no_bundle_is_refused(capsys: Output, folder: Path, content: bytes, verb: str) -> None:
    (folder / "bad.onnx").write_bytes(content)
    assert refused(capsys, folder, *commands(Path("bad.onnx"))[verb]).startswith("bad.onnx: ")


@pytest.mark.parametrize("verb", VERBS)
def test_an_absent_bundle_is_refused(capsys: Output, folder: Path, verb: str) -> None:
    assert refused(capsys, folder, *commands(Path("absent.onnx"))[verb]).startswith("absent.onnx: cannot be read")


# What a stranger may have written into a sound bundle.

ESCAPES = "\x1b[2J\x1b]0;owned\x07 \x9b1mred\nptyonnx: error: forged \u202etxt"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_inspect_and_diff_show_a_strangers_text_without_obeying_it(capsys: Output, folder: Path) -> None:
    made = make_bundle(folder / "good.onnx")
    manifest = made.manifest
    strange = manifest.model_copy(
        update={
            "notes": ESCAPES,
            "licence": ESCAPES,
            "settings": {ESCAPES: ESCAPES},
            "metrics": {ESCAPES: 1.0},
            "training_data": manifest.training_data.model_copy(update={"name": ESCAPES}),
            "producer": manifest.producer.model_copy(update={"versions": {ESCAPES: ESCAPES}}),
        }
    )
    write_bundle(folder / "strange.onnx", made.model, strange, made.probe, made.selftest)
    for words in (("inspect", "strange.onnx"), ("diff", "good.onnx", "strange.onnx", "--verbose")):
        assert main(list(words)) == 0
        text = capsys.readouterr().out
        assert not CONTROL.search(text)
        assert r"\x1b[2J" in text
        assert not any(line.startswith("ptyonnx: error") for line in text.splitlines())
    assert main(["inspect", "strange.onnx", "--json"]) == 0
    text = capsys.readouterr().out
    assert not CONTROL.search(text)
    assert json.loads(text)["manifest"]["notes"] == ESCAPES


def test_verify_fails_a_bundle_that_computes_something_else(capsys: Output, folder: Path) -> None:
    made = make_bundle(folder / "good.onnx")
    wrong = replace(made.selftest, object=made.selftest.object + 1)
    write_bundle(folder / "wrong.onnx", made.model, made.manifest, made.probe, wrong)
    assert main(["verify", "wrong.onnx"]) == 1
    assert "FAILED" in capsys.readouterr().out
