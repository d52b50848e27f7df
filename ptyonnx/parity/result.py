"""The result of a parity check, as typed objects that convert to JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ptyonnx.reference.local_errors import ROUNDED_ONCE
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.terminal import escape_unprintable

__all__ = ["STAGES", "Agreement", "ImplementationVerdict", "Parity", "Row"]

STAGES = ("weights", "forward", "object", "physics", "loss", "gradient", "step", "curve", "export")


@dataclass(frozen=True)
class Row:
    """One quantity of one implementation, compared with float64.

    Attributes
    ----------
    stage : str
        One of :data:`STAGES`.
    key : str
        The layer, the weight or the step; empty where a stage has one quantity.
    implementation : str
    absolute, relative : float
        Largest difference, and the same relative to the largest value of the quantity (of gradients: in the layer).
        Infinite where the two cannot be subtracted.
    tolerance : float or None
        Allowed relative difference; None where none is derived.
    local_error : float or None
        For a layer: its error for its own input, relative to the bound of float32; correct up to 1.
    problem : str
        What is wrong, where it is not the size of the difference.
    """

    stage: str
    key: str
    implementation: str
    absolute: float = 0.0
    relative: float = 0.0
    tolerance: float | None = None
    local_error: float | None = None
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance. A non-finite difference never passes."""
        within = math.isfinite(self.relative) and (self.tolerance is None or self.relative <= self.tolerance)
        return within and (self.local_error is None or self.local_error <= 1) and not self.problem

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return _finite({**asdict(self), "passed": self.passed})


@dataclass(frozen=True)
class Agreement:
    """One quantity, compared between two implementations.

    Attributes
    ----------
    stage, key : str
    a, b : str
        Implementations, or ``"float64"``.
    absolute, relative : float
        Largest difference, and the same relative to the largest value in float64.
    """

    stage: str
    key: str
    a: str
    b: str
    absolute: float
    relative: float

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return _finite(asdict(self))


@dataclass(frozen=True)
class ImplementationVerdict:
    """The first difference of an implementation from float64, or that there is none.

    Attributes
    ----------
    implementation : str
    stage, key : str
        The first quantity, in order of computation, that exceeds its tolerance; empty if none does.
    sentence : str
    """

    implementation: str
    stage: str
    key: str
    sentence: str

    @property
    def passed(self) -> bool:
        """Whether every quantity is within its tolerance."""
        return not self.stage

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True)
class Parity:
    """How closely several implementations agree.

    Attributes
    ----------
    source : str
        Description of the weights and patterns.
    recipe : dict
    versions : dict of str to dict
        Implementation -> package -> version.
    threads : int
    rows : tuple of Row
    agreements : tuple of Agreement
    verdicts : tuple of ImplementationVerdict
        One for each implementation.
    losses : dict of str to tuple of float
        Implementation or ``"float64"`` -> loss before every optimiser step; NaN where training failed.
    digests : dict of str to dict
        Backend -> digests of weights and graph of its export.
    other_branches : dict of str to int
        Implementation -> number of pixels at which a ReLU or pooling takes another branch than in float64.
    """

    source: str
    recipe: dict[str, Any]
    versions: dict[str, dict[str, str]]
    threads: int
    rows: tuple[Row, ...]
    agreements: tuple[Agreement, ...]
    verdicts: tuple[ImplementationVerdict, ...]
    losses: dict[str, tuple[float, ...]]
    digests: dict[str, dict[str, str]]
    other_branches: dict[str, int]

    def __repr__(self) -> str:
        return escape_unprintable(
            f"<Parity of {self.source}: {'; '.join(verdict.sentence for verdict in self.verdicts)}>"
        )

    @property
    def passed(self) -> bool:
        """Whether every implementation is within its tolerances."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def implementations(self) -> tuple[str, ...]:
        """Names of the implementations, without ``"float64"``."""
        return tuple(verdict.implementation for verdict in self.verdicts)

    @property
    def same_exports(self) -> bool | None:
        """Whether all exports are the same function bit for bit; None for fewer than two."""
        found = [tuple(sorted(each.items())) for each in self.digests.values()]
        return None if len(found) < 2 else len(set(found)) == 1

    def of(self, stage: str, implementation: str) -> Iterator[Row]:
        """Rows of one stage and implementation, in order of computation."""
        return (row for row in self.rows if (row.stage, row.implementation) == (stage, implementation))

    def worst_local_error(self, implementation: str) -> float | None:
        """Largest error of a layer for its own input, relative to its bound; None where no layer was compared.

        Layers that round once always come close to their bound. They are considered only where they exceed it.
        """
        once = {node.name for node in Recipe(**self.recipe).nodes() if node.operator in ROUNDED_ONCE}
        shares = [
            (row.key, row.local_error) for row in self.of("forward", implementation) if row.local_error is not None
        ]
        return max((share for layer, share in shares if share > 1 or layer not in once), default=None)

    def between(self, stage: str, a: str, b: str) -> Iterator[Agreement]:
        """Agreements of two implementations in one stage."""
        return (each for each in self.agreements if each.stage == stage and {each.a, each.b} == {a, b})

    def to_dict(self) -> dict[str, Any]:
        """Names and values, for JSON; None stands for infinity and NaN."""
        return {
            "passed": self.passed,
            "source": self.source,
            "recipe": self.recipe,
            "threads": self.threads,
            "versions": self.versions,
            "verdicts": [each.to_dict() for each in self.verdicts],
            "losses": {name: [_number(loss) for loss in losses] for name, losses in self.losses.items()},
            "digests": self.digests,
            "same_exports": self.same_exports,
            "other_branches": self.other_branches,
            "rows": [each.to_dict() for each in self.rows],
            "agreements": [each.to_dict() for each in self.agreements],
        }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in values.items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
