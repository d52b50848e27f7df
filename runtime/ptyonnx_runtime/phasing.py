"""One global phase per patch, chosen so that overlapping patches agree.

A single diffraction pattern says nothing about the global phase of its patch: a network can
only guess it, and averaging patches whose phases disagree wipes out the slow variations of the
object. Where patches overlap, their relative phase is measured. Finding all phases at once is
angular synchronisation [Singer, Appl. Comput. Harmon. Anal. 30 (2011) 20-36]: they are the
leading eigenvector of the matrix of inner products between patches.

The inner products are taken between sums over small blocks of the canvas, which agree with those
over pixels to the third digit of the final phase and take 64 times less memory and time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, eigsh

from ptyonnx_runtime.stitching import Frame, Tiles

__all__ = ["BLOCK_PX", "Overlaps"]

BLOCK_PX = 8
_PRECISION = 1e-10  # of the eigenvector: far below the 1e-6 that the order of patches may change
_DENSE = 32  # patches up to which a dense solver is simpler and exact
_LEAST_COUPLING = 1e-6  # relative: patches that share less light are not connected


class Overlaps:
    """Collects what patches have in common, a chunk of tiles at a time.

    Parameters
    ----------
    frame : Frame
        Of the canvas that the tiles belong to.
    """

    def __init__(self, frame: Frame) -> None:
        self._columns = frame.shape[1] // BLOCK_PX + 2
        self._size = (frame.shape[0] // BLOCK_PX + 2) * self._columns
        self._values: list[NDArray[np.complex64]] = []
        self._blocks: list[NDArray[np.int32]] = []

    def add(self, tiles: Tiles) -> None:
        """Take the next tiles; they are not changed and need not be kept."""
        sums, blocks = block_sums(tiles, self._columns)
        self._values.append(sums)
        self._blocks.append(blocks)

    def phases(self) -> NDArray[np.complex128]:
        """The factor of absolute value 1 that each patch is to be multiplied with.

        Patches that no overlap connects keep the phases of the network relative to each other,
        and so does the whole: its mean phase is not changed.

        Returns
        -------
        (patch,) complex128
        """
        values = np.concatenate(self._values)
        blocks = np.concatenate(self._blocks)
        count, per_patch = values.shape
        start = np.arange(count + 1) * per_patch
        matrix = csr_array((values.ravel().astype(np.complex128), blocks.ravel(), start), (count, self._size))
        light = abs(matrix)
        _, label = connected_components(_coupling(light), directed=False)
        factors = np.ones(count, np.complex128)
        for component in range(label.max() + 1):
            members = np.flatnonzero(label == component)
            if len(members) > 1:
                factors[members] = _synchronised(matrix[members], light[members])
        return factors


def block_sums(tiles: Tiles, columns: int) -> tuple[NDArray[np.complex64], NDArray[np.int32]]:
    """Sum every tile over the blocks of the canvas that it touches.

    Parameters
    ----------
    tiles : Tiles
    columns : int
        Blocks along x of the canvas.

    Returns
    -------
    sums : (patch, block) complex64
    blocks : (patch, block) int32
        Index of each block on the canvas.
    """
    patches = tiles.values.view(np.complex64)
    count, rows, _ = patches.shape
    touched = (rows + BLOCK_PX - 2) // BLOCK_PX + 1
    padded = np.zeros((count, touched * BLOCK_PX, touched * BLOCK_PX), np.complex64)
    inside = tiles.corner % BLOCK_PX
    for target, patch, (y, x) in zip(padded, patches, inside.tolist(), strict=True):
        target[y : y + rows, x : x + rows] = patch
    sums = padded.reshape(count, touched, BLOCK_PX, touched, BLOCK_PX).sum(axis=(2, 4))
    first = tiles.corner // BLOCK_PX
    y, x = (first[:, axis, np.newaxis] + np.arange(touched) for axis in (0, 1))
    blocks = np.minimum(y[:, :, np.newaxis] * columns + x[:, np.newaxis, :], 2**31 - 1)
    return sums.reshape(count, -1), blocks.reshape(count, -1).astype(np.int32)


def _coupling(light: csr_array) -> csr_array:
    """Which patches share light, as a bipartite graph of patches and blocks: small, unlike pairs."""
    bright = light.copy()
    bright.data[bright.data <= _LEAST_COUPLING * bright.data.max(initial=0)] = 0
    bright.eliminate_zeros()
    return csr_array(bright @ bright.T)


def _synchronised(matrix: csr_array, light: csr_array) -> NDArray[np.complex128]:
    """Phases of patches that are connected: leading eigenvector of the normalised inner products."""
    count = matrix.shape[0]
    degree = light @ (light.T @ np.ones(count))
    scaled = diags_array(1 / np.sqrt(degree)) @ matrix
    adjoint, transposed = scaled.conj().tocsr(), scaled.T.tocsr()
    if count <= _DENSE:
        vector = np.linalg.eigh((adjoint @ transposed).toarray())[1][:, -1]
    else:
        products = LinearOperator((count, count), lambda v: adjoint @ (transposed @ v.ravel()), dtype=np.complex128)
        vector = eigsh(products, k=1, which="LA", v0=np.sqrt(degree).astype(np.complex128), tol=_PRECISION)[1][:, 0]
    size = np.abs(vector)
    factors = np.where(size > 0, vector / np.where(size > 0, size, 1), 1)
    mean = np.vdot(factors, degree)
    return factors * (mean / abs(mean) if mean else 1)



