"""The history of a training: a CSV file with one line per epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import RunError

__all__ = ["read_history", "summary", "write_history"]


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


def summary(row: Mapping[str, float]) -> dict[str, float]:
    """The figures of one epoch that a manifest records."""
    return {key: row[key] for key in ("epoch", "loss", "r_factor", "val_loss", "val_r_factor")}
