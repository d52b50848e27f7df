"""Errors: one tree, one line each, safe to print."""

from __future__ import annotations

import pickle
import re

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptyonnx_bundles import errors
from ptyonnx_bundles.errors import BundleError, PtyonnxError, ScanError, SettingsError

CLASSES = [getattr(errors, name) for name in errors.__all__]


def drawn_tree() -> dict[str, str | None]:
    """Class -> parent, from the drawing above the classes."""
    parents: dict[str, str | None] = {}
    branch: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            branch = [*branch[:depth], found[2]]
            parents[found[2]] = branch[depth - 1] if depth else None
    return parents


def test_the_drawing_shows_every_class_under_its_parent() -> None:
    actual = {one.__name__: one.__base__.__name__ for one in CLASSES}
    actual["PtyonnxError"] = None
    assert drawn_tree() == actual


def test_all_names_are_listed_and_sorted() -> None:
    defined = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert sorted(defined) == errors.__all__


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_says_all_its_parts_in_one_line(error: type[PtyonnxError]) -> None:
    said = str(
        error("wrong\nsize", file="scan.npz", key="probe", found=(3, 4), expected="(mode, N, N)", remedy="crop\tit")
    )
    assert said == "scan.npz: 'probe': wrong size, found (3, 4), expected (mode, N, N); crop it"


def test_parts_that_are_absent_leave_no_trace() -> None:
    assert str(ScanError("no patterns")) == "no patterns"
    assert str(ScanError("no patterns", key="diffraction")) == "'diffraction': no patterns"
    assert str(ScanError("empty", file="a.npz", found=0)) == "a.npz: empty, found 0"


def test_spaces_in_file_names_stay() -> None:
    assert str(ScanError("missing", file="my  scans/a  b.npz")) == "my  scans/a  b.npz: missing"


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;owned\x07", "a\r\nb", "\u202ereversed", "\x00"])
def test_what_a_file_says_cannot_command_the_terminal(text: str) -> None:
    error = BundleError(text, file=text, key=text, found=text, expected=text, remedy=text)
    assert str(error).isprintable()


def test_letters_of_other_languages_stay() -> None:
    assert str(ScanError("fehlt", file="Prüfling_Ω.npz")) == "Prüfling_Ω.npz: fehlt"


def test_long_values_are_cut() -> None:
    assert len(str(BundleError("wrong", key="k" * 10**6, found="x" * 10**6))) < 1000


def test_errors_survive_the_way_between_processes() -> None:
    error = BundleError("wrong", file="a.onnx", key="probe", found=1, expected=2, remedy="mend it")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), copy.remedy) == (BundleError, str(error), "mend it")


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(ge=1)
    inner: dict[str, int] = Field(default_factory=dict)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"epochs": 0}, "c.yaml: 'epochs': input should be greater than or equal to 1, found 0"),
        ({"epochs": "many"}, "c.yaml: 'epochs': input should be a valid integer, unable to parse string as an integer, found 'many'"),
        ({}, "c.yaml: 'epochs': missing"),
        ({"epochs": 1, "epoch": 2}, "c.yaml: 'epoch': no such key"),
        ({"epochs": 1, "inner": {"a": "b"}}, "c.yaml: 'inner.a': input should be a valid integer, unable to parse string as an integer, found 'b'"),
    ],
)  # fmt: skip
def test_a_validation_becomes_one_line(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Model.model_validate(values)
    error = SettingsError.from_validation(raised.value, file="c.yaml")
    assert isinstance(error, SettingsError)
    assert str(error) == said
