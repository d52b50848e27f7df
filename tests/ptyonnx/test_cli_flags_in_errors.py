"""What a library says about its parameters names the verb's flags."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ptyonnx.cli.verb import Verb
from ptyonnx_bundles.errors import SettingsError


@pytest.mark.parametrize(
    "said, shown",
    [
        ('declare them: values="intensity"', "declare them: --values intensity"),
        ("give it more time: limit_s=600; else", "give it more time: --limit-s 600; else"),
        ("give it more time: limit_s=0.5.", "give it more time: --limit-s 0.5."),
        ("lower the rate (--set rate=0.1)", "lower the rate (--set rate=0.1)"),
        ("set other=3", "set other=3"),
    ],
)
def test_parameters_are_named_as_flags(said: str, shown: str) -> None:
    @click.command(cls=Verb)
    @click.option("--values")
    @click.option("--limit-s")
    @click.option("--rate")
    def verb(**_: object) -> None:
        raise SettingsError("wrong", remedy=said)

    assert shown in CliRunner().invoke(verb).output
