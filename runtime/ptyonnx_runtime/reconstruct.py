"""From a bundle and a scan to an object image, chunk by chunk.

The network runs over all patterns once; its patches wait in a temporary file until their
overlaps have shown their phases, and are stitched; a last pass compares the stitched object with
every pattern. No more than a few chunks are in memory beside the canvas, however long the scan. Reading and writing files is the business of `ptyonnx.formats`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_runtime.engine import Engine
from ptyonnx_runtime.flux import Flux, FluxChoice, match_flux
from ptyonnx_runtime.grouping import groups_covering
from ptyonnx_runtime.illumination import amplitude_factor, illumination
from ptyonnx_runtime.phasing import BlockSums, Overlaps
from ptyonnx_runtime.placement import conventions, patch_positions, patch_weight
from ptyonnx_runtime.residual import ForwardModel, Misfit, r_factor
from ptyonnx_runtime.scan import Scan, chunks
from ptyonnx_runtime.session import Session, cores
from ptyonnx_runtime.spool import TileSpool
from ptyonnx_runtime.stitching import Canvas, Tiles, frame_of, probe_weight
from ptyonnx_runtime.workers import in_order

__all__ = ["Patches", "PhaseChoice", "Reconstruction", "patches", "predict", "reconstruct"]

Progress = Callable[[int, int], None]
Result = TypeVar("Result")
PhaseChoice = Literal["overlap", "network"]

# Pixels of a chunk, small enough that what is computed from it stays in a core's cache. Measured
# at N = 64, one thread: 4 patterns 524 us each, 16 patterns 544; the residual is best at 16.
_NETWORK_CHUNK_PX = 4 * 64 * 64
_RESIDUAL_CHUNK_PX = 16 * 64 * 64
# An engine that is given uses all cores for one batch: larger ones, so that they are worth sharing out.
_SHARED_CHUNK_PX = 16 * 64 * 64
_GPU_CHUNK_PX = 256 * 64 * 64


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


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A stitched object, what supports it, and where it comes from.

    Attributes
    ----------
    object : (y, x) complex64
        NaN where too little light came to know anything.
    mask : (y, x) bool
        True exactly there (the sense of NumPy's masked arrays).
    origin_px : (int, int)
        Object coordinate (y, x) of pixel (0, 0).
    residual : (pattern,) float64
        R-factor of every pattern; NaN for a pattern without photons.
    r_factor : float
        ``sqrt(sum (sqrt(I) - A)**2 / sum A**2)`` over all patterns.
    vacuum_r_factor : float
        The same for an object of ones: a reconstruction must stay well below it.
    flux : Flux
        How the scan's photons compare with the bundle's, and what was done about it.
    provider : str
        Where the network ran.
    bundle : Bundle
    probe : (mode, N, N) complex64, sqrt(photons)
        What the patches were weighted with and the residual was computed with: the bundle's, see
        :func:`ptyonnx_runtime.illumination.illumination`.
    positions_px : (pattern, 2) float64
        (y, x).
    object_pixel_size_m, photon_energy_eV, detector_distance_m : float or None
        As the scan states them.
    scan_name : str
    engine : str
        What ran the network: onnxruntime or a framework, see :class:`ptyonnx_runtime.engine.Engine`.
    """

    object: NDArray[np.complex64]
    mask: NDArray[np.bool_]
    origin_px: tuple[int, int]
    residual: NDArray[np.float64]
    r_factor: float
    vacuum_r_factor: float
    flux: Flux
    provider: str
    bundle: Bundle
    probe: NDArray[np.complex64]
    positions_px: NDArray[np.float64]
    object_pixel_size_m: float | None
    photon_energy_eV: float | None
    detector_distance_m: float | None
    scan_name: str
    engine: str = Session.name


def reconstruct(
    bundle: Bundle,
    scan: Scan,
    *,
    provider: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    flux: FluxChoice = "match",
    phases: PhaseChoice = "overlap",
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Reconstruction:
    """Reconstruct the object of a scan.

    Parameters
    ----------
    bundle : Bundle
    scan : Scan
    provider : str
        See :class:`ptyonnx_runtime.session.Session`.
    threads : int
        Worker threads; 0: as many as there are cores.
    batch_size : int, optional
        Groups that run together; by default chosen from N and the provider. It does not change
        the result.
    flux : {"match", "as-is"}
        Whether amplitudes are scaled where scan and bundle differ by more than 10 % in photons.
    phases : {"overlap", "network"}
        Where the global phase of each patch comes from, which its pattern leaves free: from the
        overlaps (see :mod:`ptyonnx_runtime.phasing`; patches wait in a temporary file), or as
        the network guessed it.
    progress : callable, optional
        Called with (groups that went through the network, groups in all).
    engine : Engine, optional
        What computes the patches, one batch at a time and with threads of its own; `provider` is
        that of the engine then. By default onnxruntime.

    Raises
    ------
    ScanError
        The scan does not fit the bundle, or cannot be reconstructed.
    ProviderError
        The provider is unknown or does not work here.
    """
    runner = _Runner(bundle, scan, engine, provider=provider, threads=threads, batch_size=batch_size, flux=flux)
    if phases not in get_args(PhaseChoice):
        raise SettingsError("no such choice", key="phases", found=phases, expected="overlap or network")
    frame = frame_of(scan)
    probe = illumination(bundle, scan, runner.flux)
    canvas = Canvas(frame, patch_weight(conventions(bundle), probe_weight(probe)))

    stitch = _stitch_agreeing if phases == "overlap" else _stitch
    stitch(canvas, runner, progress)
    stitched, mask = canvas.finish()
    model = ForwardModel(stitched, frame, probe)
    if bundle.is_foreign:
        model = ForwardModel(stitched * amplitude_factor(model, scan, runner.flux), frame, probe)
    misfit = _misfit(model, scan, runner)
    squares = np.full(len(scan), np.nan)
    np.divide(misfit.object, misfit.measured, out=squares, where=misfit.measured > 0)
    return Reconstruction(
        object=stitched,
        mask=mask,
        origin_px=frame.origin_px,
        residual=np.sqrt(squares),
        r_factor=r_factor(misfit.object, misfit.measured),
        vacuum_r_factor=r_factor(misfit.vacuum, misfit.measured),
        flux=runner.flux,
        provider=runner.engine.provider,
        bundle=bundle,
        probe=probe,
        positions_px=scan.positions_px,
        object_pixel_size_m=scan.object_pixel_size_m,
        photon_energy_eV=scan.photon_energy_eV,
        detector_distance_m=scan.detector_distance_m,
        scan_name=scan.name,
        engine=runner.engine.name,
    )


def predict(
    bundle: Bundle,
    scan: Scan,
    *,
    provider: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    flux: FluxChoice = "match",
    engine: Engine | None = None,
) -> Iterator[Patches]:
    """The network's patches, batch by batch, in the order of the groups; parameters as in `reconstruct`."""
    runner = _Runner(bundle, scan, engine, provider=provider, threads=threads, batch_size=batch_size, flux=flux)
    yield from in_order(runner.run, runner.batches(), runner.workers)


def patches(
    bundle: Bundle,
    scan: Scan,
    *,
    provider: str = "auto",
    threads: int = 0,
    batch_size: int | None = None,
    flux: FluxChoice = "match",
    engine: Engine | None = None,
) -> NDArray[np.complex64]:
    """One patch per pattern, all in memory; parameters as in `reconstruct`.

    Returns
    -------
    (pattern, N, N) complex64
        The mean over the groups that a pattern belongs to.
    """
    result = np.zeros((len(scan), scan.N, scan.N), np.complex64)
    batches = predict(bundle, scan, provider=provider, threads=threads, batch_size=batch_size, flux=flux, engine=engine)
    for found in batches:
        np.add.at(result, found.pattern, found.values * found.share[:, np.newaxis, np.newaxis].astype(np.float32))
    return result


class _Runner:
    """An engine with everything that was decided before the first batch."""

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
    ) -> None:
        _check_fit(bundle, scan)
        if batch_size is not None and batch_size < 1:
            raise SettingsError("must be positive", key="batch_size", found=batch_size)
        if threads < 0:
            raise SettingsError("must not be negative", key="threads", found=threads)
        self._scan = scan
        self._conventions = conventions(bundle)
        self.N = scan.N
        self.groups = groups_covering(scan.positions_px, bundle.manifest.recipe.channels, scan.name)
        self._share = 1 / np.bincount(self.groups.ravel(), minlength=len(scan))
        self.flux = match_flux(bundle, scan, flux)
        # onnxruntime on the CPU: several batches at a time with one thread each: threads that never
        # wait for each other, and stitching overlaps with the network.
        self.engine: Engine | Session = engine or Session(bundle, provider, threads=1)
        on_cpu = self.engine.provider == "cpu"
        self.residual_workers = threads or cores()
        self.workers = self.residual_workers if on_cpu and engine is None else 1
        budget = _GPU_CHUNK_PX if not on_cpu else _NETWORK_CHUNK_PX if engine is None else _SHARED_CHUNK_PX
        self._size = batch_size or max(1, budget // (self.groups.shape[1] * scan.N**2))

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
        diffraction = self.measured(_as_slice(pattern))
        shape = (*members.shape, *diffraction.shape[1:])
        values = self.engine.run(diffraction.reshape(shape))
        return Patches(pattern, values.reshape(diffraction.shape), self._share[pattern])

    def measured(self, index: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Measured amplitudes at the bundle's photon scale."""
        diffraction = self._scan.diffraction[index]
        return diffraction if self.flux.scale == 1 else diffraction * np.float32(self.flux.scale)


def _stitch(canvas: Canvas, runner: _Runner, progress: Progress | None) -> None:
    """Fill the canvas with patches as the network made them."""
    placed = in_order(lambda members: runner.place(members, canvas), runner.batches(), runner.workers)
    for tiles in runner.watched(placed, progress):
        canvas.add(tiles)


def _stitch_agreeing(canvas: Canvas, runner: _Runner, progress: Progress | None) -> None:
    """Fill the canvas with patches whose phases agree: they wait in a file until the phases are known."""
    overlaps = Overlaps(canvas.frame, runner.N)
    with TileSpool() as spool:

        def prepare(numbered: tuple[int, NDArray[np.int64]]) -> BlockSums:
            number, members = numbered
            tiles = runner.place(members, canvas)
            spool.put(number, tiles)
            return overlaps.sums(tiles)

        sums = in_order(prepare, enumerate(runner.batches()), runner.workers)
        for part in runner.watched(sums, progress):
            overlaps.add(part)
        factors = overlaps.phases()

        def turned(numbered: tuple[int, NDArray[np.int64]]) -> Tiles:
            number, _ = numbered
            first = number * runner.patches_per_batch
            return spool.get(number).rotated(factors[first : first + runner.patches_per_batch])

        for tiles in in_order(turned, enumerate(runner.batches()), runner.workers):
            canvas.add(tiles)


def _misfit(model: ForwardModel, scan: Scan, runner: _Runner) -> Misfit:
    """Compare the object with every pattern, with all workers."""

    def compare(part: slice) -> Misfit:
        return model.compare(runner.measured(part), scan.positions_px[part])

    size = max(1, _RESIDUAL_CHUNK_PX // scan.N**2)
    parts = list(in_order(compare, chunks(len(scan), size), runner.residual_workers))
    return Misfit(*(np.concatenate(sums) for sums in zip(*parts, strict=True)))


def _as_slice(index: NDArray[np.int64]) -> slice | NDArray[np.int64]:
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
