"""The runtime's functions with an onnxruntime session that is opened for one call and closed after it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_runtime import reconstruct as runtime
from ptyonnx_runtime.inference import Session, runner
from ptyonnx_runtime.reconstruct import Options, Reconstruction
from ptyonnx_runtime.scan import Scan

__all__ = ["patches", "predict", "reconstruct"]


def reconstruct(
    bundle: Bundle,
    scan: Scan,
    *,
    provider: str = "auto",
    threads: int = 0,
    limit_s: float = DEFAULT_LIMIT_S,
    **options: Any,
) -> Reconstruction:
    chosen = Options(threads=threads, **options)
    with Session.concurrent(bundle, provider, threads, limit_s=limit_s) as session:
        return runtime.reconstruct(bundle, scan, session, chosen)


def predict(bundle: Bundle, scan: Scan, **options: Any) -> list[runner.Patches]:
    with Session.concurrent(bundle) as session:
        return list(runner.predict(bundle, scan, session, Options(**options)))


def patches(bundle: Bundle, scan: Scan, **options: Any) -> NDArray[np.complex64]:
    with Session.concurrent(bundle) as session:
        return runner.patches(bundle, scan, session, Options(**options))
