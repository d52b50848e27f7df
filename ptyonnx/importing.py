"""From a bundle back to a run of either framework, with the same weights to the last bit."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ptyonnx import backends
from ptyonnx.backends.weights import recipe_of, weights_of
from ptyonnx.run import Record, Run, check_room, save_weights, standing_parts
from ptyonnx.settings import Settings
from ptyonnx.training.start import NETWORK_SETTINGS
from ptyonnx_bundles import Bundle, Recipe, check_directory, make_folder
from ptyonnx_bundles.errors import ConversionError, OutputError, RunError

__all__ = ["import_bundle"]

_logger = logging.getLogger(__name__)


def import_bundle(bundle: Bundle, backend: str, directory: Path | str, *, overwrite: bool = False) -> Run:
    """Make a run directory from a bundle.

    The native network is built, given the weights and asked for them again, and runs the bundle's
    self-test. The state of an optimiser does not travel in a bundle: such a run can be exported, not
    resumed; training goes on with ``train(…, initial=bundle)``.

    Parameters
    ----------
    bundle : Bundle
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
    recipe, weights = recipe_of(bundle), weights_of(bundle)
    name = backends.canonical_name(backend)
    directory = Path(directory)
    check_directory(directory)
    _prove(bundle, name)
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
    with _staged(directory) as folder:
        run = Run(folder / "new", record, settings)
        run.checkpoints.mkdir(parents=True)
        for which in ("best", "last"):
            save_weights(run.checkpoints / f"{which}.safetensors", weights, bundle.probe)
        run.write()
        check_room(directory, overwrite=overwrite, source=bundle.path)
        _exchange(directory, run.directory)
    return Run(directory, record, settings)


@contextmanager
def _staged(directory: Path) -> Iterator[Path]:
    """A folder on the same disk, in which a run becomes complete before an older one goes."""
    try:
        make_folder(directory.resolve().parent, directory)
        with tempfile.TemporaryDirectory(prefix=".importing-", dir=_near(directory)) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror})", file=directory, remedy="make room, or name another directory (-o)"
        ) from None


def _near(directory: Path) -> Path:
    return directory if directory.is_dir() else directory.parent


def _exchange(directory: Path, new: Path) -> None:
    """Move an older run aside and the new one into its place; whatever interrupts that, all moves back."""
    standing = standing_parts(directory)
    arriving = [directory / part.name for part in sorted(new.iterdir())]
    for part in arriving:
        if part.exists() and part not in standing:
            raise RunError(
                "holds files that are not a run's", file=directory, found=part.name,
                remedy="name another directory (-o)",
            )  # fmt: skip
    existed = directory.exists()
    # no TemporaryDirectory: even where moving back fails, the older run is still there
    older = Path(tempfile.mkdtemp(prefix=".older-", dir=_near(directory)))
    moves = [(part, older / part.name) for part in standing] + [(new / part.name, part) for part in arriving]
    try:
        directory.mkdir(exist_ok=True)
        for source, target in moves:
            source.replace(target)
    except BaseException:
        for source, target in reversed(moves):
            if not source.exists():
                target.rename(source)
        older.rmdir()
        if not existed:
            directory.rmdir()
        raise
    shutil.rmtree(older, ignore_errors=True)


def _prove(bundle: Bundle, backend: str) -> None:
    """Build the native network, and see that it holds and computes what the bundle says."""
    engine = backends.load_part(backend, "engine").NativeEngine(bundle, device="cpu")
    returned = engine.network.weights_by_name()
    for name, array in weights_of(bundle).items():
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
    except ValidationError:
        _logger.warning("%s: its settings are not those of this version; the run has the defaults", bundle.name)
        settings = Settings()
    return settings.model_copy(update={name: getattr(recipe, name) for name in NETWORK_SETTINGS})
