"""Run a network over a scan in batches of groups, as many at a time as the engine allows.

`reconstruct` stitches the patches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.errors import NotFiniteError, ScanError
from ptyonnx_runtime.flux import match_flux
from ptyonnx_runtime.grouping import groups_covering
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.options import Options
from ptyonnx_runtime.inference.workers import in_order, worker_count
from ptyonnx_runtime.scan import Scan, chunks
from ptyonnx_runtime.stitching.placement import conventions, patch_positions
from ptyonnx_runtime.stitching.stitching import Canvas, Tiles

__all__ = ["Patches", "Runner", "as_slice", "patches", "predict"]

_DEFAULT = Options()
_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# Vacuum is 1. From about 1e17, intensities exceed the range of float32; from 1e36, sums of patches do.
_LARGEST = 1e12


class Patches(NamedTuple):
    """The network's patches for some patterns.

    Attributes
    ----------
    pattern : (n,) int64
        Index of the pattern that each patch belongs to. A pattern may occur more than once.
    values : (n, N, N) complex64
    share : (n,) float64
        1 / number of patches of that pattern in the whole scan.
    """

    pattern: NDArray[np.int64]
    values: NDArray[np.complex64]
    share: NDArray[np.float64]


def predict(bundle: Bundle, scan: Scan, engine: Engine, options: Options = _DEFAULT) -> Iterator[Patches]:
    """Compute patches batch by batch, in the order of the groups; parameters as in `reconstruct`."""
    runner = Runner(bundle, scan, engine, options)
    with closing(runner.in_order(runner.run)) as results:
        yield from runner.with_progress(results)


def patches(bundle: Bundle, scan: Scan, engine: Engine, options: Options = _DEFAULT) -> NDArray[np.complex64]:
    """Compute one patch per pattern, all in memory; parameters as in `reconstruct`.

    Returns
    -------
    (pattern, N, N) complex64
        The mean over the groups that a pattern belongs to; NaN for a dark pattern.
    """
    result = np.zeros((len(scan), scan.N, scan.N), np.complex64)
    result[~scan.lit] = complex(np.nan, np.nan)
    for batch in predict(bundle, scan, engine, options):
        np.add.at(result, batch.pattern, batch.values * batch.share[:, np.newaxis, np.newaxis].astype(np.float32))
    return result


class Runner:
    """An engine, a scan, and everything that is decided before the first batch.

    Attributes
    ----------
    engine : Engine
    workers : int
        Threads that compute batches: the engine's concurrency.
    residual_workers : int
        Threads that compute the residual.
    lit : (n,) int64
        Indices of the patterns that are not dark; no other enters the network.
    groups : (group, channel) int64
        Indices of patterns that enter together.
    flux : Flux
    """

    def __init__(self, bundle: Bundle, scan: Scan, engine: Engine, options: Options) -> None:
        _check_fit(bundle, scan)
        self._scan = scan
        self._bundle = bundle
        self._options = options
        self._conventions = conventions(bundle)
        self.N = scan.N
        self.flux = match_flux(bundle, scan, options.flux)
        self.lit = np.flatnonzero(scan.lit)
        if scan.darkness:
            _logger.warning("%s: %s", scan.name, scan.darkness)
        self.groups = self.lit[groups_covering(scan.positions_px[self.lit], bundle.manifest.recipe.channels, scan.name)]
        self._share = 1 / np.maximum(1, np.bincount(self.groups.ravel(), minlength=len(scan)))
        self.engine = engine
        self.workers = engine.concurrency
        self.residual_workers = worker_count(options.threads)
        self._size = options.batch_size or max(1, engine.batch_px // (self.groups.shape[1] * scan.N**2))

    def in_order(self, function: Callable[[NDArray[np.int64]], Result]) -> Generator[Result]:
        """Results for every batch, from all workers. A caller that may stop early has to close the generator."""
        return self.distribute(function, self.batches())

    def distribute(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        """Call `function` for every item in the workers' threads; see :func:`ptyonnx_runtime.inference.workers.in_order`."""
        return in_order(function, items, self.workers, abandon=self._options.abandon)

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Groups that run together: (group, channel) indices of patterns."""
        return (self.groups[part] for part in chunks(len(self.groups), self._size))

    @property
    def patches_per_batch(self) -> int:
        """Number of patches in every batch except the last, which may have fewer."""
        return self._size * int(self.groups.shape[1])

    def with_progress(self, results: Iterator[Result]) -> Iterator[Result]:
        """Pass on the result of each batch, and report progress after each."""
        for number, result in enumerate(results, start=1):
            yield result
            done = min(number * self._size, len(self.groups))
            if self._options.progress is not None:
                self._options.progress(done, len(self.groups))
            self.report("network", done, len(self.groups))

    def report(self, stage: str, done: int, total: int) -> None:
        """Report the progress of a stage: see :class:`Options`."""
        if self._options.stages is not None:
            self._options.stages(stage, done, total)

    def place(self, members: NDArray[np.int64], canvas: Canvas) -> Tiles:
        """Run one batch and shift its patches onto the canvas."""
        batch = self.run(members)
        positions_px = patch_positions(self._conventions, self._scan.positions_px[members])
        return canvas.tiles(batch.values, positions_px.reshape(-1, 2), batch.share)

    def run(self, members: NDArray[np.int64]) -> Patches:
        """Read, scale and run one batch."""
        pattern = members.ravel()
        diffraction = self.measured(as_slice(pattern))
        shape = (*members.shape, *diffraction.shape[1:])
        values = self.engine.run(diffraction.reshape(shape)).reshape(diffraction.shape)
        self._check_finite(pattern, diffraction, values)
        return Patches(pattern, values, self._share[pattern])

    def _check_finite(
        self, pattern: NDArray[np.int64], diffraction: NDArray[np.float32], values: NDArray[np.complex64]
    ) -> None:
        """Refuse non-finite patches: in the stitched object they would look like pixels that no pattern reaches."""
        parts = np.ascontiguousarray(values).view(np.float32)
        if parts.min() > -_LARGEST and parts.max() < _LARGEST:  # both are False for NaN; no copy is made
            return
        usable = (np.abs(parts) < _LARGEST).all(axis=(1, 2))
        first = int(np.argmin(usable))
        what = "not finite" if not np.isfinite(parts[first]).all() else f"beyond {_LARGEST:g}"
        raise NotFiniteError(
            f"the network's object is {what} at pattern {pattern[first]} of {self._scan.name}",
            file=self._bundle.name, key="object", found=f"{np.sum(~usable)} of the {len(values)} patterns of this batch",
            expected=f"numbers; the pattern's largest amplitude is {diffraction[first].max():.3g}",
            remedy="check the units of the patterns, and the bundle with: ptyonnx verify",
        )  # fmt: skip

    def measured(self, index: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Measured amplitudes at the bundle's photon scale."""
        diffraction = self._scan.diffraction[index]
        return diffraction if self.flux.scale == 1 else diffraction * np.float32(self.flux.scale)


def as_slice(index: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Turn consecutive indices into a slice, which a file reads in one piece."""
    first, last = int(index[0]), int(index[-1])
    if last - first + 1 == len(index) and (np.diff(index) == 1).all():
        return slice(first, last + 1)
    return index


def _check_fit(bundle: Bundle, scan: Scan) -> None:
    if len(scan) == 0:
        raise ScanError("no patterns", file=scan.name, key="diffraction")
    if scan.N != bundle.manifest.physics.N:
        raise ScanError(
            f"the patterns do not fit the bundle {bundle.name}", file=scan.name, key="diffraction",
            found=f"N = {scan.N}", expected=f"N = {bundle.manifest.physics.N}",
            remedy="crop or pad the patterns, or train a network for them",
        )  # fmt: skip
