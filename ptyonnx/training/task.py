"""A training task: the arrays that a scan and settings determine, the same for both frameworks."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ptyonnx.settings import Settings
from ptyonnx.training.objective import ObjectiveConstants, objective_constants, overlap_weight
from ptyonnx.training.observer import Observer
from ptyonnx.training.regions import Regions
from ptyonnx.training.schedule import one_cycle
from ptyonnx.training.start import Start
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import ScanError
from ptyonnx_runtime.flux import photons_differ
from ptyonnx_runtime.physics import Pair, pair_from_complex
from ptyonnx_runtime.scan import CHUNK, Scan, chunks

__all__ = ["Task", "prepare", "scan_digest"]

_VALIDATION_EPOCH = 2**31  # the epoch number that validation regions are drawn with; no training epoch has it
_MOST_VALIDATION_PATTERNS = 1024
_MONITORED_GROUPS = 64
_PROBE_TOLERANCE = 2.0  # largest plausible ratio between the photons of the probe and of the patterns


@dataclass(frozen=True, eq=False)
class Task:
    """The data, initial weights and settings that a backend trains with.

    Attributes
    ----------
    recipe : Recipe
    settings : Settings
    training, validation : Regions
    probe : (mode, N, N) complex64, sqrt(photons)
    initial_weights : dict of str to ndarray
        Canonical names, including the two whitening constants.
    mean_photons : float
        Per pattern of the training scan; of the bundle, if training starts from one.
    digest : str
        Of the scan, see :func:`scan_digest`.
    """

    recipe: Recipe
    settings: Settings
    training: Regions
    validation: Regions
    probe: NDArray[np.complex64]
    initial_weights: dict[str, NDArray[np.float32]]
    mean_photons: float
    digest: str

    @cached_property
    def overlap_weight(self) -> NDArray[np.float32]:
        """(N, N): see :func:`ptyonnx.training.objective.overlap_weight`."""
        return overlap_weight(self.probe)

    @cached_property
    def probe_pair(self) -> Pair:
        """The initial probe as real arrays."""
        return pair_from_complex(self.probe)

    def objective_constants(self, canvas: int) -> ObjectiveConstants:
        """Constants of the objective, as NumPy arrays, for canvases of this size."""
        return objective_constants(self.probe, canvas)

    @cached_property
    def monitored_patterns(self) -> NDArray[np.float32]:
        """(group, channel, N, N): patterns on which collapse is detected."""
        return self.training.monitored_groups(_MONITORED_GROUPS)

    @property
    def probe_step(self) -> float:
        """Step of a trained probe for a step of 1 in its parameters, in sqrt(photons)."""
        return self.settings.probe_rate * float(np.abs(self.probe).max())

    @cached_property
    def mean_counts(self) -> float:
        """Mean photons per pixel of the training patterns, by which losses are divided."""
        return self.mean_photons / self.recipe.N**2

    @cached_property
    def rates(self) -> NDArray[np.float32]:
        """Learning rate of every step of the whole training."""
        steps = self.settings.epochs * self.training.steps_per_epoch
        return one_cycle(self.settings.rate, steps, self.settings.warmup)

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Batches of one epoch, see :meth:`Regions.epoch`."""
        return self.training.epoch(self.settings.seed, number)

    @cached_property
    def validation_members(self) -> list[NDArray[np.int64]]:
        """Batches of every validation, which cover the held-out patterns about once."""
        return self.validation.epoch(0, _VALIDATION_EPOCH)


def prepare(
    scan: Scan, settings: Settings, observer: Observer, test_scan: Scan | None = None, start: Start | None = None
) -> Task:
    """Check, subsample, split and whiten a scan for training. Its patterns are read once.

    Parameters
    ----------
    scan : Scan
        To train on. It needs a probe, unless `start` has one.
    settings : Settings
    observer : Observer
        Receives a note on everything that is left out, scaled or replaced.
    test_scan : Scan, optional
        To validate on; without it, some patterns of `scan` are held out.
    start : Start, optional
        To start from: its weights, whitening, probe and photon scale are kept, and patterns of another exposure are
        scaled.

    Raises
    ------
    ScanError
        There is no probe, there are too few patterns, or patterns without signal; or the scan, the test scan and `start`
        differ in N.
    """
    if start is not None:
        start.check_fit(scan)
    elif scan.probe is None:
        raise ScanError("no probe", file=scan.name, key="probeGuess", remedy="give the scan one: probe=…")
    recipe = settings.recipe(scan.N, scan.name) if start is None else start.recipe
    chosen = _subsample(_lit(scan, observer), settings, scan.name)
    trained, held_out = _split(chosen, settings, test_scan is not None, observer)
    mean_photons, scale = float(scan.photons[trained].mean()), 1.0
    if start is not None:
        scale = _scale(scan.name, mean_photons, start.mean_photons, f"bundle {start.name}", observer)
        mean_photons = start.mean_photons
    digest, stored, place = _gather(scan, np.union1d(trained, held_out))
    training = Regions(stored, scan.positions_px[trained], settings, scan.name, place[trained], scale)
    if test_scan is not None:
        validation = _test_regions(test_scan, scan.N, settings, mean_photons, observer)
    else:
        validation = Regions(stored, scan.positions_px[held_out], settings, scan.name, place[held_out], scale)
    return Task(
        recipe=recipe,
        settings=settings,
        training=training,
        validation=validation,
        probe=_probe(scan, start, mean_photons, settings, observer),
        initial_weights=start.weights if start else {**recipe.initial_weights(settings.seed), **_whitening(training)},
        mean_photons=mean_photons,
        digest=digest,
    )


def scan_digest(scan: Scan) -> str:
    """SHA-256 of patterns, positions and probe, which identifies the data of a training."""
    return _gather(scan, np.arange(0))[0]


def _gather(scan: Scan, chosen: NDArray[np.int64]) -> tuple[str, NDArray[np.float32], NDArray[np.int64]]:
    """Read every pattern once, compute the digest of the scan, and keep the chosen patterns.

    Parameters
    ----------
    scan : Scan
    chosen : (n,) int64
        Indices of patterns, ascending.

    Returns
    -------
    digest : str
    stored : (stored, N, N) float32
        The scan's own array, not a copy, if it is in memory.
    place : (pattern,) int64
        Index of each chosen pattern in `stored`.
    """
    in_memory = isinstance(scan.diffraction, np.ndarray)
    place = np.arange(len(scan), dtype=np.int64)
    stored: NDArray[np.float32] = (
        np.asarray(scan.diffraction) if in_memory else np.empty((len(chosen), scan.N, scan.N), np.float32)
    )
    digest = hashlib.sha256()
    for part in chunks(len(scan), CHUNK):
        block = np.ascontiguousarray(scan.diffraction[part], "<f4")
        digest.update(block.data)
        if not in_memory:
            first, last = np.searchsorted(chosen, (part.start, part.stop))
            stored[first:last] = block[chosen[first:last] - part.start]
    if not in_memory:
        place[chosen] = np.arange(len(chosen))
    digest.update(np.asarray(scan.positions_px, "<f8").tobytes())
    if scan.probe is not None:
        digest.update(np.asarray(scan.probe, "<c8").tobytes())
    return digest.hexdigest(), stored, place


def _lit(scan: Scan, observer: Observer) -> NDArray[np.int64]:
    """Indices of the patterns that are not dark; a note states the number of dark ones."""
    if scan.darkness:
        observer.note(f"{scan.name}: {scan.darkness}")
    lit = np.flatnonzero(scan.lit)
    if not lit.size:
        raise ScanError("all patterns are zero", file=scan.name, key="diffraction")
    return lit


def _subsample(lit: NDArray[np.int64], settings: Settings, name: str) -> NDArray[np.int64]:
    if settings.n_subsample is None:
        return lit
    if settings.n_subsample > len(lit):
        raise ScanError(
            "fewer patterns than n_subsample", file=name, key="n_subsample", found=len(lit),
            expected=f"at least {settings.n_subsample}",
        )  # fmt: skip
    return np.sort(np.random.default_rng(settings.subsample_seed).choice(lit, settings.n_subsample, replace=False))


def _split(
    chosen: NDArray[np.int64], settings: Settings, separate: bool, observer: Observer
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split into patterns to train on and held-out patterns."""
    if separate:
        return chosen, chosen[:0]
    wanted = min(round(len(chosen) * settings.validation_fraction), _MOST_VALIDATION_PATTERNS)
    if wanted < settings.channels:
        observer.note("no patterns are held out: validation figures are those of the training patterns")
        return chosen, chosen[:_MOST_VALIDATION_PATTERNS]
    held_out = np.random.default_rng(settings.subsample_seed).choice(chosen, wanted, replace=False)
    return np.setdiff1d(chosen, held_out), np.sort(held_out)


def _test_regions(test: Scan, N: int, settings: Settings, mean_photons: float, observer: Observer) -> Regions:
    if test.N != N:
        raise ScanError("another N than the training scan", file=test.name, key="diffraction", found=test.N, expected=N)
    members = _lit(test, observer)
    if len(members) > _MOST_VALIDATION_PATTERNS:
        members = np.sort(np.random.default_rng(0).choice(members, _MOST_VALIDATION_PATTERNS, replace=False))
    scale = _scale(test.name, test.mean_photons, mean_photons, "training scan", observer)
    every_pattern = settings.model_copy(update={"n_groups": None})
    return Regions(
        np.asarray(test.diffraction[members]), test.positions_px[members], every_pattern, test.name, scale=scale
    )


def _scale(name: str, photons: float, trained_at: float, whose: str, observer: Observer) -> float:
    """Factor on the amplitudes of a scan; 1 if its photons hardly differ from those of the training."""
    if not photons_differ(photons, trained_at):
        return 1.0
    ratio = trained_at / photons
    observer.note(f"{name}: amplitudes scaled by {math.sqrt(ratio):.4g} to the photons of the {whose}")
    return math.sqrt(ratio)


def _whitening(training: Regions) -> dict[str, NDArray[np.float32]]:
    """Mean pattern, and the inverse of the standard deviation over all pixels: the whitening constants of the graph."""
    every = np.arange(len(training), dtype=np.int64)
    parts = [every[part] for part in chunks(len(training), CHUNK)]
    total = sum(training.patterns(part).sum(axis=0, dtype=np.float64) for part in parts)
    mean = np.asarray(total / len(training))
    variance = sum(float(np.square(pattern - mean).mean()) for part in parts for pattern in training.patterns(part))
    deviation = math.sqrt(variance / len(training))
    if not deviation > 0:
        raise ScanError(
            "all patterns are equal",
            file=training.name,
            key="diffraction",
            remedy="a network cannot be trained on them: check the scan",
        )
    return {
        "whitening.mean": mean.astype(np.float32),
        "whitening.scale": np.asarray(1 / deviation, np.float32),
    }


def _probe(
    scan: Scan, start: Start | None, mean_photons: float, settings: Settings, observer: Observer
) -> NDArray[np.complex64]:
    """Choose the probe to train with: the scan's, or that of the bundle that training starts from."""
    if start is None:
        assert scan.probe is not None, "checked by prepare"
        return _scaled_probe(scan.probe, mean_photons, settings, observer)
    if scan.probe is not None and not np.array_equal(scan.probe, start.probe):
        observer.note(
            f"the probe of the bundle {start.name} is used; that of {scan.name} differs from it and is not used"
        )
    # the probe that the weights were trained with is not scaled, unless the settings request it
    return (
        _scaled_probe(start.probe, mean_photons, settings, observer)
        if settings.probe_photons == "patterns"
        else start.probe
    )


def _scaled_probe(
    probe: NDArray[np.complex64], mean_photons: float, settings: Settings, observer: Observer
) -> NDArray[np.complex64]:
    photons = float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
    ratio = mean_photons / photons
    off = max(ratio, 1 / ratio) > _PROBE_TOLERANCE
    if settings.probe_photons == "as-is" or (settings.probe_photons == "auto" and not off):
        return probe
    observer.note(
        f"probe scaled by {math.sqrt(ratio):.4g}: it had {photons:.3g} photons, the patterns have {mean_photons:.3g} "
        "on average (with probe_photons=as-is it is not scaled)"
    )
    return (probe * math.sqrt(ratio)).astype(np.complex64)
