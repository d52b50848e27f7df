"""The contents of a report as plain data: strings, numbers and arrays.

`comparison_report.py` computes them from a comparison, `page.py` renders them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Curve", "LayerError", "Picture", "Report", "RingCorrelation", "Section", "Side", "Table", "Verdict"]

Section = Literal["summary", "images", "layers", "weights", "training", "manifests"]
Side = Literal["a", "b"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of one level of the comparison.

    Attributes
    ----------
    level : str
        identity, weights, activations, images.
    passed : bool or None
        None where the level was not compared.
    sentence : str
        The answer, in one sentence.
    question : str
        What `passed` answers; may be empty.
    must_pass : bool
        Whether False is a fault. Two computations of one function must agree; two networks need not, unless a pixel
        is non-finite or an image has a flaw.
    """

    level: str
    passed: bool | None
    sentence: str
    question: str = ""
    must_pass: bool = True


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes
    ----------
    title : str
    header : tuple of str
    rows : tuple of tuple
        Strings, numbers, or None for an empty cell; as many as the header has.
    section : Section
        The part of the page that shows the table.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    section: Section = "summary"


@dataclass(frozen=True)
class LayerError:
    """Difference of two networks after one layer.

    Attributes
    ----------
    name : str
        Canonical name.
    largest, rms : float
        Largest absolute and rms difference; may be NaN or infinite.
    tolerance : float
        For the largest difference.
    """

    name: str
    largest: float
    rms: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the layer is within its tolerance; never for NaN."""
        return self.largest <= self.tolerance


@dataclass(frozen=True, eq=False)
class Curve:
    """A quantity by epoch of a training.

    Attributes
    ----------
    label : str
    x, y : (epoch,) float
        Epoch and value.
    side : Side
        The network that was trained, A or B; determines the colour.
    dashed : bool
        Drawn dashed: the second curve of the same side.
    """

    label: str
    x: NDArray[np.floating]
    y: NDArray[np.floating]
    side: Side = "a"
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """Fourier ring correlation of two images.

    Attributes
    ----------
    frequency : (ring,) float
        1 / pixel, ascending.
    correlation, half_bit : (ring,) float
        Correlation of each ring, and the half-bit threshold.
    resolution_px, resolution_m : float or None
        Full period at which the curve falls below the threshold; None if it never does, infinite
        if its first ring is below.
    """

    frequency: NDArray[np.floating]
    correlation: NDArray[np.floating]
    half_bit: NDArray[np.floating]
    resolution_px: float | None = None
    resolution_m: float | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A stitched object.

    Attributes
    ----------
    label : str
    object : (y, x) complex64
        NaN where unknown.
    """

    label: str
    object: NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a page shows.

    Attributes
    ----------
    title, subtitle : str
    outcome : Verdict or None
        The outcome of all levels together.
    verdicts : tuple of Verdict
        One for each level.
    tables : tuple of Table
    layers : tuple of LayerError
        In order of computation.
    curves : tuple of Curve
    ring : RingCorrelation or None
    picture_a, picture_b : Picture or None
        Aligned, on the same pixels; both or neither.
    object_pixel_size_m : float or None
    """

    title: str
    subtitle: str = ""
    outcome: Verdict | None = None
    verdicts: tuple[Verdict, ...] = ()
    tables: tuple[Table, ...] = ()
    layers: tuple[LayerError, ...] = ()
    curves: tuple[Curve, ...] = ()
    ring: RingCorrelation | None = None
    picture_a: Picture | None = None
    picture_b: Picture | None = None
    object_pixel_size_m: float | None = None

    def __post_init__(self) -> None:
        """Refuse contents that cannot be drawn; they are a bug of the caller."""
        if (self.picture_a is None) != (self.picture_b is None):
            raise ValueError("one picture alone cannot be compared")
        if self.picture_a is not None and self.picture_b is not None:
            a, b = self.picture_a.object.shape, self.picture_b.object.shape
            if a != b or len(a) != 2 or 0 in a:
                raise ValueError(f"pictures of shapes {a} and {b} do not lie on the same pixels")
        for table in self.tables:
            if any(len(row) != len(table.header) for row in table.rows):
                raise ValueError(f"a row of the table '{table.title}' is not as long as its header")
