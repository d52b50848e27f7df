"""The inputs of a parity check: weights, patterns, training task and batches, identical for every implementation.

The parent process prepares them and writes them to a folder, from which each child process reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.reference.pattern_selection import middle_of_scan
from ptyonnx.settings import Settings
from ptyonnx.simulation import simulate
from ptyonnx.training.observer import Unobserved
from ptyonnx.training.regions import Batch
from ptyonnx.training.task import Task, prepare
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import ScanError, SettingsError
from ptyonnx_bundles.recipe import OUTPUT_GAIN
from ptyonnx_runtime.flux import match_flux
from ptyonnx_runtime.scan import Scan

__all__ = ["PROBE", "SharedInputs", "check_steps", "of_bundle", "of_recipe"]

PROBE = ("probe.real", "probe.imag")  # names of the probe refinement among the gradients

_MOST_STEPS = 1000
REGION_SIZE = 16  # least number of patterns per region, as in training
PATTERNS = 4  # number of groups whose activations are compared
_SCAN_PATTERNS = 64  # in addition to those of one region, so that regions differ
_PHOTONS_PER_PIXEL = 100.0  # mean of simulated patterns
_OUTPUT_SCALE = 0.3  # relative to He initialisation: the output differs from vacuum without saturation
_BIAS_SCALE = 0.1


@dataclass(frozen=True, eq=False)
class SharedInputs:
    """One set of weights, with the patterns, batches and settings for all implementations.

    Attributes
    ----------
    source : str
        Description of the weights and patterns.
    recipe : Recipe
    weights : dict of str to ndarray
        Canonical names, whitening included, float32.
    scan : Scan
        Held in memory, with a probe.
    settings : Settings
    steps : int
        Points of the loss curve.
    threads : int
        Threads of each implementation.
    """

    source: str
    recipe: Recipe
    weights: dict[str, NDArray[np.float32]]
    scan: Scan
    settings: Settings
    steps: int
    threads: int = 1

    @cached_property
    def task(self) -> Task:
        """The training task, starting from the weights."""
        return replace(prepare(self.scan, self.settings, Unobserved()), initial_weights=self.weights)

    @cached_property
    def batches(self) -> list[Batch]:
        """The first batches of training."""
        return [self.task.training.batch(members) for members in self.task.epoch(0)[: self.steps]]

    @property
    def patterns(self) -> NDArray[np.float32]:
        """(group, channel, N, N): patterns whose activations are compared."""
        return self.batches[0].diffraction[:PATTERNS]

    @cached_property
    def patch(self) -> NDArray[np.complex64]:
        """(region, pattern, N, N): an object for the forward model, independent of the network."""
        generator = np.random.default_rng(0)
        shape = (*self.batches[0].offset_px.shape[:2], self.recipe.N, self.recipe.N)
        amplitude, phase_rad = generator.uniform(0.6, 1, shape), generator.uniform(-1, 1, shape)
        patch: NDArray[np.complex64] = (amplitude * np.exp(1j * phase_rad)).astype(np.complex64)
        return patch

    def write(self, folder: Path) -> None:
        """Write the inputs for the child processes."""
        request = {
            "source": self.source,
            "recipe": self.recipe.model_dump(),
            "settings": self.settings.model_dump(mode="json"),
            "steps": self.steps,
            "threads": self.threads,
        }
        (folder / "inputs.json").write_text(json.dumps(request), encoding="utf-8")
        arrays: dict[str, Any] = {f"weights/{name}": array for name, array in self.weights.items()}
        arrays |= {"diffraction": self.scan.diffraction[:], "positions_px": self.scan.positions_px}
        assert self.scan.probe is not None
        np.savez(folder / "inputs.npz", **arrays, probe=self.scan.probe)

    @classmethod
    def read(cls, folder: Path) -> SharedInputs:
        """Read the files of :meth:`write`."""
        request = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
        with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
            weights = {name.removeprefix("weights/"): arrays[name] for name in arrays if name.startswith("weights/")}
            scan = Scan.trusted(arrays["diffraction"], arrays["positions_px"], arrays["probe"])
        recipe, settings = Recipe(**request.pop("recipe")), Settings.model_validate(request.pop("settings"))
        return cls(recipe=recipe, settings=settings, weights=weights, scan=scan, **request)


def check_steps(steps: int) -> None:
    """Refuse a loss curve that is too short or too long.

    Raises
    ------
    SettingsError
        The number of steps is not between 2 and 1000.
    """
    if not 2 <= steps <= _MOST_STEPS:
        raise SettingsError(f"must lie between 2 and {_MOST_STEPS}", key="steps", found=steps)


def of_recipe(
    recipe: Recipe, scan: Scan | None, *, seed: int, steps: int, threads: int, train_probe: bool = False
) -> SharedInputs:
    """Inputs with seeded weights whose biases all differ from zero and whose output differs from vacuum.

    Parameters
    ----------
    recipe : Recipe
    scan : Scan, optional
        Patterns and probe; by default a simulated scan.
    seed, steps, threads : int
    train_probe : bool
        Refine the probe as well.

    Raises
    ------
    ScanError
        The scan has another N, too few patterns or no probe.
    """
    if scan is not None and scan.N != recipe.N:
        raise ScanError("another N than the recipe", file=scan.name, key="diffraction", found=scan.N, expected=recipe.N)
    settings = _settings(recipe, steps, threads, seed, train_probe)
    scan = _few(_simulated(recipe, None, None) if scan is None else scan, recipe)
    whitening = prepare(scan, settings, Unobserved()).initial_weights
    weights = {**whitening, **_exercised_weights(recipe, seed)}
    return SharedInputs(f"weights of seed {seed}, {scan.name}", recipe, weights, scan, settings, steps, threads)


def of_bundle(
    bundle: Bundle, scan: Scan | None, *, steps: int, threads: int, train_probe: bool = False
) -> SharedInputs:
    """Inputs with a bundle's weights and probe.

    Parameters
    ----------
    bundle : Bundle
    scan : Scan, optional
        Simulated with the bundle's probe by default.
    steps, threads : int
    train_probe : bool
        Refine the probe as well.

    Raises
    ------
    BundleError
        The bundle's network has no recipe, so that no framework can build it.
    ScanError
        See :func:`of_recipe`.
    """
    recipe = bundle.native_recipe("a framework")
    if scan is not None and scan.N != recipe.N:
        raise ScanError("another N than the bundle", file=scan.name, key="diffraction", found=scan.N, expected=recipe.N)
    if scan is None:
        scan = _simulated(recipe, bundle.probe, bundle.manifest.physics.mean_photons)
    scale = np.float32(match_flux(bundle, scan).scale)
    scan = _few(replace(scan, probe=bundle.probe if scan.probe is None else scan.probe), recipe)
    scan = replace(scan, diffraction=scan.diffraction[:] * scale)
    settings = _settings(recipe, steps, threads, 0, train_probe)
    return SharedInputs(f"{bundle.name}, {scan.name}", recipe, bundle.native_weights(), scan, settings, steps, threads)


def _settings(recipe: Recipe, steps: int, threads: int, seed: int, train_probe: bool) -> Settings:
    """Default training settings, with an epoch as long as the loss curve."""
    check_steps(steps)
    return Settings(
        gridsize=recipe.gridsize, filters_scale=recipe.filters_scale, depth=recipe.depth,
        region_size=max(REGION_SIZE, recipe.channels), n_groups=steps * max(1, REGION_SIZE // recipe.channels),
        seed=seed, threads=threads, train_probe=train_probe, device="cpu", precision="float32",
    )  # fmt: skip


def _exercised_weights(recipe: Recipe, seed: int) -> dict[str, NDArray[np.float32]]:
    """Initial weights, with non-zero biases and larger output convolutions."""
    generator = np.random.default_rng([seed, 1])
    weights = recipe.initial_weights(seed)
    for name, array in weights.items():
        if name.endswith(".bias"):
            weights[name] = (array + _BIAS_SCALE * generator.standard_normal(array.shape)).astype(np.float32)
        elif ".output." in name:
            weights[name] = array * np.float32(_OUTPUT_SCALE / OUTPUT_GAIN)
    return weights


def _few(scan: Scan, recipe: Recipe) -> Scan:
    """The central patterns of a scan, enough for regions that differ, held in memory."""
    part = middle_of_scan(scan, _SCAN_PATTERNS + max(REGION_SIZE, recipe.channels))
    return replace(part, diffraction=np.asarray(part.diffraction[:], np.float32))


def _simulated(recipe: Recipe, probe: NDArray[np.complex64] | None, photons: float | None) -> Scan:
    """A smooth random object under a Gaussian probe, or under the bundle's."""
    N, generator = recipe.N, np.random.default_rng(5)
    count = _SCAN_PATTERNS + max(REGION_SIZE, recipe.channels)
    size = 2 * N
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    spectrum = np.fft.fft2(generator.standard_normal((2, size, size))) * np.exp(-((frequency * N / 4) ** 2))
    smooth = np.fft.ifft2(spectrum).real
    smooth /= smooth.std(axis=(1, 2), keepdims=True)
    obj = np.clip(0.9 + 0.05 * smooth[0], 0, 1) * np.exp(0.4j * smooth[1])
    if probe is None:
        y, x = (np.indices((N, N)) - N // 2) / N
        probe = np.exp(-(x**2 + y**2) / (2 * 0.15**2) + 2j * N * (x**2 + y**2)).astype(np.complex64)[np.newaxis]
    positions = generator.uniform(N / 2, size - N / 2, (count, 2))
    photons = photons or _PHOTONS_PER_PIXEL * N * N
    return simulate(obj, probe, positions, photons=photons, seed=1, name="simulated patterns")
