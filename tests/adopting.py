"""What tests of adoption begin with: a declaration, its options, and the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from ptyonnx.exchange.adopting import adopt
from ptyonnx_bundles import Bundle
from ptyonnx_converters.foreign.declaration import ONE, Declaration, Limit, Scale, Source

SCAN = Path(__file__).parents[1] / "samples" / "siemens_star_64.npz"
REST = ("--zero-frequency", "centre", "--scale", "factor=1", "--mean-photons", "unknown")
PLAIN = Declaration(
    system="x", values="intensity", zero_frequency="centre", scale=Scale("factor", 1.0), limit=Limit("none"),
    transform="none", mean_photons="unknown", phase=Source("94", None), amplitude=ONE,
)  # fmt: skip


def adopted(model: onnx.ModelProto, folder: Path, declaration: Declaration, **options: Any) -> Bundle:
    """The bundle of a model, in the folder."""
    onnx.save(model, folder / "model.onnx")
    return adopt(folder / "model.onnx", folder / "bundle.onnx", declaration, **options)
