"""What a report says, as plain data: strings, numbers and arrays.

Nothing here knows where the numbers come from (`of_comparison.py` does) or how they look
(`page.py` does).
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
        Why, in one sentence.
    """

    level: str
    passed: bool | None
    sentence: str


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes
    ----------
    title : str
    header : tuple of str
    rows : tuple of tuple
        Strings, numbers, or None where there is nothing; as many as the header has.
    section : Section
        The part of the page in which it stands.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    section: Section = "summary"


@dataclass(frozen=True)
class LayerError:
    """How far two networks are apart behind one layer.

    Attributes
    ----------
    name : str
        Canonical.
    largest, rms : float
        Of the difference; may be NaN or infinite.
    tolerance : float
        Of the largest difference.
    """

    name: str
    largest: float
    rms: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the layer is within its tolerance; NaN is not."""
        return self.largest <= self.tolerance


@dataclass(frozen=True, eq=False)
class Curve:
    """A figure over the epochs of a training.

    Attributes
    ----------
    label : str
    x, y : (epoch,) float
        Epoch and value.
    side : Side
        Of which of the two; chooses the colour.
    dashed : bool
        For a second curve of the same side.
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
        1 / pixel, rising.
    correlation, half_bit : (ring,) float
        Correlation of each ring, and the half-bit threshold.
    resolution_px, resolution_m : float or None
        Full period at which the curve falls below the threshold: None where it never does, infinite
        where it starts there.
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
        NaN where nothing is known.
    """

    label: str
    object: NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Report:
    """All that a page shows.

    Attributes
    ----------
    title, subtitle : str
    outcome : Verdict or None
        Of all levels together.
    verdicts : tuple of Verdict
        One for each level.
    tables : tuple of Table
    layers : tuple of LayerError
        In order of computation.
    curves : tuple of Curve
    ring : RingCorrelation or None
    picture_a, picture_b : Picture or None
        Aligned, on the same pixels; both or none.
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
        """Refuse what could not be drawn: a bug of the caller."""
        if (self.picture_a is None) != (self.picture_b is None):
            raise ValueError("one picture alone cannot be compared")
        if self.picture_a is not None and self.picture_b is not None:
            a, b = self.picture_a.object.shape, self.picture_b.object.shape
            if a != b or len(a) != 2 or 0 in a:
                raise ValueError(f"pictures of shapes {a} and {b} do not lie on the same pixels")
        for table in self.tables:
            if any(len(row) != len(table.header) for row in table.rows):
                raise ValueError(f"a row of the table '{table.title}' is not as long as its header")
