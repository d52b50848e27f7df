"""Checkpoints of a run, which stay consistent if the process is killed.

Three files are written after every epoch, each atomically, in this order:

1. `history.csv`, with a line for the epoch;
2. `checkpoints/last.safetensors`: weights, probe and the state of the optimiser, and the epoch's number.
   The epoch counts from this moment; lines of the history beyond it are ignored;
3. `checkpoints/best.safetensors`, if the epoch is the best so far. Until the next epoch it equals `last`
   and is read from there.

The files are safetensors. Their metadata contain a digest of all other contents, so that damage is detected.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from ptyonnx.runs.history import best_epoch, read_history, write_history
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.errors import RunError
from ptyonnx_bundles.files.input_files import check_regular_file

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "LoadedCheckpoint",
    "Snapshot",
    "State",
    "committed_rows",
    "epoch_of",
    "load",
    "path_of",
    "reconcile",
    "resume_error",
    "save",
    "save_epoch",
]

Checkpoint = Literal["last", "best"]
CHECKPOINTS: tuple[Checkpoint, ...] = ("last", "best")

_PROBE = ("probe.real", "probe.imag")
_STATE = "state."
_FACTS = "ptyonnx"  # the entry of the metadata
_OF_OLDER_VERSIONS = ("last.ckpt", "best.ckpt", "last", "best")  # the frameworks' own files and folders


class State(NamedTuple):
    """What a framework needs besides the weights to resume a training.

    Attributes
    ----------
    arrays : dict of str to ndarray
    outline : str
        Structure of the arrays, in the framework's own terms.
    """

    arrays: dict[str, NDArray[np.generic]]
    outline: str = ""


class Snapshot(NamedTuple):
    """A network at the end of an epoch.

    Attributes
    ----------
    weights : dict of str to ndarray
        Canonical names, float32.
    probe : (mode, N, N) complex64, sqrt(photons)
    state : State
    """

    weights: Mapping[str, NDArray[np.float32]]
    probe: NDArray[np.complex64]
    state: State = State({})


class LoadedCheckpoint(NamedTuple):
    """A snapshot and its number of epochs; None in files of older versions, and without a training."""

    snapshot: Snapshot
    epoch: int | None


def save(path: Path, snapshot: Snapshot, epoch: int | None = None) -> None:
    """Write a checkpoint, atomically.

    Raises
    ------
    OutputError
    """
    arrays = {name: np.array(array, "<f4", order="C") for name, array in snapshot.weights.items()}
    for name, part in zip(_PROBE, (snapshot.probe.real, snapshot.probe.imag), strict=True):
        arrays[name] = np.array(part, "<f4", order="C")
    arrays |= {_STATE + name: np.array(array, order="C") for name, array in snapshot.state.arrays.items()}
    facts = {"epoch": epoch, "outline": snapshot.state.outline}
    facts["digest"] = _digest(arrays, facts)
    with contextlib.suppress(OSError):  # the writer reports it
        path.parent.mkdir(exist_ok=True)
    # one entry: the library writes several in random order, but equal epochs must give equal files
    atomic_write(path, save_tensors(arrays, {_FACTS: json.dumps(facts)}))


def load(path: Path) -> LoadedCheckpoint:
    """Read a checkpoint.

    Raises
    ------
    RunError
        Missing, damaged, or without a probe.
    """
    arrays, facts = _read(path)
    if facts and facts.pop("digest", None) != _digest(arrays, facts):
        raise _damaged(path)
    try:
        real, imag = (arrays.pop(name) for name in _PROBE)
        epoch, outline = facts.get("epoch"), str(facts.get("outline", ""))
        probe = np.empty(real.shape, np.complex64)
        with np.errstate(over="ignore", invalid="ignore"):
            probe.real, probe.imag = real, imag
    except (KeyError, ValueError, TypeError):
        raise _damaged(path) from None
    if not np.isfinite(probe).all():
        raise _damaged(path)
    state = {name.removeprefix(_STATE): array for name, array in arrays.items() if name.startswith(_STATE)}
    weights = {name: array.astype("<f4") for name, array in arrays.items() if not name.startswith(_STATE)}
    return LoadedCheckpoint(Snapshot(weights, probe, State(state, outline)), epoch)


def save_epoch(directory: Path, rows: Sequence[Mapping[str, float]], snapshot: Snapshot) -> None:
    """Save a complete epoch, the last of `rows`.

    Parameters
    ----------
    directory : Path
        Of the run.
    rows : sequence of mappings
        The history.
    snapshot : Snapshot

    Raises
    ------
    OutputError
    """
    write_history(directory / "history.csv", rows)
    save(path_of(directory, "last"), snapshot, len(rows))
    if best_epoch(rows) == len(rows) - 1:
        save(path_of(directory, "best"), snapshot, len(rows))


def committed_rows(directory: Path, epoch: int | None) -> list[dict[str, float]]:
    """The history up to the last checkpoint.

    Parameters
    ----------
    directory : Path
        Of the run.
    epoch : int, optional
        Of the checkpoint; None: all lines.

    Raises
    ------
    RunError
        Not a history, or shorter than the checkpoint.
    """
    path = directory / "history.csv"
    rows = read_history(path)
    if epoch is None:
        return rows
    if len(rows) < epoch:
        raise RunError(
            "the history is shorter than the checkpoint", file=path, found=f"{len(rows)} epochs",
            expected=f"{epoch}", remedy="train again into another directory",
        )  # fmt: skip
    return rows[:epoch]


def reconcile(directory: Path, last: LoadedCheckpoint) -> list[dict[str, float]]:
    """Make the other files consistent with the last checkpoint, and return the history.

    Raises
    ------
    RunError, OutputError
    """
    rows = committed_rows(directory, last.epoch)
    if not rows:
        return rows
    write_history(directory / "history.csv", rows)
    if best_epoch(rows) == len(rows) - 1 and epoch_of(path_of(directory, "best")) != len(rows):
        save(path_of(directory, "best"), last.snapshot, len(rows))
    for name in _OF_OLDER_VERSIONS:
        path = directory / "checkpoints" / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return rows


def path_of(directory: Path, which: Checkpoint) -> Path:
    """The file of a checkpoint."""
    return directory / "checkpoints" / f"{which}.safetensors"


def epoch_of(path: Path) -> int | None:
    """Number of epochs of a checkpoint; None if it is missing or does not state it.

    Raises
    ------
    RunError
        Damaged.
    """
    if not path.exists():
        return None
    epoch: int | None = _read(path, facts_only=True)[1].get("epoch")
    return epoch


def _read(path: Path, *, facts_only: bool = False) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
    """Arrays and metadata of a file; files of older versions have no metadata."""
    check_regular_file(path, RunError, "train again")
    try:
        with safe_open(path, framework="numpy") as file:
            names = () if facts_only else file.keys()
            facts = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
            if not (isinstance(facts, dict) and isinstance(facts.get("epoch"), int | None)):
                raise _damaged(path)
            return {name: file.get_tensor(name) for name in names}, facts
    except OSError as error:
        raise RunError(
            f"cannot be read ({error.strerror or 'no such file'})", file=path,
            remedy="the run has no checkpoint yet: train first",
        ) from None  # fmt: skip
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError):  # raised for unknown dtypes
        raise _damaged(path) from None


def resume_error(directory: Path, error: Exception, path: Path | None = None) -> RunError:
    """An error that a framework cannot resume from a checkpoint, with the first line of its message."""
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return RunError(
        f"the training cannot be resumed ({reason})", file=path or path_of(directory, "last"),
        remedy="the file is damaged, or of another version of the framework: train again",
    )  # fmt: skip


def _damaged(path: Path) -> RunError:
    return RunError("not weights of a run", file=path, remedy="the file is damaged: train again")


def _digest(arrays: Mapping[str, NDArray[np.generic]], facts: Mapping[str, Any]) -> str:
    """SHA-256 of the metadata and of the names, types, shapes and values of all arrays."""
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
