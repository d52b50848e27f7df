"""Every error that a user can cause, in one tree.

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
    │   ├── CollapseError           a head of the network stopped depending on its input
    │   └── DivergenceError         NaN or infinity in the loss
    ├── ConversionError             an exported graph that is not the native network
    ├── ProviderError               an execution provider that this machine does not have
    ├── NotFiniteError              a network that makes NaN or infinity of a pattern
    ├── MissingDependencyError      a package to install first
    └── WorkerError                 a child process that died or did not answer

What an error says may come from a stranger's file, so its line is made safe for a terminal:
control characters are shown as escapes and long values are cut.
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
    """Something the user can mend, said in one line.

    Parameters
    ----------
    problem : str
        What is wrong, without a final full stop.
    file : path-like, optional
        The file in which it was found.
    key : str, optional
        The array, setting or member concerned.
    found, expected : str, optional
        What stands there, and what should.
    remedy : str, optional
        What to do about it.
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
            part for part in (self.file and escape_unprintable(self.file), self.key and f"'{_short(self.key)}'") if part
        )
        sentence = _short(self.problem)
        if self.found is not None:
            sentence += f", found {_short(self.found)}"
        if self.expected is not None:
            sentence += f", expected {_short(self.expected)}"
        if self.remedy is not None:
            sentence += f"; {_short(self.remedy)}"
        return f"{place}: {sentence}" if place else sentence

    @classmethod
    def from_validation(
        cls, error: ValidationError, *, file: str | PathLike[str] | None = None, key: str | None = None
    ) -> Self:
        """Say the first complaint of a validation in one line.

        Parameters
        ----------
        error : pydantic.ValidationError
            Raised by a model whose values come from a user or a file.
        file : path-like, optional
            The file that holds the values.
        key : str, optional
            Named where the complaint concerns the whole and not one field.
        """
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or key
        if first["type"] == "missing":
            return cls("missing", file=file, key=field)
        if first["type"] == "extra_forbidden":
            return cls("there is no such key", file=file, key=field)
        value = first["input"]
        shown = repr(value) if first["loc"] and isinstance(value, bool | int | float | str) else None
        problem = first["msg"]
        if first["type"] == "value_error":
            problem = problem.removeprefix("Value error, ")
        else:
            problem = problem[:1].lower() + problem[1:]
        return cls(problem, file=file, key=field, found=shown)


def _short(part: object) -> str:
    text = " ".join(str(part).split())
    return escape_unprintable(text if len(text) <= LONGEST_PART else text[: LONGEST_PART - 1] + "…")


class ScanError(PtyonnxError):
    """Measured data that cannot be used as they are."""


class ObjectError(PtyonnxError):
    """An object, probe or image file that cannot be used."""


class SettingsError(PtyonnxError):
    """A setting, flag or configuration key that does not exist or does not fit."""


class BundleError(PtyonnxError):
    """A file that is not a bundle, or a damaged one."""


class ProtocolError(BundleError):
    """A bundle whose protocol this version does not read."""


class DigestError(BundleError):
    """Weights or graph that differ from the digests in the manifest."""


class RunError(PtyonnxError):
    """A run directory that is missing, unfinished or not one of ours."""


class OutputError(PtyonnxError):
    """A result that could not be written; what stood there before is untouched."""


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
    """A network that makes something of a pattern that is no number."""


class MissingDependencyError(PtyonnxError):
    """An optional package that has to be installed first."""


class WorkerError(PtyonnxError):
    """A child process that died, or did not answer in time."""
