"""Training and reconstruction scale a scan by one rule: beyond 10 % of the photons that the network knows."""

from __future__ import annotations

import numpy as np
import pytest
from float32_bounds import of_roundings

from ptyonnx.training.observer import Unobserved
from ptyonnx.training.task import _scale
from ptyonnx_runtime.flux import TOLERANCE, Flux, photons_differ


@pytest.mark.parametrize("ratio", [0.89, 0.905, 0.91, 1.09, 1.095, 1.11])
def test_training_scales_exactly_the_scans_that_reconstruction_scales(ratio: float) -> None:
    """0.905 tells two rules apart: 1 / 0.905 is further from 1 than 10 %, and so would be another rule's verdict."""
    flux = Flux(1e5 * ratio, 1e5, 1.0, "match")
    factor = _scale("scan.npz", 1e5 * ratio, 1e5, "bundle", Unobserved())
    assert flux.differs == photons_differ(1e5 * ratio, 1e5) == (abs(ratio - 1) > TOLERANCE)
    assert factor == pytest.approx(np.sqrt(1 / ratio) if flux.differs else 1, rel=of_roundings(4))
