"""Names for where the zero frequency of a pattern lies: in the middle, or in the corner as an FFT leaves it."""

from __future__ import annotations

from typing import Literal

__all__ = ["PLACES", "ZeroFrequency"]

ZeroFrequency = Literal["centre", "corner"]
PLACES: dict[str, ZeroFrequency] = {"centre": "centre", "center": "centre", "corner": "corner"}  # spelling -> name
