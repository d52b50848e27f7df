"""Settings of a PtychoPINN network, for tests that build such networks natively."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["DECODER", "ENCODER", "Variant"]

ENCODER = {64: (32, 64, 128), 128: (16, 32, 64, 128), 256: (8, 16, 32, 64, 128)}
DECODER = {64: (64, 32), 128: (128, 64, 32), 256: (256, 128, 64, 32)}


@dataclass(frozen=True)
class Variant:
    """Settings of PtychoPINN."""

    N: int = 64
    gridsize: int = 1
    scale: float = 0.25
    object_big: bool = True
    probe_big: bool = True
    cbam: bool = True
    batch_norm: bool = False
    bottleneck_cbam: bool = False
    amp_activation: str = "sigmoid"
    pad_object: bool = True

    def __str__(self) -> str:
        changed = [f"{name}-{value}" for name, value in vars(self).items() if value != getattr(Variant, name)]
        return "-".join(changed) or "plain"

    def filters(self, counts: tuple[int, ...]) -> list[int]:
        return [max(1, round(count * self.scale)) for count in counts]

    @property
    def channels(self) -> int:
        return self.gridsize**2

    @property
    def patterns(self) -> np.ndarray:
        """(2, C, N, N) amplitude at PtychoPINN's scale."""
        drawn = np.random.default_rng(3).random((2, self.channels, self.N, self.N), np.float32) ** 8
        return drawn * np.float32(math.sqrt((self.N / 2) ** 2 / np.mean(np.sum(drawn**2, (-2, -1)))))
