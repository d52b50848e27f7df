"""One global phase per patch, chosen so that overlapping patches agree.

A diffraction pattern does not determine the global phase of its patch. A network can only guess it, and an average of
patches with different phases loses the slow variations of the object. Overlaps determine the relative phase of two
patches. Estimating all phases at once is called angular synchronisation [Singer, Appl. Comput. Harmon. Anal. 30 (2011)
20-36]: the phases are those of the leading eigenvector of the matrix of inner products between patches.

Inner products are computed from sums over small blocks of the canvas, 8 x 8 pixels at N = 64. On measured and simulated
scans, images were as good as with single pixels (phase correlation 0.906 and 0.907, 0.957 and 0.958), with 64 times less
data.

A temporary file holds the sums, and a few thousand patches are read at a time. Let S be the scaled matrix of patches and
blocks. The eigenvector v of ``conj(S) S'`` (over patches) is ``conj(S) w``, with w that of ``S' conj(S)`` (over blocks).
So the iterated vector has the size of the canvas, however long the scan is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ptyonnx_runtime.scan import chunks
from ptyonnx_runtime.stitching.lanczos import leading_eigenvector
from ptyonnx_runtime.stitching.spool import Spool
from ptyonnx_runtime.stitching.stitching import Frame, Tiles

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # imported late: it takes a fifth of a second

__all__ = ["Overlaps"]

_BLOCKS_PER_PATCH = 8  # along each axis
_PRECISION = 1e-5  # relative, of the eigenvalue: phases are accurate to about 1e-3 rad, better than patches agree
_DENSE = 32  # largest number of patches for the dense solver, which is exact
_LEAST_LIGHT = 1e-6  # of the brightest block: darker blocks connect no patches
_CHUNK_BYTES = 2**21  # of sums in memory at a time


class Overlaps:
    """Collects sums over blocks of tiles, chunk by chunk, and estimates the phases of the patches from them.

    A context manager, as the sums are in a temporary file.

    Parameters
    ----------
    frame : Frame
        Frame of the canvas of the tiles.
    N : int
        Width of a patch, pixels.
    count : int
        Number of patches that will be added.

    Raises
    ------
    OutputError
        There is no folder for temporary files, or too little free space.
    """

    def __init__(self, frame: Frame, N: int, count: int) -> None:
        self._block_px = side = N // _BLOCKS_PER_PATCH
        self._touched = (N + 1 + side - 2) // side + 1  # blocks along an axis that N + 1 pixels can meet
        block = (np.arange(side)[:, np.newaxis] + np.arange(N + 1)) // side
        members = np.arange(self._touched)[:, np.newaxis] == block[:, np.newaxis]
        self._rows = members.astype(np.float32)  # (offset, block, pixel): which pixels a block sums
        self._columns_twice = np.zeros((side, 2 * (N + 1), 2 * self._touched), np.float32)  # real and imaginary
        for part in (0, 1):
            self._columns_twice[:, part::2, part::2] = self._rows.swapaxes(1, 2)
        self._columns = frame.shape[1] // self._block_px + 2
        self._size = (frame.shape[0] // self._block_px + 2) * self._columns
        # Sums of the weighted patch over each block that it may touch, and the index (y, x) of the first block.
        record = np.dtype([("values", np.complex64, self._touched**2), ("first", np.int32, 2)])
        self._spool = Spool(record, count)
        self._chunk = max(_DENSE, _CHUNK_BYTES // record.itemsize)
        self._count = count

    def __enter__(self) -> Self:
        self._spool.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.__exit__()

    def add(self, first: int, tiles: Tiles) -> None:
        """Sum tiles over the blocks of the canvas that they touch. May be called from any thread.

        Parameters
        ----------
        first : int
            Number of the first of these consecutive patches.
        tiles : Tiles
        """
        side = self._block_px
        offset = tiles.corner % side
        sums = self._rows[offset[:, 0]] @ tiles.values @ self._columns_twice[offset[:, 1]]
        records = np.empty(len(tiles.values), self._spool.record)
        records["values"] = np.ascontiguousarray(sums).view(np.complex64).reshape(len(records), -1)
        records["first"] = tiles.corner // side
        self._spool.put(first, records)

    def phases(self) -> NDArray[np.complex64]:
        """Compute the factor of modulus 1 by which each patch has to be multiplied, after all have been added.

        Groups of patches without a common overlap keep their relative phase as the network predicts it. The mean phase
        does not change.

        Returns
        -------
        (patch,) complex64
        """
        factors = np.ones(self._count, np.complex64)
        if self._count == 1:
            return factors
        degree, label = self._connected()
        order = np.argsort(label, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
            if len(members) > 1 and label[members[0]] >= 0:
                factors[members] = self._synchronised(members, degree[members])
        return factors

    def _blocks(self, sums: NDArray[np.void]) -> NDArray[np.int32]:
        """Index on the canvas of each block: (patch, block)."""
        step = np.arange(self._touched, dtype=np.int32)
        y, x = (sums["first"][:, axis, np.newaxis] + step for axis in (0, 1))
        blocks = y[:, :, np.newaxis] * np.int32(self._columns) + x[:, np.newaxis, :]
        # a tile may touch fewer blocks: the sums of the others are zero, so that their index does not matter
        return np.asarray(np.minimum(blocks, self._size - 1), np.int32).reshape(len(sums), -1)

    def _matrix(self, sums: NDArray[np.void]) -> csr_array:
        """Sums as a matrix of patches and blocks."""
        from scipy.sparse import csr_array

        values, blocks = sums["values"], self._blocks(sums)
        start = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        return csr_array((values.ravel(), blocks.ravel(), start), (len(values), self._size))

    def _magnitudes(self) -> Iterator[tuple[slice, csr_array]]:
        """Absolute values of the matrix, some patches at a time."""
        for part in chunks(self._count, self._chunk):
            matrix = self._matrix(self._spool.get(part.start, part.stop - part.start))
            matrix.data = np.abs(matrix.data)
            yield part, matrix

    def _connected(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Overlap of each patch with all others, and labels of connected patches.

        Returns
        -------
        degree : (patch,) float64
        label : (patch,) int32
            -1 for a patch without light.
        """
        light = np.zeros(self._size)  # of all patches together, for each block
        brightest = 0.0
        for _, matrix in self._magnitudes():
            light += np.asarray(matrix.T @ np.ones(matrix.shape[0]))
            brightest = max(brightest, float(matrix.data.max(initial=0)))
        least = _LEAST_LIGHT * brightest
        degree = np.empty(self._count)
        bright_block = np.empty(self._count, np.int32)
        of_block = np.arange(self._size, dtype=np.int32)
        for part, matrix in self._magnitudes():
            degree[part] = matrix @ light
            each = matrix.data.reshape(matrix.shape[0], -1)
            row, best = np.arange(len(each)), each.argmax(axis=1)
            bright_block[part] = np.where(each[row, best] > least, matrix.indices.reshape(each.shape)[row, best], -1)
            of_block = _merged(of_block, matrix, least)
        return degree, np.where(bright_block >= 0, of_block[bright_block], np.int32(-1))

    def _synchronised(self, members: NDArray[np.int64], degree: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Phases of patches that are connected: leading eigenvector of the normalised inner products."""
        if len(members) <= _DENSE:
            dense = np.asarray(self._matrix(self._read(members)).todense()) / np.sqrt(degree)[:, np.newaxis]
            vector = np.linalg.eigh(np.conj(dense) @ dense.T)[1][:, -1]
        else:
            vector = self._leading(members, degree)
        size = np.abs(vector)
        factors = np.where(size > 0, vector / np.where(size > 0, size, 1), 1)
        mean = np.vdot(factors, degree)
        return np.asarray(factors * (mean / abs(mean) if mean else 1))

    def _leading(self, members: NDArray[np.int64], degree: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Compute the leading eigenvector over patches from the one over blocks."""
        parts = list(chunks(len(members), self._chunk))
        kept = [self._matrix(self._read(members))] if len(parts) == 1 else []

        def matrices() -> Iterator[tuple[slice, csr_array]]:
            for part in parts:
                yield part, kept[0] if kept else self._matrix(self._read(members[part]))

        def products(vector: NDArray[np.complex128]) -> NDArray[np.complex128]:
            """Multiply by S' conj(S), without storing that matrix."""
            total = np.zeros(self._size, np.complex128)
            for part, matrix in matrices():
                common: NDArray[np.complex128] = np.asarray(matrix @ vector.conj())
                total += np.asarray(matrix.T @ (common.conj() / degree[part]))
            return total

        start = np.zeros(self._size, np.complex128)
        for _, matrix in matrices():
            start += np.asarray(matrix.T @ np.ones(matrix.shape[0]))
        leading = leading_eigenvector(products, start, precision=_PRECISION)
        found = np.empty(len(members), np.complex128)
        for part, matrix in matrices():
            found[part] = np.asarray(matrix @ leading.conj()).conj() / np.sqrt(degree[part])
        return found

    def _read(self, members: NDArray[np.int64]) -> NDArray[np.void]:
        """Read the sums of patches with ascending indices; consecutive ones in one piece."""
        runs = np.split(members, np.flatnonzero(np.diff(members) != 1) + 1)
        parts = [self._spool.get(int(run[0]), len(run)) for run in runs]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _merged(of_block: NDArray[np.int32], light: csr_array, least: float) -> NDArray[np.int32]:
    """Merge the labels of blocks that one of these patches illuminates together."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    bright = light.data > least
    ends = np.concatenate([[0], np.cumsum(bright)])[light.indptr]
    # a graph of patches and labels of blocks is small, a graph of pairs of patches would not be
    count, labels = light.shape
    edges = of_block[light.indices[bright]] + count
    graph = csr_array((bright[bright], edges, np.append(ends, [len(edges)] * labels)), (count + labels,) * 2)
    found = connected_components(graph, directed=False)[1][count:]
    return np.asarray(np.unique(found, return_inverse=True)[1][of_block], np.int32)
