"""Find the batch axis of every value of a graph, also where a reshape has merged it with another axis.

A graph with a free batch has a symbol for it in every shape; a graph with a fixed batch has numbers only.
The batch axis is therefore propagated from the input: shape inference for two numbers of patterns shows
which axis contains the batch, and the order of the elements, which no reshape changes, shows with which
other axes it is merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["BatchAxis", "propagate", "propagate_reshape"]

Shape = tuple[int, ...]


class BatchAxis(NamedTuple):
    """The axis that contains the batch; it has ``outer * batch * inner`` elements, ordered (outer, batch, inner).

    Attributes
    ----------
    axis : int
    inner : int
        Number of neighbouring elements along the axis that belong to one pattern: 1 if the batch is the
        whole axis or its fastest-varying part.
    """

    axis: int
    inner: int = 1

    def split(self, shape: Shape, batch: int) -> tuple[Shape, Shape]:
        """Split a shape at the batch: the sizes before it and the sizes after it."""
        outer = shape[self.axis] // (batch * self.inner)
        return (*shape[: self.axis], outer), (self.inner, *shape[self.axis + 1 :])

    def free_shape(self, shape: Shape) -> list[int]:
        """Return the target of a Reshape for any number of patterns."""
        return [-1 if axis == self.axis else size for axis, size in enumerate(shape)]

    def double_shape(self, shape: Shape) -> Shape:
        """Return the shape for twice as many patterns."""
        return tuple(2 * size if axis == self.axis else size for axis, size in enumerate(shape))


def propagate(single: Shape, double: Shape, inputs: Iterable[tuple[Shape, BatchAxis]], batch: int) -> BatchAxis | None:
    """Find the batch axis of the output of an operator that neither merges nor splits axes.

    Parameters
    ----------
    single, double : tuple of int
        The output's shape for `batch` and for ``2 * batch`` patterns.
    inputs : iterable of (tuple of int, BatchAxis)
        Shape and batch axis of each input that has one.
    batch : int

    Returns
    -------
    BatchAxis or None
        None if no axis, several axes or only a part of an axis depends on the batch.
    """
    grown = [axis for axis, (size, larger) in enumerate(zip(single, double, strict=True)) if size != larger]
    if len(grown) != 1 or double[grown[0]] != 2 * single[grown[0]]:
        return None
    size = single[grown[0]]
    for shape, known in inputs:
        if shape[known.axis] == size:
            return BatchAxis(grown[0], known.inner)
    return BatchAxis(grown[0]) if size == batch else None


def propagate_reshape(shape: Shape, before: BatchAxis, target: Shape, batch: int) -> BatchAxis | None:
    """Find the batch axis after a reshape, which keeps the order of the elements.

    A batch of one is ambiguous: it may be the end of one axis or the beginning of the next. An axis of its
    own is then preferred; otherwise the batch is merged with the axis that follows it, as when attention
    heads are split off or tokens are merged, unless that axis holds the features.

    Parameters
    ----------
    shape, target : tuple of int
        Before and after the reshape.
    before : BatchAxis
        Before the reshape.
    batch : int

    Returns
    -------
    BatchAxis or None
        None if the batch would be split between axes.
    """
    stride = math.prod(before.split(shape, batch)[1])  # elements from one pattern to the next
    found = []
    for axis, size in enumerate(target):
        start = math.prod(target[axis + 1 :])
        if stride % start == 0 and size % (stride // start * batch) == 0:
            found.append(BatchAxis(axis, stride // start))
    alone = [each for each in found if each.inner == 1 and target[each.axis] == batch]
    joined = [each for each in found if each.axis != len(target) - 1]
    return alone[0] if alone else joined[-1] if joined else found[0] if found else None
