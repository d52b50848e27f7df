"""What the shell offers after Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ptyonnx.backends import ALIASES
from ptyonnx.backends.engines import canonical_engine
from ptyonnx.cli import VERBS, main
from ptyonnx.cli.completion import WORDS
from ptyonnx.exchange.profiles import PROFILES
from ptyonnx.simulation.positions import KINDS
from ptyonnx_bundles.zero_frequency import PLACES
from ptyonnx_converters.foreign.declaration import _TRANSFORMS
from ptyonnx_converters.foreign.presets import SYSTEMS
from ptyonnx_runtime.flux import FLUX_CHOICES
from ptyonnx_runtime.inference.onnx_session import PROVIDERS
from ptyonnx_runtime.inference.options import PhaseChoice

Output = pytest.CaptureFixture[str]


def _offered(output: Output, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What the shell offers for the last word: type and value, joined by a comma."""
    monkeypatch.setenv("_PTYONNX_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["ptyonnx", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        main([])
    return output.readouterr().out.split()


@pytest.mark.parametrize(
    "words, offered",
    [
        (("",), {f"plain,{verb}" for verb in VERBS}),
        (("tra",), {"plain,train"}),
        (("train", "--grid"), {"plain,--gridsize"}),
        (("train", "--loss", ""), {"plain,poisson", "plain,amplitude_mse", "plain,amplitude_mae"}),
        (("train", "--backend", "t"), {"plain,tensorflow", "plain,tf", "plain,torch"}),
        (("train", "--data", "s"), {"file,s"}),
        (("train", "--train-probe", "t"), {"plain,true"}),
        (("export", "--graph", "a"), {"plain,autoencoder"}),
        (("reconstruct", "--engine", "o"), {"plain,onnxruntime"}),
        (("simulate", "--positions", "r"), {"plain,raster", "plain,random"}),
        (("simulate", "--positions", "scan"), {"file,scan"}),
        (("diff", "a"), {"file,a"}),
        (("verify", "--qu"), {"plain,--quiet"}),
    ],
)
def test_the_shell_offers_verbs_options_words_and_files(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], offered: set[str]
) -> None:
    assert set(_offered(capsys, monkeypatch, *words)) == offered


def test_offered_words_are_those_that_the_libraries_accept() -> None:
    assert set(WORDS["backend"]) == set(ALIASES)
    assert [canonical_engine(name) for name in WORDS["engine"]] == ["onnxruntime", "tensorflow", "pytorch"]
    assert set(WORDS["provider"]) == {"auto", *PROVIDERS}
    assert set(WORDS["zero_frequency"]) == set(PLACES.values())
    assert set(WORDS["flux"]) == set(FLUX_CHOICES)
    assert set(WORDS["phases"]) == set(PhaseChoice.__args__)  # type: ignore[attr-defined]
    assert set(WORDS["positions"]) == set(KINDS)
    assert set(WORDS["system"]) == set(SYSTEMS)
    assert set(WORDS["profile"]) == set(PROFILES)
    assert set(WORDS["transform"]) == set(_TRANSFORMS)


def test_bash_completes_after_the_line_of_the_documentation(tmp_path: Path) -> None:
    """The whole way: the script that is sourced, bash's variables, and the reply."""
    program = tmp_path / "ptyonnx"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ptyonnx "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = """
    eval "$(_PTYONNX_COMPLETE=bash_source ptyonnx)"
    complete -p ptyonnx
    COMP_WORDS=(ptyonnx verify --prov); COMP_CWORD=2
    _ptyonnx_completion ptyonnx
    echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    outcome = subprocess.run(
        [str(shutil.which("bash")), "--norc", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )  # fmt: skip
    registered, reply = outcome.stdout.splitlines()
    assert registered.endswith("_ptyonnx_completion ptyonnx")
    assert reply == "--provider"
