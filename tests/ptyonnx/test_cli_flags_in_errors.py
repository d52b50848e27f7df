"""What a library says about its parameters names the verb's flags."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from ptyonnx.cli.verb import Verb
from ptyonnx_bundles.errors import ScanError, SettingsError


@pytest.mark.parametrize(
    "said, shown",
    [
        ('declare them: values="intensity"', "declare them: --values intensity"),
        ("give it more time: limit_s=600; else", "give it more time: --limit-s 600; else"),
        ("give it more time: limit_s=0.5.", "give it more time: --limit-s 0.5."),
        ("lower the rate (--set rate=0.1)", "lower the rate (--set rate=0.1)"),
        ("lower the rate (rate=5e-05)", "lower the rate (--rate 5e-05)"),
        ("set other=3", "set other=3"),
        ("go on (resume=True), or not", "go on (--resume), or not"),
        ("give one: probe=…", "give one: --probe FILE"),
        ("declare values=amplitude|intensity, rate=NUMBER", "declare --values amplitude|intensity, --rate NUMBER"),
        ("a file called a-rate=3", "a file called a-rate=3"),
    ],
)
def test_parameters_are_named_as_flags(said: str, shown: str) -> None:
    @click.command(cls=Verb)
    @click.option("--values")
    @click.option("--limit-s")
    @click.option("--rate")
    @click.option("--resume", is_flag=True)
    @click.option("--probe", "probe_file", metavar="FILE")
    def verb(**_: object) -> None:
        raise SettingsError("wrong", remedy=said)

    assert shown in CliRunner().invoke(verb).output


@pytest.mark.parametrize(
    "key, shown",
    [("limit_s", "'--limit-s'"), ("limit_s, N", "'--limit-s, --size'"), ("limit_s, other", "'limit_s, other'")],
)
def test_a_parameter_that_is_wrong_is_named_as_a_flag(key: str, shown: str) -> None:
    @click.command(cls=Verb)
    @click.option("--limit-s")
    @click.option("--size")
    @click.option("--config")
    def verb(**_: object) -> None:
        raise SettingsError("wrong", key=key, file="given.yaml", found="limit_s=3")

    assert f"{shown}: wrong, found limit_s=3" in CliRunner().invoke(verb).output
    assert f"'{key}': wrong" in CliRunner().invoke(verb, ["--config", "given.yaml"]).output


def test_what_is_no_setting_keeps_its_name() -> None:
    @click.command(cls=Verb)
    @click.option("--probe")
    def verb(**_: object) -> None:
        raise ScanError("wrong", key="probe")

    assert "'probe': wrong" in CliRunner().invoke(verb).output
