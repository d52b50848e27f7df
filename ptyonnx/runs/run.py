"""The run directory: the results of a training, readable without any framework.

run/
  settings.yaml               settings as resolved
  run.json                    backend, data, physics, state, path of the last bundle
  history.csv                 one line per epoch
  checkpoints/
    best.safetensors          canonical weights and probe of the best epoch
    last.safetensors          the same of the last epoch, and the state of the optimiser, for resuming
    initial.safetensors       the same of the bundle that the training started from, if any
  bundle.onnx                 the exported bundle

A run made by `ptyonnx import` has weights, but no history and, until it is exported, no bundle; its state is
"imported". `ptyonnx.runs.checkpoints`
describes the order in which the files of an epoch are written, `ptyonnx.runs.folder` how one run replaces another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ptyonnx.runs.checkpoints import Checkpoint, committed_rows, epoch_of, load, path_of
from ptyonnx.runs.folder import complete_replacement
from ptyonnx.runs.history import best_epoch, summary
from ptyonnx.settings import Settings
from ptyonnx.settings.strict_yaml import read_yaml
from ptyonnx_bundles import Manifest, Physics, Producer, Recipe, TrainingData, atomic_write
from ptyonnx_bundles.errors import BundleError, RunError, SettingsError
from ptyonnx_bundles.files.input_files import read_text

__all__ = ["Checkpoint", "Record", "Run", "Trained", "exported_bundle"]

_NO_RUN = "name a directory that 'ptyonnx train' made"
_LARGEST_RECORD_BYTES = 2**22  # it may contain a manifest, of at most 1 MiB

State = Literal["training", "interrupted", "failed", "complete", "imported"]


class Record(BaseModel):
    """The contents of `run.json`; `initial` is the manifest of the bundle that the weights came from, if any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["pytorch", "tensorflow"]
    producer: Producer
    recipe: Recipe
    physics: Physics
    training_data: TrainingData
    state: State = "training"
    message: str = ""
    bundle: Path | None = None
    initial: Manifest | None = None


class Trained(NamedTuple):
    """The result of a training: metrics, weights and probe of the same epoch.

    Attributes
    ----------
    weights : dict of str to ndarray
        Canonical names, float32, including the two whitening constants.
    probe : (mode, N, N) complex64, sqrt(photons)
    metrics : dict of str to float
        Empty before the first epoch, and in a run that was imported.
    """

    weights: dict[str, NDArray[np.float32]]
    probe: NDArray[np.complex64]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run directory and its contents.

    Attributes
    ----------
    directory : Path
    record : Record
    settings : Settings
    """

    directory: Path
    record: Record
    settings: Settings

    @classmethod
    def open(cls, directory: Path | str) -> Run:
        """Read a run directory.

        Raises
        ------
        RunError
            Missing, or not a run directory.
        """
        directory = Path(directory)
        complete_replacement(directory)
        return cls(directory, _record(directory / "run.json"), _settings(directory / "settings.yaml"))

    def write(self, **changes: Any) -> Run:
        """Write settings and record, with the given fields of the record changed."""
        run = Run(self.directory, self.record.model_copy(update=changes), self.settings)
        text = yaml.safe_dump(self.settings.model_dump(mode="json"), sort_keys=False)
        atomic_write(self.directory / "settings.yaml", text.encode())
        atomic_write(self.directory / "run.json", (run.record.model_dump_json(indent=2) + "\n").encode())
        return run

    @property
    def backend(self) -> str:
        """Canonical name of the framework."""
        return self.record.backend

    @property
    def recipe(self) -> Recipe:
        """The network's recipe."""
        return self.record.recipe

    def trained(self, which: Checkpoint = "last") -> Trained:
        """Results of the last or the best epoch, also during a training.

        Raises
        ------
        RunError
            No epoch is complete yet, or a file is damaged.
        """
        saved = load(path_of(self.directory, "last"))
        rows = committed_rows(self.directory, saved.epoch)
        if which == "best" and (not rows or best_epoch(rows) != len(rows) - 1):  # otherwise both are the same epoch
            saved = load(path_of(self.directory, which))
            rows = rows[: best_epoch(rows) + 1] if saved.epoch is None else committed_rows(self.directory, saved.epoch)
        return Trained(dict(saved.snapshot.weights), saved.snapshot.probe, summary(rows[-1]) if rows else {})

    def metrics(self, which: Checkpoint = "last") -> dict[str, float]:
        """Metrics of the last or the best epoch; empty before the first epoch is complete."""
        rows = self.history
        return summary(rows[-1 if which == "last" else best_epoch(rows)]) if rows else {}

    @property
    def bundle(self) -> Path | None:
        """The bundle in the run directory, otherwise the last one exported elsewhere, or None."""
        own = self.directory / "bundle.onnx"
        return own if own.is_file() else self.record.bundle

    @property
    def is_partial(self) -> bool:
        """Whether the training was interrupted, or still runs."""
        return self.record.state in {"interrupted", "training"}

    @property
    def progress(self) -> str:
        """State of the run; of a partial one also the number of complete epochs."""
        if not self.is_partial:
            return self.record.state
        word = {"interrupted": "interrupted after", "training": "training, not complete:"}[self.record.state]
        return f"{word} {len(self.history)} of {self.settings.epochs} epochs"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.directory / "checkpoints"

    @property
    def history_path(self) -> Path:
        """Path of the history, a CSV file."""
        return self.directory / "history.csv"

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per complete epoch, oldest first."""
        return committed_rows(self.directory, epoch_of(path_of(self.directory, "last")))

    def weights(self, which: Checkpoint = "last") -> dict[str, NDArray[np.float32]]:
        """Canonical weights, including the whitening constants."""
        return self.trained(which).weights

    def probe(self, which: Checkpoint = "last") -> NDArray[np.complex64]:
        """(mode, N, N) complex64, sqrt(photons): the probe of the same epoch as the weights."""
        return self.trained(which).probe


def exported_bundle(path: Path) -> Path:
    """Return the path of a run directory's bundle, or the path itself if it is not a directory.

    Raises
    ------
    BundleError
        The run has no bundle yet, or its bundle was moved or removed.
    RunError
        Not a run directory.
    """
    if not path.is_dir():
        return path
    exported = Run.open(path).bundle
    if exported is None:
        raise BundleError("the run has no bundle yet", file=path, remedy=f"make one: ptyonnx export {path}")
    if not exported.exists():
        raise BundleError(
            "the bundle of the run was moved or removed", file=path, key="bundle", found=f"no file {exported}",
            remedy=f"give its new path, or make it again: ptyonnx export {path}",
        )  # fmt: skip
    return exported


def _record(path: Path) -> Record:
    text = read_text(path, RunError, _LARGEST_RECORD_BYTES, expected="the record of a run", remedy=_NO_RUN)
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise RunError.from_validation(error, file=path) from None


def _settings(path: Path) -> Settings:
    content = read_yaml(path, error=RunError, remedy=_NO_RUN).content
    try:
        return Settings.model_validate(content)
    except SettingsError as error:
        raise RunError(
            error.problem, file=path, key=error.key, found=error.found, expected=error.expected, remedy=error.remedy
        ) from None
    except ValidationError as error:  # not a mapping
        raise RunError.from_validation(error, file=path) from None
