"""A history is as large as a training can make it, and a file that is larger is not read."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ptyonnx.runs.history import read_history, write_history
from ptyonnx.settings import MOST_EPOCHS, Settings
from ptyonnx_bundles.errors import RunError

COLUMNS = ("epoch", "loss", "r_factor", "val_loss", "val_r_factor")
HEAD = ",".join(COLUMNS) + "\n"


def sparse(path: Path) -> None:
    path.write_text(HEAD)
    with path.open("r+") as file:
        file.truncate(2**40)


TOO_LARGE: dict[str, Callable[[Path], object]] = {
    "a terabyte": sparse,
    "many epochs": lambda path: path.write_text(HEAD + "1,1,1,1,1\n" * (MOST_EPOCHS + 1)),
    "many empty lines": lambda path: path.write_text(HEAD + "\n" * 2**25),
    "many columns": lambda path: path.write_text(HEAD[:-1] + "".join(f",{n}" for n in range(100)) + "\n"),
    "a long line": lambda path: path.write_text(HEAD + "1,1,1,1," + "1" * 100_000),
    "a number of many digits": lambda path: path.write_text(HEAD + "1,1,1,1," + "1" * 2**24),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_history_without_end_is_refused_before_it_fills_memory(tmp_path: Path, case: str) -> None:
    path = tmp_path / "history.csv"
    TOO_LARGE[case](path)
    tracemalloc.start()
    try:
        with pytest.raises(RunError) as caught:
            read_history(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (caught.value.file, "\n" in str(caught.value)) == (str(path), False)
    assert caught.value.remedy
    assert peak < 2**28  # the most that is read, twice, and as much for what it is taken apart into


def test_the_longest_training_has_a_history_that_can_be_read(tmp_path: Path) -> None:
    assert Settings(epochs=MOST_EPOCHS).epochs == MOST_EPOCHS
    widest = dict.fromkeys((*COLUMNS, "rate", "amplitude_spread", "phase_spread", "seconds"), -1.2345678901234568e-300)
    path = tmp_path / "history.csv"
    write_history(path, [{**widest, "epoch": 1}])
    head, line = path.read_text().splitlines(keepends=True)
    path.write_text(head + "".join(f"{epoch}{line[1:]}" for epoch in range(1, MOST_EPOCHS + 1)))
    assert path.stat().st_size < 2**26
    assert len(read_history(path)) == MOST_EPOCHS


def test_a_history_with_the_line_ends_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes((HEAD + "1,2,3,4,5\n").replace("\n", "\r\n").encode())
    assert read_history(path) == [dict(zip(COLUMNS, (1, 2, 3, 4, 5), strict=True))]


def test_no_history_is_an_empty_one(tmp_path: Path) -> None:
    assert read_history(tmp_path / "history.csv") == []
