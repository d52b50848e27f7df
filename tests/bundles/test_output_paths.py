"""Paths of outputs: the last folder is created and logged, more is refused, and names must be UTF-8."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from ptyonnx_bundles import atomic_write, check_directory, check_name, check_writable
from ptyonnx_bundles.errors import BundleError, OutputError

Log = pytest.LogCaptureFixture


def test_the_last_folder_is_made_and_mentioned_once(tmp_path: Path, caplog: Log) -> None:
    with caplog.at_level(logging.WARNING):
        for name in ("a.h5", "b.h5"):
            atomic_write(tmp_path / "new" / name, b"content")
    (said,) = caplog.messages
    assert str(tmp_path / "new") in said
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.h5", "b.h5"]


@pytest.mark.parametrize("check", [check_writable, lambda path: atomic_write(path, b"content")])
def test_more_than_the_last_folder_is_refused_and_nothing_is_made(tmp_path: Path, check: object) -> None:
    path = tmp_path / "deep" / "deeper" / "result.h5"
    with pytest.raises(OutputError) as caught:
        check(path)  # type: ignore[operator]
    assert caught.value.file == str(path)
    assert f"mkdir -p {path.parent}" in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_check_makes_nothing_and_says_nothing(tmp_path: Path, caplog: Log) -> None:
    check_writable(tmp_path / "new" / "result.h5")
    check_directory(tmp_path / "runs" / "run")
    assert caplog.messages == []
    assert list(tmp_path.iterdir()) == []


def test_a_directory_may_have_a_missing_folder_above_but_not_two(tmp_path: Path) -> None:
    check_directory(tmp_path)
    check_directory(tmp_path / "run")
    with pytest.raises(OutputError):
        check_directory(tmp_path / "some" / "runs" / "run")


def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "file" / "some" / "run"):
        with pytest.raises(OutputError) as caught:
            check_directory(path)
        assert caught.value.file == str(path)


def test_the_folder_that_counts_is_the_one_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away" / "result.h5")
    with pytest.raises(OutputError):
        check_writable(tmp_path / "link")
    (tmp_path / "near").symlink_to(tmp_path / "far" / "result.h5")
    atomic_write(tmp_path / "near", b"content")
    assert (tmp_path / "far" / "result.h5").read_bytes() == b"content"


@pytest.mark.parametrize("path", [b"r\xff.h5", b"fold\xffer/r.h5"])
def test_a_name_that_is_not_utf_8_is_refused_where_it_is_written_and_where_it_is_read(
    tmp_path: Path, path: bytes
) -> None:
    name = tmp_path / os.fsdecode(path)
    for check in (check_writable, check_directory):
        with pytest.raises(OutputError, match=r"\\udcff"):
            check(name)
    with pytest.raises(BundleError):
        check_name(name, BundleError)


def test_a_name_below_a_folder_that_is_not_utf_8_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(OutputError):
        check_writable("result.h5")


def test_names_of_every_script_are_text(tmp_path: Path) -> None:
    check_writable(tmp_path / "Größe 大小 😀.h5")
