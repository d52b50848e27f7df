"""The history of a training: a CSV file with one line per epoch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import RunError

__all__ = ["best_epoch", "read_history", "summary", "write_history"]

_LEAST_IMPROVEMENT = 1e-6  # relative: less is rounding


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs of a training, oldest first; empty where there is no history yet.

    Raises
    ------
    RunError
        Not a history.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise RunError(f"not a training history ({error})", file=path) from None


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write all epochs, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue().encode())


def best_epoch(rows: Sequence[Mapping[str, float]]) -> int:
    """Index of the first epoch with the lowest validation loss, -1 where there is none."""
    best, index = math.inf, -1
    for epoch, row in enumerate(rows):
        margin = _LEAST_IMPROVEMENT * abs(best) if math.isfinite(best) else 0.0
        if row["val_loss"] < best - margin:
            best, index = row["val_loss"], epoch
    return index


def summary(row: Mapping[str, float]) -> dict[str, float]:
    """The figures of one epoch that a manifest records."""
    return {key: row[key] for key in ("epoch", "loss", "r_factor", "val_loss", "val_r_factor")}
