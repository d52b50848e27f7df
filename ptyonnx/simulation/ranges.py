"""Ranges of the numbers that a simulation accepts; an error names the argument."""

from __future__ import annotations

import math
import operator
from typing import SupportsFloat, SupportsIndex

from ptyonnx_bundles.errors import SettingsError

__all__ = ["checked_count", "checked_number", "checked_seed"]


def checked_number(given: SupportsFloat, key: str, *, low: float, high: float, expected: str | None = None) -> float:
    """Convert a number, and refuse it outside a range.

    Parameters
    ----------
    given : float
    key : str
        Name of the argument.
    low, high : float
        Ends of the range.
    expected : str, optional
        The range in words.

    Returns
    -------
    float

    Raises
    ------
    SettingsError
        Not a number, NaN, or outside the range.
    """
    try:
        number = math.nan if isinstance(given, str | bytes | bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        words = expected or f"a number from {low:g} to {high:g}"
        raise SettingsError("unusable value", key=key, found=given, expected=words)
    return number


def checked_count(given: SupportsIndex, key: str, *, low: int = 1, high: int) -> int:
    """Convert a whole number, and refuse it outside a range.

    Raises
    ------
    SettingsError
        Not a whole number, or outside the range.
    """
    number = _whole(given)
    if number is None or not low <= number <= high:
        raise SettingsError("unusable value", key=key, found=given, expected=f"a whole number from {low} to {high}")
    return number


def checked_seed(given: SupportsIndex, key: str = "seed") -> int:
    """Convert a seed, which has no upper limit.

    Raises
    ------
    SettingsError
        Not a whole number, or negative.
    """
    number = _whole(given)
    if number is None or number < 0:
        raise SettingsError("unusable value", key=key, found=given, expected="a whole number, 0 or more")
    return number


def _whole(given: SupportsIndex) -> int | None:
    try:
        return None if isinstance(given, bool) else operator.index(given)
    except TypeError:
        return None
