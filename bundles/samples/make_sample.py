"""Make the sample bundle of the current protocol: `python bundles/samples/make_sample.py`.

A sample is made once, when its protocol is new, and never changes afterwards: a test reads
and runs every one of them for ever.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from ptyonnx_bundles import PROTOCOL, Recipe, write_bundle

HERE = Path(__file__).parent
SAMPLE = HERE / f"protocol-{PROTOCOL}.onnx"
NOTES = "Random weights, made without training: a sample of the format. The self-test was computed by onnxruntime."


def make_sample(path: Path) -> None:
    """Write a very small bundle: N = 32, one pattern per group, one probe mode.

    Parameters
    ----------
    path : Path
        The file to write.
    """
    from bundle_factory import make_bundle

    bundle = make_bundle(path, Recipe(N=32, filters_scale=0.06), seed=4)
    manifest = bundle.manifest.model_copy(
        update={"notes": NOTES, "licence": "BSD-3-Clause", "created": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    write_bundle(path, bundle.model, manifest, bundle.probe, bundle.selftest)


if __name__ == "__main__":
    if SAMPLE.exists():
        raise SystemExit(f"{SAMPLE.name} exists: a published sample never changes")
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    make_sample(SAMPLE)
