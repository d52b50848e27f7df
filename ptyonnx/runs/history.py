"""The history of a training: a CSV file with one line per epoch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ptyonnx.settings import MOST_EPOCHS
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import RunError
from ptyonnx_bundles.files.input_files import read_text

__all__ = ["best_epoch", "read_history", "summary", "write_history"]

_LEAST_IMPROVEMENT = 1e-6  # relative; smaller changes are rounding
_FIGURES = ("epoch", "loss", "r_factor", "val_loss", "val_r_factor")  # written by every version
_LARGEST_BYTES = 2**26  # twice nine numbers of 20 characters for each of the most epochs
_MOST_COLUMNS = 16
_LONGEST_LINE = 2**12  # characters
_REMEDY = "the file is damaged: train again into another directory"


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs of a training, oldest first; empty if there is no history yet.

    Raises
    ------
    RunError
        Not a history, or too large for one.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        pass  # the reader reports the reason
    text = read_text(path, RunError, _LARGEST_BYTES, expected="the history of a training", remedy=_REMEDY)
    _check_size(path, text)
    try:
        table = csv.DictReader(text.split("\n"), strict=True)
        rows = [{key: float(value) for key, value in row.items()} for row in table]
    except (ValueError, TypeError, csv.Error) as error:
        raise RunError(f"not a training history ({error})", file=path, remedy=_REMEDY) from None
    for number, row in enumerate(rows, 1):
        for key in _FIGURES:
            if key not in row:
                raise RunError("not a training history: a column is missing", file=path, key=key, remedy=_REMEDY)
        if row["epoch"] != number:
            raise RunError(
                f"not a training history: line {number + 1} has another epoch", file=path, key="epoch",
                found=row["epoch"], expected=number, remedy=_REMEDY,
            )  # fmt: skip
    return rows


def _check_size(path: Path, text: str) -> None:
    """Refuse a table with more lines or columns than any training writes."""
    longest = max(map(len, text.split("\n", MOST_EPOCHS + 2)))
    for found, most, what in (
        (text.count("\n"), MOST_EPOCHS + 1, "lines"),
        (longest, _LONGEST_LINE, "characters in a line"),
        (text.partition("\n")[0].count(",") + 1, _MOST_COLUMNS, "columns"),
    ):
        if found > most:
            raise RunError(
                "not a training history", file=path, found=f"{found} {what}", expected=f"at most {most}", remedy=_REMEDY
            )


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write all epochs, atomically."""
    text = io.StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)  # rows of an older version may have fewer
    writer = csv.DictWriter(text, fieldnames=list(columns), restval=math.nan, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)
    atomic_write(path, text.getvalue().encode())


def best_epoch(rows: Sequence[Mapping[str, float]]) -> int:
    """Index of the first epoch with the lowest validation loss, -1 if there is none."""
    best, index = math.inf, -1
    for epoch, row in enumerate(rows):
        margin = _LEAST_IMPROVEMENT * abs(best) if math.isfinite(best) else 0.0
        if row["val_loss"] < best - margin:
            best, index = row["val_loss"], epoch
    return index


def summary(row: Mapping[str, float]) -> dict[str, float]:
    """The metrics of one epoch that a manifest records."""
    return {key: row[key] for key in _FIGURES}
