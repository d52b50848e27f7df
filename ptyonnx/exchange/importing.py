"""From a bundle back to a run of either framework, with the same weights to the last bit."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ptyonnx import backends
from ptyonnx.opening import AnyBundle, open_bundle
from ptyonnx.runs.checkpoints import CHECKPOINTS, Snapshot, path_of, save
from ptyonnx.runs.folder import check_room, install, locked
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

    The native network is built, given the weights and asked for them again, and runs the bundle's
    self-test. The state of an optimiser does not travel in a bundle: such a run can be exported, not
    resumed; training goes on with ``train(…, initial=bundle)``.

    Parameters
    ----------
    bundle : Bundle, Run or path-like
        Whichever framework trained it.
    backend : str
        ``pytorch`` or ``tensorflow``, or a short name of these.
    directory : path-like
        Where the run is written; must not hold one already unless overwriting.
    overwrite : bool
        Replace a run that stands there.

    Returns
    -------
    Run
        Its state is "imported".

    Raises
    ------
    BundleError
        The bundle holds a network of another system.
    ConversionError
        The framework does not give the weights back, or computes another object; nothing is written.
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
            "bundle": bundle.path and bundle.path.resolve(),
            "initial": manifest,
        }
    )
    settings = _settings(bundle, recipe)

    def write(folder: Path) -> None:
        for which in CHECKPOINTS:
            save(path_of(folder, which), Snapshot(weights, bundle.probe))
        Run(folder, record, settings).write()

    with locked(directory):
        check_room(directory, overwrite=overwrite, source=bundle.path)
        _prove(bundle, name)
        install(directory, write)
    return Run(directory, record, settings)


def _prove(bundle: Bundle, backend: str) -> None:
    """Build the native network, and see that it holds and computes what the bundle says."""
    engine = backends.load_part(backend, "engine").NativeEngine(bundle, device="cpu")
    returned = engine.network.weights_by_name()
    for name, array in bundle.native_weights().items():
        if returned[name].tobytes() != array.tobytes():
            raise ConversionError(f"{backend} does not give the weight back bit for bit", file=bundle.path, key=name)
    test = bundle.selftest
    difference = float(np.abs(engine.run(test.diffraction) - test.object).max())
    if not difference <= test.tolerance:
        raise ConversionError(
            f"{backend} computes another object than the bundle's self-test", file=bundle.path,
            found=f"a difference of {difference:.2g}", expected=f"at most {test.tolerance:.2g}",
            remedy="find out where: ptyonnx diff",
        )  # fmt: skip


def _settings(bundle: Bundle, recipe: Recipe) -> Settings:
    """Settings of the run: the bundle's as far as this version has them; the network's are the recipe's."""
    stated = bundle.manifest.settings
    try:
        settings = Settings.model_validate({name: stated[name] for name in Settings.model_fields if name in stated})
    except (ValidationError, SettingsError):
        _logger.warning("%s: its settings are not those of this version; the run has the defaults", bundle.name)
        settings = Settings()
    return settings.model_copy(update={name: getattr(recipe, name) for name in NETWORK_SETTINGS})
