"""Whoever is about to load onnxruntime first tells it to keep to itself.

Since 1.29 the released builds for Linux and macOS report sessions (among others the name of the
model, its producer and a hash of its weights) to their maker, unless a variable is set before
they are loaded. What is measured at a beamline is nobody else's business.
"""

from __future__ import annotations

import os

__all__ = ["disable_telemetry"]


def disable_telemetry() -> None:
    """Opt out of onnxruntime's telemetry, unless the user has decided otherwise."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
