"""The run directory: what a training leaves behind, readable without any framework.

run/
  settings.yaml               settings as resolved
  run.json                    backend, data, physics, state, where the last bundle was written
  history.csv                 one line per epoch
  checkpoints/
    best.safetensors          canonical weights and probe of the best epoch
    last.safetensors          the same, of the last
    initial.safetensors       the same of the bundle that the training began with, if it did
    …                         the framework's own checkpoints, from which `--resume` goes on
  bundle.onnx                 what was exported

A run that `ptyonnx import` made has weights and no history: its state is "imported".
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ptyonnx.history import best_epoch, read_history, summary
from ptyonnx.settings import Settings
from ptyonnx.strict_yaml import read_yaml
from ptyonnx_bundles import (
    Manifest,
    Physics,
    Producer,
    Recipe,
    TrainingData,
    atomic_write,
    check_directory,
    make_folder,
)
from ptyonnx_bundles.errors import BundleError, OutputError, RunError
from ptyonnx_bundles.regular import read_text

__all__ = [
    "Checkpoint",
    "Record",
    "Run",
    "check_room",
    "exported_bundle",
    "load_weights",
    "make_directory",
    "make_room",
    "save_weights",
    "standing_parts",
]

_NO_RUN = "name a directory that 'ptyonnx train' made"
_LARGEST_RECORD_BYTES = 2**22  # a manifest of 1 MiB is the largest that is part of it
_PARTS = ("checkpoints", "history.csv", "bundle.onnx", "settings.yaml", "run.json")

State = Literal["training", "interrupted", "failed", "complete", "imported"]
Checkpoint = Literal["last", "best"]


class Record(BaseModel):
    """What `run.json` holds; `initial` is the manifest of the bundle that the weights came from, if they did."""

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


@dataclass(frozen=True)
class Run:
    """A run directory and what stands in it.

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
        return cls(directory, _record(directory / "run.json"), _settings(directory / "settings.yaml"))

    def write(self, **changes: Any) -> Run:
        """Write the run's files, with the given fields of the record changed."""
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

    def metrics(self, which: Checkpoint = "last") -> dict[str, float]:
        """Figures of the last or the best epoch; empty before the first is complete."""
        rows = self.history
        return summary(rows[-1 if which == "last" else best_epoch(rows)]) if rows else {}

    @property
    def bundle(self) -> Path | None:
        """The bundle in the run, or else the one that was last exported elsewhere, if there is one."""
        own = self.directory / "bundle.onnx"
        return own if own.is_file() else self.record.bundle

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.directory / "checkpoints"

    @property
    def history_path(self) -> Path:
        """The history, CSV."""
        return self.directory / "history.csv"

    @property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch, oldest first."""
        return read_history(self.history_path)

    def weights(self, which: Checkpoint = "last") -> dict[str, NDArray[np.float32]]:
        """Canonical weights, including the whitening constants."""
        return load_weights(self.checkpoints / f"{which}.safetensors")[0]

    def probe(self, which: Checkpoint = "last") -> NDArray[np.complex64]:
        """(mode, N, N) complex64, sqrt(photons): the probe that the weights were trained with."""
        return load_weights(self.checkpoints / f"{which}.safetensors")[1]


def check_room(directory: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Refuse where a run stands that must not be replaced.

    Parameters
    ----------
    directory : Path
    overwrite : bool
        A run that stands there may go.
    source : Path, optional
        A bundle that the new run comes from: it must not go with an older run.

    Raises
    ------
    RunError
        A run stands there and is not to be replaced, or the bundle lies in it.
    """
    if source is not None and _goes_with(directory.resolve(), source.resolve()):
        raise RunError(
            "holds the bundle that the new run comes from", file=directory, found=source.name,
            remedy="name another directory (-o)",
        )  # fmt: skip
    if not overwrite and (directory / "run.json").exists():
        raise RunError(
            "holds a run already", file=directory,
            remedy="go on with it (--resume, resume=True), replace it (--overwrite, overwrite=True) "
            "or name another directory (-o)",
        )  # fmt: skip


def _goes_with(directory: Path, source: Path) -> bool:
    """Whether a file would go with a run, or in its turn be replaced by the new run's bundle."""
    return source.parent == directory or source.is_relative_to((directory / "checkpoints").resolve())


def make_room(directory: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Remove the files of a run that stands there, and nothing else; parameters and errors of :func:`check_room`.

    Afterwards the directory is there, with an empty folder for checkpoints.
    """
    check_room(directory, overwrite=overwrite, source=source)
    check_directory(directory)
    for part in standing_parts(directory):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    make_directory(directory)


def make_directory(directory: Path) -> None:
    """Make the directory of a run, and the folder above it where only its last part is missing.

    Raises
    ------
    OutputError
        More is missing, or a file stands in the way.
    """
    target = directory.resolve()
    try:
        make_folder(target.parent, directory)
        (target / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError.unwritable(directory, error) from None


def standing_parts(directory: Path) -> list[Path]:
    """Files and folders of the run that stands in a directory, its record last; none where there is no run."""
    if not (directory / "run.json").exists():
        return []
    parts = [directory / name for name in _PARTS]
    return [part for part in parts if part.is_symlink() or part.exists()]


def save_weights(path: Path, weights: Mapping[str, NDArray[np.float32]], probe: NDArray[np.complex64]) -> None:
    """Write canonical weights and the probe as safetensors, atomically."""
    arrays = {**weights, "probe.real": probe.real, "probe.imag": probe.imag}
    atomic_write(path, save_tensors({name: np.array(array, "<f4", order="C") for name, array in arrays.items()}))


def load_weights(path: Path) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.complex64]]:
    """Read what :func:`save_weights` wrote.

    Raises
    ------
    RunError
        Missing, damaged, or without a probe.
    """
    try:
        arrays = load_tensors(path.read_bytes())
        probe = arrays.pop("probe.real") + 1j * arrays.pop("probe.imag")
    except OSError as error:
        raise RunError(
            f"cannot be read ({error.strerror})", file=path, remedy="the run has no checkpoint yet: train first"
        ) from None
    except (SafetensorError, KeyError):
        raise RunError("not weights of a run", file=path, remedy="the file is damaged: train anew") from None
    return arrays, probe.astype(np.complex64)


def exported_bundle(path: Path) -> Path:
    """Give the bundle of a run directory, or the path itself where it is no directory.

    Raises
    ------
    BundleError
        The run has no bundle yet.
    RunError
        Not a run directory.
    """
    if not path.is_dir():
        return path
    exported = Run.open(path).bundle
    if exported is None:
        raise BundleError("the run has no bundle yet", file=path, remedy=f"make one: ptyonnx export {path}")
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
    except ValidationError as error:
        raise RunError.from_validation(error, file=path) from None
