"""Make the sample bundle of the newest protocol: `python bundles/samples/make_sample.py`.

A sample is made once, when its protocol is new, and never changes afterwards: a test reads
and runs every one of them for ever. How the older ones were made stays here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ptyonnx_bundles import PROTOCOL, Bundle, Recipe, write_bundle
from ptyonnx_bundles.recipe import Family

HERE = Path(__file__).parent
NOTES = "Random weights, made without training: a sample of the format. The self-test was computed by onnxruntime."


def make_native(path: Path, family: Family) -> Bundle:
    """Write a very small bundle: N = 32, one pattern per group, one probe mode."""
    from bundle_factory import make_bundle

    return make_bundle(path, Recipe(name=family, N=32, filters_scale=0.06), seed=4)


def make_foreign(path: Path) -> Bundle:
    """Write a very small bundle of somebody else's network: N = 32, phase only, unknown photons."""
    from foreign_factory import make_foreign_bundle

    return make_foreign_bundle(path, N=32, seed=4)


def make_coarse(path: Path) -> Bundle:
    """Write the same network with its last layer in 8 bits, and a tolerance that allows a step of it."""
    from foreign_factory import make_foreign_bundle

    return make_foreign_bundle(path, N=32, seed=4, quantised=True)


MAKERS: dict[int, Callable[[Path], Bundle]] = {
    1: partial(make_native, family="two-headed-cnn-1"),
    2: partial(make_native, family="two-headed-cnn-2"),
    3: make_foreign,
    4: make_coarse,
}


def make_sample(path: Path, protocol: int) -> None:
    """Write the sample of a protocol.

    Parameters
    ----------
    path : Path
        The file to write.
    protocol : int
    """
    bundle = MAKERS[protocol](path)
    manifest = bundle.manifest.model_copy(
        update={"notes": NOTES, "licence": "BSD-3-Clause", "created": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    write_bundle(path, bundle.model, manifest, bundle.probe, bundle.selftest)


if __name__ == "__main__":
    sample = HERE / f"protocol-{PROTOCOL}.onnx"
    if sample.exists():
        raise SystemExit(f"{sample.name} exists: a published sample never changes")
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    make_sample(sample, PROTOCOL)
