"""Import a bundle as a run of either framework, with bitwise equal weights."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ptyonnx import backends
from ptyonnx.opening import AnyBundle, open_bundle
from ptyonnx.runs.checkpoints import CHECKPOINTS, Snapshot, path_of, save
from ptyonnx.runs.folder import check_replaceable, install_run, locked
from ptyonnx.runs.run import Record, Run
from ptyonnx.settings import Settings
from ptyonnx.training.start import NETWORK_SETTINGS
from ptyonnx_bundles import Bundle, Recipe, check_directory
from ptyonnx_bundles.arguments import as_path
from ptyonnx_bundles.errors import ConversionError, SettingsError

__all__ = ["import_bundle"]

_logger = logging.getLogger(__name__)


def import_bundle(bundle: AnyBundle, backend: str, directory: Path | str, *, overwrite: bool = False) -> Run:
    """Make a run directory from a bundle.

    The native network is built with the weights, which are read back and compared, and runs the bundle's
    self-test. A bundle does not contain the state of an optimiser: the run can be exported but not
    resumed. Continue its training with ``train(…, initial=bundle)``.

    Parameters
    ----------
    bundle : Bundle, Run or path-like
        Trained in either framework.
    backend : str
        ``pytorch``, ``tensorflow`` or a short form.
    directory : path-like
        Must not contain a run unless `overwrite` is set.
    overwrite : bool
        Replace an existing run.

    Returns
    -------
    Run
        Its state is "imported". It has no bundle of its own until it is exported.

    Raises
    ------
    BundleError
        The bundle holds a network of another system.
    ConversionError
        The framework changes the weights, or computes another object; nothing is written.
    RunError, SettingsError, MissingDependencyError, OutputError
    """
    bundle = open_bundle(bundle, key="bundle")
    recipe, weights = bundle.native_recipe("a framework"), bundle.native_weights()
    name = backends.canonical_name(backend)
    directory = as_path(directory, "directory", "the path of the run")
    check_directory(directory)
    manifest = bundle.manifest
    record = Record.model_validate(
        {
            "backend": name,
            "producer": manifest.producer,
            "recipe": recipe,
            "physics": manifest.physics,
            "training_data": manifest.training_data,
            "state": "imported",
            "message": f"imported from {bundle.name}",
            "initial": manifest,
        }
    )
    settings = _settings(bundle, recipe)

    def write(folder: Path) -> None:
        for which in CHECKPOINTS:
            save(path_of(folder, which), Snapshot(weights, bundle.probe))
        Run(folder, record, settings).write()

    with locked(directory):
        check_replaceable(directory, overwrite=overwrite, source=bundle.path, resumable=False)
        _check_native_network(bundle, name)
        install_run(directory, write)
    return Run(directory, record, settings)


def _check_native_network(bundle: Bundle, backend: str) -> None:
    """Build the native network, and compare its weights and its results with the bundle."""
    engine = backends.load_part(backend, "engine").NativeEngine(bundle, device="cpu")
    returned = engine.network.weights_by_name()
    for name, array in bundle.native_weights().items():
        if returned[name].tobytes() != array.tobytes():
            raise ConversionError(f"{backend} changes the bits of the weight", file=bundle.path, key=name)
    test = bundle.selftest
    difference = float(np.abs(engine.run(test.diffraction) - test.object).max())
    if not difference <= test.tolerance:
        raise ConversionError(
            f"the object that {backend} computes differs from the bundle's self-test", file=bundle.path,
            found=f"a difference of {difference:.2g}", expected=f"at most {test.tolerance:.2g}",
            remedy="locate the difference with ptyonnx diff",
        )  # fmt: skip


def _settings(bundle: Bundle, recipe: Recipe) -> Settings:
    """Settings of the run: those of the bundle that this version knows, and the network's from the recipe."""
    stated = bundle.manifest.settings
    try:
        settings = Settings.model_validate({name: stated[name] for name in Settings.model_fields if name in stated})
    except (ValidationError, SettingsError):
        _logger.warning(
            "%s: this version cannot read the settings in the bundle; the run gets the defaults", bundle.name
        )
        settings = Settings()
    return settings.model_copy(update={name: getattr(recipe, name) for name in NETWORK_SETTINGS})
