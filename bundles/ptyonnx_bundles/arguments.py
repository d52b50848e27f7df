"""Check the types of arguments of public functions; the error names the argument."""

from __future__ import annotations

import os
from pathlib import Path

from ptyonnx_bundles.errors import SettingsError

__all__ = ["as_path", "check_type"]

_NAMES = {"Bundle": "a bundle", "Scan": "a scan", "Run": "a run", "Settings": "settings", "Reconstruction": "a result"}
_PATHS = (str, os.PathLike)


def as_path(given: object, key: str, expected: str = "a path") -> Path:
    """Convert an argument that must be a path.

    Raises
    ------
    SettingsError
        It is not a path.
    """
    if not isinstance(given, _PATHS) or not given:
        raise _wrong(given, key, expected)
    text = os.fspath(given)
    if not isinstance(text, str):
        raise _wrong(given, key, expected)
    return Path(text)


def check_type(given: object, key: str, kind: type | tuple[type, ...], expected: str) -> None:
    """Refuse an argument of another type.

    Raises
    ------
    SettingsError
        It names the argument, what was found and what was expected.
    """
    if not isinstance(given, kind) or (isinstance(given, bool) and kind is not bool):
        raise _wrong(given, key, expected)


def _wrong(given: object, key: str, expected: str) -> SettingsError:
    found = _NAMES.get(type(given).__name__) or (
        f"'{given}'"
        if isinstance(given, str)
        else f"{type(given).__module__}.{type(given).__qualname__}".removeprefix("builtins.")
    )
    swapped = type(given).__name__ in _NAMES or isinstance(given, _PATHS)
    return SettingsError(
        "wrong type of argument", key=key, found=found, expected=expected,
        remedy="are two arguments swapped?" if swapped else None,
    )  # fmt: skip
