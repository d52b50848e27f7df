"""Disable the telemetry of onnxruntime before it is loaded.

Since 1.29, the released builds for Linux and macOS report sessions to their vendor, among others the name
of the model, its producer and a hash of its weights, unless a variable is set before they are loaded.
Measurements at a beamline must stay confidential.
"""

from __future__ import annotations

import os

__all__ = ["disable_telemetry"]


def disable_telemetry() -> None:
    """Opt out of onnxruntime's telemetry, unless the user has set the variable."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
