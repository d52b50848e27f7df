"""`--json`, `--quiet` and `--verbose` mean the same in every verb."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import click
import numpy as np
import pytest
from bundle_factory import make_bundle
from click.testing import CliRunner, Result

from ptyonnx.cli import VERBS, commands, main
from ptyonnx.cli.output import answer, note, summary, verbosity
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb
from ptyonnx_bundles import Recipe

Output = pytest.CaptureFixture[str]
VALUES = {"file": Path("a.onnx"), "loss": math.nan, "bound": -math.inf, "count": np.int64(3), "shape": (2, 3)}


@click.command(cls=Verb)
@click.option("--asked", is_flag=True)
def verb(asked: bool) -> None:
    """Do what verbs do."""
    with stage("working"):
        note("a note")
        logging.getLogger("ptyonnx.some").warning("a warning")
        logging.getLogger("ptyonnx_runtime.some").info("for -v")
        logging.getLogger("ptyonnx_bundles.some").debug("for -vv")
    (answer if asked else summary)(VALUES, lambda: "a text")


def _invoke(*words: str) -> Result:
    return CliRunner().invoke(verb, list(words))


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_the_common_options(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert isinstance(command, Verb)
    context = click.Context(command)
    options = [option for param in command.get_params(context) for option in param.opts]
    assert {"--json", "-q", "--quiet", "-v", "--verbose", "--debug", "-h", "--help"} <= set(options)
    assert len(options) == len(set(options))


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_every_verb_has_the_common_options_last(capsys: Output, name: str) -> None:
    assert main([name, "--help"]) == 0
    own, common = capsys.readouterr().out.split("Common options:")
    assert "Example:" in own
    assert "\n  --json" not in own
    for option in ("--json", "-q, --quiet", "-v, --verbose", "--debug", "-h, --help"):
        assert option in common


def test_json_is_one_object_of_values_that_every_reader_knows() -> None:
    for words in (("--json",), ("--json", "--quiet"), ("--json", "--asked")):
        assert json.loads(_invoke(*words).stdout, parse_constant=pytest.fail) == {
            "file": "a.onnx", "loss": None, "bound": None, "count": 3, "shape": [2, 3],
        }  # fmt: skip


def test_quiet_leaves_what_was_asked_for() -> None:
    assert (_invoke("-q").stdout, _invoke("-q").stderr) == ("", "")
    assert (_invoke("--quiet", "--asked").stdout, _invoke("--quiet", "--asked").stderr) == ("a text\n", "")


def test_verbose_logs_stages_and_libraries() -> None:
    usual, once, twice = (_invoke(*words).stderr for words in ((), ("-v",), ("-vv",)))
    assert usual.splitlines() == ["note: a note", "note: a warning"]
    assert "info: for -v" in once
    assert "info: working: 0." in once
    assert "for -vv" not in once
    assert "debug: for -vv" in twice
    assert logging.getLogger("ptyonnx_bundles").level == logging.NOTSET


def test_quiet_and_verbose_contradict_each_other(capsys: Output) -> None:
    for words in (["verify", "-q", "-v", "a.onnx"], ["-q", "verify", "-v", "a.onnx"]):
        assert main(words) == 2
        assert "'--quiet, --verbose': contradict" in capsys.readouterr().err


def test_options_may_precede_the_verb(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "bundle.onnx", Recipe(N=32, filters_scale=0.0625)).path
    levels: list[int] = []
    monkeypatch.setattr("ptyonnx.cli.inspect._describe", lambda _: levels.append(verbosity()) or {})
    for words in (["-q", "inspect"], ["inspect"], ["-vv", "inspect"], ["inspect", "-v"]):
        main([*words, "--json", str(bundle)])
    assert levels == [-1, 0, 2, 1]
    assert "info: reading" in capsys.readouterr().err


def test_verify_and_inspect_answer_in_json(capsys: Output, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle.onnx", Recipe(N=32, filters_scale=0.0625)).path
    assert main(["verify", str(bundle), "--json", "--provider", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    assert main(["inspect", str(bundle), "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(bundle)
