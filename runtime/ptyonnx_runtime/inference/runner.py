"""Run a bundle's network over a scan: which patterns enter together, in batches, on all cores.

What becomes of the patches is the business of `reconstruct`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.confinement import DEFAULT_LIMIT_S
from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import NotFiniteError, ScanError, SettingsError
from ptyonnx_runtime.flux import FluxChoice, match_flux
from ptyonnx_runtime.grouping import groups_covering
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.session import Session
from ptyonnx_runtime.inference.workers import in_order
from ptyonnx_runtime.scan import Scan, chunks
from ptyonnx_runtime.stitching.placement import conventions, patch_positions
from ptyonnx_runtime.stitching.stitching import Canvas, Tiles

__all__ = ["Patches", "Progress", "Runner", "as_slice", "patches", "predict"]

_logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Result = TypeVar("Result")

# Pixels of a chunk, small enough that what is computed from it stays in a core's cache. Measured
# at N = 64, one thread: 4 patterns 524 us each, 16 patterns 544.
_NETWORK_CHUNK_PX = 4 * 64 * 64
# An engine that is given uses all cores for one batch: larger ones, so that they are worth sharing out.
_SHARED_CHUNK_PX = 16 * 64 * 64
_GPU_CHUNK_PX = 256 * 64 * 64

# Vacuum is 1. From about 1e17 intensities are beyond float32, and so are sums of patches from 1e36.
_LARGEST = 1e12


class Patches(NamedTuple):
    """What the network made of some patterns.

    Attributes
    ----------
    pattern : (n,) int64
        Index of the pattern that each patch belongs to; may name a pattern more than once.
    values : (n, N, N) complex64
    share : (n,) float64
        1 / number of patches of that pattern in the whole scan.
    """

    pattern: NDArray[np.int64]
    values: NDArray[np.complex64]
    share: NDArray[np.float64]


def predict(
    bundle: Bundle,
    scan: Scan,
    *,
    provider: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    flux: FluxChoice = "match",
    engine: Engine | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
) -> Iterator[Patches]:
    """The network's patches, batch by batch, in the order of the groups; parameters as in `reconstruct`."""
    with (
        Runner(
            bundle, scan, engine, provider=provider, threads=threads, batch_size=batch_size, flux=flux, limit_s=limit_s
        ) as runner,
        closing(runner.in_order(runner.run)) as found,
    ):
        yield from found


def patches(
    bundle: Bundle,
    scan: Scan,
    *,
    provider: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    flux: FluxChoice = "match",
    engine: Engine | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
) -> NDArray[np.complex64]:
    """One patch per pattern, all in memory; parameters as in `reconstruct`.

    Returns
    -------
    (pattern, N, N) complex64
        The mean over the groups that a pattern belongs to; NaN for a dark pattern.
    """
    result = np.zeros((len(scan), scan.N, scan.N), np.complex64)
    result[~scan.lit] = complex(np.nan, np.nan)
    batches = predict(
        bundle,
        scan,
        provider=provider,
        threads=threads,
        batch_size=batch_size,
        flux=flux,
        engine=engine,
        limit_s=limit_s,
    )
    for found in batches:
        np.add.at(result, found.pattern, found.values * found.share[:, np.newaxis, np.newaxis].astype(np.float32))
    return result


class Runner:
    """An engine with everything that was decided before the first batch.

    A context manager: an engine that was not given ends with it.

    Attributes
    ----------
    lit : (n,) int64
        Indices of the patterns that are not dark; no other enters the network.
    groups : (group, channel) int64
        Indices of patterns that enter together.
    flux : Flux
    """

    def __init__(
        self,
        bundle: Bundle,
        scan: Scan,
        engine: Engine | None,
        *,
        provider: str,
        threads: int,
        batch_size: int | None,
        flux: FluxChoice,
        limit_s: float,
    ) -> None:
        _check_fit(bundle, scan)
        if batch_size is not None and batch_size < 1:
            raise SettingsError("must be positive", key="batch_size", found=batch_size)
        if threads < 0:
            raise SettingsError("must not be negative", key="threads", found=threads)
        self._scan = scan
        self._bundle = bundle
        self._conventions = conventions(bundle)
        self.N = scan.N
        self.flux = match_flux(bundle, scan, flux)
        self.lit = np.flatnonzero(scan.lit)
        if scan.darkness:
            _logger.warning("%s: %s", scan.name, scan.darkness)
        self.groups = self.lit[groups_covering(scan.positions_px[self.lit], bundle.manifest.recipe.channels, scan.name)]
        self._share = 1 / np.maximum(1, np.bincount(self.groups.ravel(), minlength=len(scan)))
        # onnxruntime on the CPU: several batches at a time with one thread each: threads that never
        # wait for each other, and stitching overlaps with the network.
        self.residual_workers = threads or cores()
        self._closing = ExitStack()
        self.engine: Engine | Session = engine or self._closing.enter_context(
            Session(bundle, provider, 1, limit_s=limit_s, callers=self.residual_workers)
        )
        on_cpu = self.engine.provider == "cpu"
        self.workers = self.residual_workers if on_cpu and engine is None else 1
        budget = _GPU_CHUNK_PX if not on_cpu else _NETWORK_CHUNK_PX if engine is None else _SHARED_CHUNK_PX
        self._size = batch_size or max(1, budget // (self.groups.shape[1] * scan.N**2))

    def close(self) -> None:
        """End the runner's own engine, whatever it computes."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def in_order(self, function: Callable[[NDArray[np.int64]], Result]) -> Generator[Result]:
        """Results for every batch, from all workers; to be closed by whoever may not read all of them."""
        return in_order(function, self.batches(), self.workers, abandon=self.close)

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Groups that run together: (group, channel) indices of patterns."""
        return (self.groups[part] for part in chunks(len(self.groups), self._size))

    @property
    def patches_per_batch(self) -> int:
        """Patches of every batch but the last, which may have fewer."""
        return self._size * int(self.groups.shape[1])

    def watched(self, results: Iterator[Result], progress: Progress | None) -> Iterator[Result]:
        """Hand on what comes of each batch, and tell how far it has got."""
        for number, result in enumerate(results, start=1):
            yield result
            if progress:
                progress(min(number * self._size, len(self.groups)), len(self.groups))

    def place(self, members: NDArray[np.int64], canvas: Canvas) -> Tiles:
        """Run one batch and shift its patches onto the canvas."""
        found = self.run(members)
        positions_px = patch_positions(self._conventions, self._scan.positions_px[members])
        return canvas.tiles(found.values, positions_px.reshape(-1, 2), found.share)

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
        """Refuse what is no number: stitched, it would look like pixels that no pattern reaches."""
        parts = np.ascontiguousarray(values).view(np.float32)
        if parts.min() > -_LARGEST and parts.max() < _LARGEST:  # neither holds for NaN; no copy is made
            return
        usable = (np.abs(parts) < _LARGEST).all(axis=(1, 2))
        first = int(np.argmin(usable))
        what = "not finite" if not np.isfinite(parts[first]).all() else f"beyond {_LARGEST:g}"
        raise NotFiniteError(
            f"the network's object is {what} at pattern {pattern[first]} of {self._scan.name}",
            file=self._bundle.name, key="object", found=f"{np.sum(~usable)} of the {len(values)} patterns of this batch",
            expected=f"numbers; the pattern's largest amplitude is {diffraction[first].max():.3g}",
            remedy="check the units of the patterns; the bundle may be for another exposure or broken: ptyonnx verify",
        )  # fmt: skip

    def measured(self, index: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Measured amplitudes at the bundle's photon scale."""
        diffraction = self._scan.diffraction[index]
        return diffraction if self.flux.scale == 1 else diffraction * np.float32(self.flux.scale)


def as_slice(index: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Consecutive indices as a slice: read from a file in one piece."""
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
