"""Level 2, weights: the arrays of two bundles, paired by canonical name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles.terminal import escape_unprintable

__all__ = ["WeightDifference", "Weights", "compare_weights", "judge_weights"]


@dataclass(frozen=True)
class WeightDifference:
    """One array in two bundles.

    Attributes
    ----------
    name : str
        Canonical name.
    shape_a, shape_b : tuple of int or None
        None where a bundle has no such array.
    differing : int or None
        Number of elements whose bits differ. This and all following fields are None where shapes or types differ.
    maximum, rms : float or None
        Largest and root mean square difference.
    relative : float or None
        Norm of the difference divided by the larger norm of the two arrays: 0 if equal, 2 if opposite.
    cosine : float or None
        Cosine of the angle between the two arrays as vectors; None where one is zero.
    where : tuple of int or None
        Index of the largest difference; kernels are (out, in, y, x).
    filters : tuple of int or None
        Indices along the first axis at which any element differs.
    """

    name: str
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    differing: int | None = None
    maximum: float | None = None
    rms: float | None = None
    relative: float | None = None
    cosine: float | None = None
    where: tuple[int, ...] | None = None
    filters: tuple[int, ...] | None = None

    @property
    def equal(self) -> bool:
        """Whether no bit differs."""
        return self.differing == 0

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Weights:
    """All arrays of two bundles.

    Attributes
    ----------
    passed : bool or None
        Whether all are equal bit for bit; None where no two arrays have the same name and shape.
    sentence : str
    arrays : tuple of WeightDifference
        Arrays without a counterpart first, then by decreasing relative difference.
    """

    passed: bool | None
    sentence: str
    arrays: tuple[WeightDifference, ...]

    def __repr__(self) -> str:
        return f"<Weights: {escape_unprintable(self.sentence)}>"

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**vars(self), "arrays": [entry.to_dict() for entry in self.arrays]}


def compare_weights(
    a: Mapping[str, NDArray[np.generic]], b: Mapping[str, NDArray[np.generic]]
) -> tuple[WeightDifference, ...]:
    """Compare two sets of arrays; those that differ most come first.

    Parameters
    ----------
    a, b : mapping of str to ndarray
        Canonical name -> array.
    """
    found = [_compare(name, a.get(name), b.get(name)) for name in {**a, **b}]
    return tuple(sorted(found, key=lambda entry: (entry.relative is not None, -(entry.relative or 0.0))))


def judge_weights(arrays: tuple[WeightDifference, ...]) -> Weights:
    """Summarise a comparison of arrays in a sentence."""
    compared = [entry for entry in arrays if entry.differing is not None]
    differing = [entry for entry in compared if not entry.equal]
    alone = len(arrays) - len(compared)
    if not compared:
        return Weights(None, "not comparable: no two arrays have the same name and shape", arrays)
    without = f"{alone} of {len(arrays)} arrays {_has(alone)} no counterpart"
    if not differing:
        rest = f"the other {len(compared)} are" if len(compared) > 1 else "the other one is"
        every = f"all {len(compared)} arrays are" if len(compared) > 1 else "the one array is"
        sentence = f"{without}; {rest} equal bit for bit" if alone else f"{every} equal bit for bit"
        return Weights(not alone, sentence, arrays)
    worst, differ = differing[0], "differs" if len(differing) == 1 else "differ"
    of = f"{len(compared)} arrays{' that both have' if alone else ''}"
    sentence = f"{len(differing)} of {of} {differ}, most {worst.name} {_describe(worst)}"
    return Weights(False, f"{sentence}; {without}" if alone else sentence, arrays)


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def _describe(entry: WeightDifference) -> str:
    size = int(np.prod(entry.shape_a or ()))
    place = f"[{', '.join(map(str, entry.where))}]" if entry.where else ""
    filters = entry.filters or ()
    several = len(entry.shape_a or ()) > 1
    where = (
        f", in filter{'s'[: len(filters) > 1]} {', '.join(map(str, filters))}" if several and len(filters) < 4 else ""
    )
    return f"(relative {entry.relative:.2g}; {entry.differing} of {size} elements{where}; largest {entry.maximum:.2g}{f' at {place}' if place else ''})"


def _compare(name: str, a: NDArray[Any] | None, b: NDArray[Any] | None) -> WeightDifference:
    shape_a, shape_b = (None if array is None else array.shape for array in (a, b))
    if a is None or b is None or shape_a != shape_b or a.dtype != b.dtype:
        return WeightDifference(name, shape_a, shape_b)
    differs = _bits(a) != _bits(b)
    first, second = a.astype(np.float64), b.astype(np.float64)
    distance = np.abs(first - second)
    place = np.unravel_index(int(np.argmax(distance)), distance.shape) if distance.size else ()
    norms = [float(np.linalg.norm(array)) for array in (first, second)]
    rms = float(np.sqrt(np.mean(distance**2))) if distance.size else 0.0
    return WeightDifference(
        name,
        shape_a,
        shape_b,
        differing=int(differs.sum()),
        maximum=float(distance.max(initial=0)),
        rms=rms,
        relative=float(np.linalg.norm(distance)) / max(norms) if max(norms) > 0 else 0.0,
        cosine=min(1.0, max(-1.0, float(np.vdot(first, second)) / (norms[0] * norms[1]))) if min(norms) > 0 else None,
        where=tuple(int(index) for index in place),
        filters=tuple(np.flatnonzero(differs.reshape(len(a), -1).any(axis=1)).tolist()) if a.ndim and a.size else (),
    )


def _bits(array: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """The array's bits as integers, so that -0 differs from 0."""
    bits: NDArray[np.unsignedinteger[Any]] = np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(array.shape)
    return bits
