"""All errors that a user can cause, in one hierarchy.

::

    PtyonnxError                    one line for the user; the command line exits with code 2
    ├── ScanError                   measured data that cannot be used
    ├── ObjectError                 an object, probe or image file that cannot be used
    ├── SettingsError               a setting, flag or configuration key
    ├── BundleError                 not a bundle, or a damaged one
    │   ├── ProtocolError           a bundle of another protocol than this version reads
    │   └── DigestError             weights or graph differ from what the manifest says
    ├── RunError                    a run directory that cannot be used
    ├── OutputError                 a result that could not be written
    ├── TrainingError               training that cannot lead to a usable network
    │   ├── CollapseError           a head of the network no longer depends on its input
    │   └── DivergenceError         NaN or infinity in the loss
    ├── ConversionError             an exported graph that is not the native network
    ├── ProviderError               an execution provider that this machine does not have
    ├── NotFiniteError              a network whose output for a pattern is NaN or infinite
    ├── MissingDependencyError      an optional package is not installed
    └── WorkerError                 a child process that crashed or did not answer

The parts of an error may come from an untrusted file, so its line is made safe for a terminal: control
characters are escaped, and long values are shortened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ptyonnx_bundles.terminal import escape_unprintable

if TYPE_CHECKING:
    from os import PathLike

    from pydantic import ValidationError

__all__ = [
    "BundleError",
    "CollapseError",
    "ConversionError",
    "DigestError",
    "DivergenceError",
    "MissingDependencyError",
    "NotFiniteError",
    "ObjectError",
    "OutputError",
    "ProtocolError",
    "ProviderError",
    "PtyonnxError",
    "RunError",
    "ScanError",
    "SettingsError",
    "TrainingError",
    "WorkerError",
]

LONGEST_PART = 300  # characters; enough for a shape, a list of names or a sentence


class PtyonnxError(Exception):
    """An error that the user can correct, reported in one line.

    Parameters
    ----------
    problem : str
        What is wrong, without a final full stop.
    file : path-like, optional
        The file in which it was found.
    key : str, optional
        The array, setting or member concerned.
    found, expected : str, optional
        The actual and the required value.
    remedy : str, optional
        What the user can do.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | PathLike[str] | None = None,
        key: str | None = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.key = key
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        place = ": ".join(
            part
            for part in (self.file and escape_unprintable(self.file), self.key and f"'{_shorten(self.key)}'")
            if part
        )
        sentence = _shorten(self.problem)
        if self.found is not None:
            sentence += f", found {_shorten(self.found)}"
        if self.expected is not None:
            sentence += f", expected {_shorten(self.expected)}"
        if self.remedy is not None:
            sentence += f"; {_shorten(self.remedy)}"
        return f"{place}: {sentence}" if place else sentence

    @classmethod
    def from_validation(
        cls, error: ValidationError, *, file: str | PathLike[str] | None = None, key: str | None = None
    ) -> Self:
        """Convert the first fault of a validation to an error of one line.

        Parameters
        ----------
        error : pydantic.ValidationError
            Raised by a model whose values come from a user or a file.
        file : path-like, optional
            The file that holds the values.
        key : str, optional
            Key of the error if the fault concerns no single field.
        """
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or key
        if first["type"] == "missing":
            return cls("missing", file=file, key=field)
        if first["type"] == "extra_forbidden":
            return cls("no such key", file=file, key=field)
        value = first["input"]
        shown = repr(value) if first["loc"] and isinstance(value, bool | int | float | str) else None
        problem = first["msg"]
        if first["type"] == "value_error":
            problem = problem.removeprefix("Value error, ")
        else:
            problem = problem[:1].lower() + problem[1:]
        return cls(problem, file=file, key=field, found=shown)


def _shorten(part: object) -> str:
    text = " ".join(str(part).split())
    return escape_unprintable(text if len(text) <= LONGEST_PART else text[: LONGEST_PART - 1] + "…")


class ScanError(PtyonnxError):
    """Measured data that cannot be used as they are."""


class ObjectError(PtyonnxError):
    """An object, probe or image file that cannot be used."""


class SettingsError(PtyonnxError):
    """A setting, flag or configuration key that does not exist or has an unusable value."""


class BundleError(PtyonnxError):
    """A file that is not a bundle, or a damaged one."""


class ProtocolError(BundleError):
    """A bundle whose protocol this version does not read."""


class DigestError(BundleError):
    """Weights or graph that differ from the digests in the manifest."""


class RunError(PtyonnxError):
    """A run directory that is missing, unfinished or not one of ptyonnx."""


class OutputError(PtyonnxError):
    """A result that could not be written; an earlier file of that name is unchanged."""


class TrainingError(PtyonnxError):
    """Training that cannot lead to a usable network."""


class CollapseError(TrainingError):
    """A head of the network no longer depends on its input."""


class DivergenceError(TrainingError):
    """The loss became NaN or infinite."""


class ConversionError(PtyonnxError):
    """An exported graph that does not compute what the native network computes."""


class ProviderError(PtyonnxError):
    """An execution provider that is unknown or absent on this machine."""


class NotFiniteError(PtyonnxError):
    """A network whose output for a pattern is NaN or infinite."""


class MissingDependencyError(PtyonnxError):
    """An optional package that is not installed."""


class WorkerError(PtyonnxError):
    """A child process that crashed or did not answer in time."""
