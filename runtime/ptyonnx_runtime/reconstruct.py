"""Reconstruct an object image from a scan with a bundle, chunk by chunk.

The network runs over all patterns once. Its patches wait in a temporary file until their phases have been estimated from
the overlaps, and are then stitched. A last pass compares the stitched object with every pattern. Memory holds the canvas
and a few chunks, however long the scan is. `inference.runner` runs the network; `ptyonnx.formats` reads and writes files.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptyonnx_bundles import Bundle
from ptyonnx_runtime.flux import Flux
from ptyonnx_runtime.inference.engine import Engine
from ptyonnx_runtime.inference.options import Options, PhaseChoice, Progress
from ptyonnx_runtime.inference.runner import Runner, as_slice
from ptyonnx_runtime.inference.session import Session
from ptyonnx_runtime.inference.workers import in_order
from ptyonnx_runtime.scan import Scan, chunks
from ptyonnx_runtime.stitching.illumination import amplitude_factor, illumination
from ptyonnx_runtime.stitching.phasing import Overlaps
from ptyonnx_runtime.stitching.placement import conventions, patch_weight
from ptyonnx_runtime.stitching.residual import ForwardModel, Misfit, r_factor
from ptyonnx_runtime.stitching.spool import TileSpool
from ptyonnx_runtime.stitching.stitching import Canvas, Tiles, frame_of, probe_weight

__all__ = ["Options", "PhaseChoice", "Progress", "Reconstruction", "reconstruct"]

_DEFAULT = Options()

# Relative to the R-factor of vacuum. On the shipped scan, a network trained for 16 epochs reaches 0.53 at the right
# positions, and 0.96 to 0.97 with x and y swapped or one axis mirrored. After three epochs, these are 0.69 and 0.98 to
# 0.99. Other wrong geometries gave 0.92 to 0.94.
_HARDLY_BETTER = 0.85
_RESIDUAL_CHUNK_PX = 16 * 64 * 64  # pixels of a chunk, small enough to stay in a core's cache


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A stitched object, its agreement with the measurement, and its origin.

    Attributes
    ----------
    object : (y, x) complex64
        NaN where the illumination was too weak.
    mask : (y, x) bool
        True where the object is NaN, as in NumPy's masked arrays.
    origin_px : (int, int)
        Object coordinate (y, x) of pixel (0, 0).
    residual : (pattern,) float64
        R-factor of every pattern; NaN for dark patterns, which are not used
        (:attr:`ptyonnx_runtime.scan.Scan.lit`).
    r_factor : float
        ``sqrt(sum (sqrt(I) - A)**2 / sum A**2)`` over all patterns that are not dark.
    vacuum_r_factor : float
        The same for an object of ones. A good reconstruction has a much lower R-factor.
    flux : Flux
        Photons of scan and bundle, and the factor that was applied.
    provider : str
        Where the network ran.
    bundle : Bundle
    probe : (mode, N, N) complex64, sqrt(photons)
        Used to weight the patches and to compute the residual: the bundle's, see
        :func:`ptyonnx_runtime.stitching.illumination.illumination`.
    positions_px : (pattern, 2) float64
        (y, x).
    object_pixel_size_m, photon_energy_eV, detector_distance_m : float or None
        As the scan states them.
    scan_name : str
    engine : str
        Name of the engine that ran the network; see :class:`ptyonnx_runtime.inference.engine.Engine`.
    dark : int
        Number of dark patterns.
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
    dark: int = 0

    @property
    def is_hardly_better_than_vacuum(self) -> bool:
        """Whether the R-factor is within 15 % of that of vacuum, or worse.

        Possible causes are a wrong geometry (x and y swapped, an axis mirrored, positions in another unit), a bundle for
        another kind of sample, and patterns with so few photons that noise dominates both figures.
        """
        return self.r_factor >= _HARDLY_BETTER * self.vacuum_r_factor


def reconstruct(bundle: Bundle, scan: Scan, engine: Engine, options: Options = _DEFAULT) -> Reconstruction:
    """Reconstruct the object of a scan.

    Parameters
    ----------
    bundle : Bundle
    scan : Scan
    engine : Engine
        Computes the patches: the bundle in onnxruntime (:meth:`ptyonnx_runtime.inference.session.Session.concurrent`),
        or another engine of its weights. It can be used again afterwards.
    options : Options

    Returns
    -------
    Reconstruction

    Raises
    ------
    ScanError
        The scan does not fit the bundle, or cannot be reconstructed.
    ProviderError
        The engine cannot compute a batch, for example for lack of memory.
    NotFiniteError
        The network predicts NaN, infinity or values beyond 1e12 for a pattern.
    WorkerError
        A foreign graph killed its process, or took too long.
    """
    runner = Runner(bundle, scan, engine, options)
    frame = frame_of(scan)
    probe = illumination(bundle, scan, runner.flux)
    canvas = Canvas(frame, patch_weight(conventions(bundle), probe_weight(probe)))

    by_overlap = options.phases == "overlap" or (options.phases == "auto" and not bundle.is_foreign)
    stitch = _stitch_in_phase if by_overlap else _stitch
    stitch(canvas, runner)
    stitched, mask = canvas.finish()
    model = ForwardModel(stitched, frame, probe)
    if bundle.is_foreign:
        model = ForwardModel(stitched * amplitude_factor(model, scan, runner.flux), frame, probe)
    misfit = _misfit(model, scan, runner)
    residual = np.full(len(scan), np.nan)
    residual[runner.lit] = np.sqrt(misfit.object / misfit.measured)
    return Reconstruction(
        object=stitched,
        mask=mask,
        origin_px=frame.origin_px,
        residual=residual,
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
        dark=len(scan) - len(runner.lit),
    )


def _stitch(canvas: Canvas, runner: Runner) -> None:
    """Fill the canvas with patches as the network predicts them."""
    with closing(runner.in_order(lambda members: runner.place(members, canvas))) as placed:
        for tiles in runner.with_progress(placed):
            canvas.add(tiles)


def _stitch_in_phase(canvas: Canvas, runner: Runner) -> None:
    """Fill the canvas with patches in phase: they wait in a file until their phases have been estimated."""
    size, count = runner.patches_per_batch, runner.groups.size
    with TileSpool(runner.N, count) as spool, Overlaps(canvas.frame, runner.N, count) as overlaps:

        def prepare(numbered: tuple[int, NDArray[np.int64]]) -> None:
            number, members = numbered
            tiles = runner.place(members, canvas)
            spool.put_tiles(number * size, tiles)
            overlaps.add(number * size, tiles)

        with closing(runner.distribute(prepare, enumerate(runner.batches()))) as prepared:
            for _ in runner.with_progress(prepared):
                pass
        runner.report("stitching", 0, count)
        factors = overlaps.phases()

        def rotated(part: slice) -> Tiles:
            return spool.get_tiles(part.start, part.stop - part.start).rotated(factors[part])

        with closing(in_order(rotated, chunks(count, size), runner.workers)) as placed:
            for part, tiles in zip(chunks(count, size), placed, strict=True):
                canvas.add(tiles)
                runner.report("stitching", part.stop, count)


def _misfit(model: ForwardModel, scan: Scan, runner: Runner) -> Misfit:
    """Compare the object with every pattern that is not dark, in parallel."""

    def compare(part: slice) -> Misfit:
        members = runner.lit[part]
        return model.compare(runner.measured(as_slice(members)), scan.positions_px[members])

    size = max(1, _RESIDUAL_CHUNK_PX // scan.N**2)
    whole = Misfit(*(np.empty(len(runner.lit)) for _ in Misfit._fields))
    runner.report("residual", 0, len(runner.lit))
    with closing(in_order(compare, chunks(len(runner.lit), size), runner.residual_workers)) as results:
        for part, sums in zip(chunks(len(runner.lit), size), results, strict=True):
            for values, some in zip(whole, sums, strict=True):
                values[part] = some
            runner.report("residual", part.stop, len(runner.lit))
    return whole
