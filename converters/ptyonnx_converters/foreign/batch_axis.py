"""Where the batch lies in an array: along which axis, and with what it is joined there.

An array of a network without a fixed batch would say so by a symbol in its shape. One of a fixed
batch only has numbers. But an array at most reshapes what its inputs were, so the place of the batch
can be followed from the input on: shape inference for two numbers of patterns says which axis it is
in, and the order of the elements, which no reshape changes, says what it is joined with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["BatchAxis", "propagate", "propagate_reshape"]

Shape = tuple[int, ...]


class BatchAxis(NamedTuple):
    """The batch in an axis of ``outer * batch * inner`` elements, ordered (outer, batch, inner).

    Attributes
    ----------
    axis : int
    inner : int
        How many elements of the axis belong to one pattern and lie side by side: 1 where the batch is the
        whole axis or the faster half of it.
    """

    axis: int
    inner: int = 1

    def split(self, shape: Shape, batch: int) -> tuple[Shape, Shape]:
        """Sizes of everything before the batch, and of everything behind it, its own axis divided."""
        outer = shape[self.axis] // (batch * self.inner)
        return (*shape[: self.axis], outer), (self.inner, *shape[self.axis + 1 :])

    def free(self, shape: Shape) -> list[int]:
        """The shape as Reshape takes it, for any number of patterns."""
        return [-1 if axis == self.axis else size for axis, size in enumerate(shape)]

    def many(self, shape: Shape) -> Shape:
        """The shape for twice as many patterns."""
        return tuple(2 * size if axis == self.axis else size for axis, size in enumerate(shape))


def propagate(few: Shape, many: Shape, inputs: Iterable[tuple[Shape, BatchAxis]], batch: int) -> BatchAxis | None:
    """Batch axis in what an operator gives that keeps its axes whole, by the shapes of twice as many patterns.

    Parameters
    ----------
    few, many : tuple of int
        The shape for `batch` patterns and for twice as many.
    inputs : iterable of (tuple of int, BatchAxis)
        What is known about the inputs.
    batch : int

    Returns
    -------
    BatchAxis or None
        None: the batch is in no axis, in several, or in a part of one.
    """
    grown = [axis for axis, (size, larger) in enumerate(zip(few, many, strict=True)) if size != larger]
    if len(grown) != 1 or many[grown[0]] != 2 * few[grown[0]]:
        return None
    size = few[grown[0]]
    for shape, place in inputs:
        if shape[place.axis] == size:
            return BatchAxis(grown[0], place.inner)
    return BatchAxis(grown[0]) if size == batch else None


def propagate_reshape(shape: Shape, place: BatchAxis, target: Shape, batch: int) -> BatchAxis | None:
    """Batch axis after a reshape, which leaves all elements in their order.

    A batch of one is no elements at all, and lies as well at the end of one axis as at the beginning of
    the next. Then it is taken where it has an axis to itself, else as it is when heads are split off
    and tokens are joined: with what follows it, unless that are the features.

    Parameters
    ----------
    shape, target : tuple of int
        Before and after.
    place : BatchAxis
        Before.
    batch : int

    Returns
    -------
    BatchAxis or None
        None: it would be divided between axes.
    """
    stride = math.prod(place.split(shape, batch)[1])  # elements between one pattern and the next
    found = []
    for axis, size in enumerate(target):
        start = math.prod(target[axis + 1 :])
        if stride % start == 0 and size % (stride // start * batch) == 0:
            found.append(BatchAxis(axis, stride // start))
    alone = [each for each in found if each.inner == 1 and target[each.axis] == batch]
    joined = [each for each in found if each.axis != len(target) - 1]
    return alone[0] if alone else joined[-1] if joined else found[0] if found else None
