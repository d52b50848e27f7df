"""Weights of two bundles side by side, by canonical name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WeightDifference", "compare_weights"]


@dataclass(frozen=True)
class WeightDifference:
    """One array in two bundles.

    Attributes
    ----------
    name : str
        Canonical name.
    shape_a, shape_b : tuple of int or None
        None where a bundle has no such array.
    maximum, rms : float or None
        Of the difference; None where the shapes differ.
    rms_a : float or None
        Of the array itself, to judge the difference by.
    """

    name: str
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    maximum: float | None = None
    rms: float | None = None
    rms_a: float | None = None

    @property
    def equal(self) -> bool:
        """Whether no element differs."""
        return self.maximum == 0.0

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return asdict(self)


def compare_weights(
    a: Mapping[str, NDArray[np.generic]], b: Mapping[str, NDArray[np.generic]]
) -> tuple[WeightDifference, ...]:
    """Compare every array of two sets, those of `a` first, in their order."""
    return tuple(_compare(name, a.get(name), b.get(name)) for name in {**a, **b})


def _compare(name: str, a: NDArray[Any] | None, b: NDArray[Any] | None) -> WeightDifference:
    shape_a, shape_b = (None if array is None else array.shape for array in (a, b))
    if a is None or b is None or shape_a != shape_b:
        return WeightDifference(name, shape_a, shape_b)
    distance = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return WeightDifference(name, shape_a, shape_b, float(distance.max(initial=0)), _rms(distance), _rms(a))


def _rms(array: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
