"""Train a network: from a scan and settings to a run directory."""

from __future__ import annotations

import contextlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ptyonnx import backends
from ptyonnx.opening import AnyBundle, AnyScan, open_bundle, open_scan
from ptyonnx.runs.checkpoints import (
    LoadedCheckpoint,
    Snapshot,
    State,
    committed_rows,
    load,
    path_of,
    reconcile,
    save,
    save_epoch,
)
from ptyonnx.runs.folder import check_replaceable, check_unlocked, install_run, locked
from ptyonnx.runs.run import Record, Run
from ptyonnx.settings import Settings
from ptyonnx.training.journal import Journal
from ptyonnx.training.observer import Observer, Unobserved
from ptyonnx.training.start import Start, continued_settings
from ptyonnx.training.task import Task, prepare, scan_digest
from ptyonnx_bundles import Bundle, Manifest, Physics, Producer, TrainingData, check_directory
from ptyonnx_bundles.arguments import as_path, check_type
from ptyonnx_bundles.errors import (
    MissingDependencyError,
    OutputError,
    ProviderError,
    PtyonnxError,
    RunError,
    SettingsError,
)
from ptyonnx_runtime.scan import Scan

__all__ = ["train"]

_INITIAL = "initial.safetensors"
_NEW_OPTIMISER = (
    "training starts from the weights of {name} with a new optimiser, as a bundle does not contain its state; "
    "the learning rate starts a new cycle"
)
PLANCK_CONSTANT_eV_m = 1.239841984e-6  # h c, CODATA 2018


def train(
    backend: str,
    scan: AnyScan,
    settings: Settings,
    directory: Path | str,
    *,
    test_scan: AnyScan | None = None,
    initial: AnyBundle | None = None,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Train a network with one framework.

    Parameters
    ----------
    backend : str
        ``pytorch`` or ``tensorflow``, or their aliases ``torch`` and ``tf``.
    scan : Scan or path-like
        It needs a probe, unless training starts from a bundle.
    settings : Settings
    directory : path-like
        Where the run is written. It must not contain a run, unless `resume` or `overwrite` is set. No other process may
        write there meanwhile.
    test_scan : Scan or path-like, optional
        To validate on; otherwise some patterns of `scan` are held out.
    initial : Bundle, Run or path-like, optional
        Start from its weights, whichever framework trained them, with its recipe, whitening constants, photon scale and
        probe. The optimiser and its one-cycle learning rate start anew.
    resume : bool
        Resume from the last checkpoint of `directory`, with the settings of that run.
    overwrite : bool
        Replace a run in `directory`, after scan and settings have been checked.
    observer : Observer, optional

    Returns
    -------
    Run

    Raises
    ------
    CollapseError, DivergenceError
        Training cannot lead to a usable network. The run records this and cannot be exported.
    BundleError
        `initial` is foreign.
    ScanError, SettingsError, RunError, MissingDependencyError
    """
    if resume and initial is not None:
        raise SettingsError(
            "contradict each other", key="resume, initial", remedy="a run records the bundle that it started from"
        )
    name = backends.canonical_name(backend)
    scan = scan if isinstance(scan, Scan) else as_path(scan, "scan", "a scan, or the path of one")
    check_type(settings, "settings", Settings, "ptyonnx.Settings(…)")
    directory = as_path(directory, "directory", "the path of the run")
    initial = None if initial is None else open_bundle(initial, key="initial")
    _check_place(directory, name, initial, resume=resume, overwrite=overwrite)
    scan = open_scan(scan, in_memory=True)
    test_scan = None if test_scan is None else open_scan(test_scan, key="test_scan", in_memory=True)
    framework = backends.load(name)
    observer = observer or Unobserved()
    _check_machine(framework, settings)
    with locked(directory):
        if resume:
            run = _earlier_run(directory, name)
            if run.record.state == "complete":
                _refuse_other_data(run, scan, scan_digest(scan))
                observer.note("this training is complete already: there is nothing to resume")
                return run
            _refuse_other_data(run, scan, None)
            task = prepare(scan, run.settings, observer, test_scan, _earlier_start(run))
            _refuse_other_data(run, scan, task.digest)
            _check_recipe(run, task)
            last = _last(framework, run, task)
            journal = Journal(directory, run.settings, observer, reconcile(directory, last))
            return _fit(framework, run, task, journal, last.snapshot.state if journal.rows else None)
        start = None
        if initial is not None:
            settings, start = continued_settings(initial, settings), Start.from_bundle(initial)
            observer.note(_NEW_OPTIMISER.format(name=start.name))
        task = prepare(scan, settings, observer, test_scan, start)
        check_replaceable(directory, overwrite=overwrite, source=initial.path if initial else None)
        manifest = initial.native_manifest("training") if initial else None
        run = _new_run(directory, name, framework.versions(), scan, task, initial=manifest)
        _install(run, task, start)
        return _fit(framework, run, task, Journal(directory, run.settings, observer))


def _last(framework: backends.Backend, run: Run, task: Task) -> LoadedCheckpoint:
    """Load the last checkpoint; one of an older version is rewritten in the current format."""
    path = path_of(run.directory, "last")
    saved = load(path)
    if saved.epoch is None:
        epoch, snapshot = framework.from_older_version(task, run.checkpoints) or (0, saved.snapshot)
        if epoch:
            save_epoch(run.directory, committed_rows(run.directory, epoch), snapshot)
        saved = LoadedCheckpoint(snapshot, epoch)
    return saved


def _fit(framework: backends.Backend, run: Run, task: Task, journal: Journal, earlier: State | None = None) -> Run:
    """Train, and record how it ended."""
    try:
        run = run.write(state="training", message="", bundle=None)
        journal.check_heads()
        if not journal.finished:
            framework.fit(task, journal, earlier, run.directory / "tensorboard" if run.settings.tensorboard else None)
        return run.write(state="complete")
    except KeyboardInterrupt:
        run.write(state="interrupted", message="stopped by the user")
        raise
    except (OutputError, ProviderError) as error:  # a full disk or GPU: training can be resumed
        if isinstance(error, OutputError):
            error.remedy = "make the folder writable again (free space, permissions), then continue with resume=True"
        with contextlib.suppress(OutputError):  # the record then still says that the training is running
            run.write(state="interrupted", message=str(error))
        raise
    except PtyonnxError as error:
        run.write(state="failed", message=str(error))
        raise


def _check_place(directory: Path, backend: str, initial: Bundle | None, *, resume: bool, overwrite: bool) -> None:
    """Check, before a scan is read, that the directory can be written to, or contains a run to resume."""
    check_directory(directory)
    check_unlocked(directory)
    if resume:
        _earlier_run(directory, backend)
    else:
        check_replaceable(directory, overwrite=overwrite, source=initial.path if initial else None)


def _check_machine(framework: backends.Backend, settings: Settings) -> None:
    framework.check(settings)
    if settings.tensorboard and find_spec("tensorboard") is None:
        raise MissingDependencyError(
            "TensorBoard logs need tensorboard, which is not installed", remedy="pip install tensorboard"
        )


def _new_run(
    directory: Path, backend: str, versions: dict[str, str], scan: Scan, task: Task, *, initial: Manifest | None
) -> Run:
    record = Record.model_validate(
        {
            "backend": backend,
            "producer": Producer.model_validate({"framework": backend, "versions": versions}),
            "recipe": task.recipe,
            "physics": _physics(scan, task),
            "training_data": TrainingData(name=Path(scan.name).name, digest=task.digest, patterns=len(task.training)),
            "initial": initial,
        }
    )
    return Run(directory, record, task.settings)


def _install(run: Run, task: Task, start: Start | None) -> None:
    """Write a run without a complete epoch into its locked folder, in place of an earlier one."""

    def write(folder: Path) -> None:
        if start is not None:
            save(folder / "checkpoints" / _INITIAL, Snapshot(start.weights, start.probe))
        save(path_of(folder, "last"), Snapshot(task.initial_weights, task.probe), epoch=0)
        Run(folder, run.record, run.settings).write()

    install_run(run.directory, write)


def _earlier_run(directory: Path, backend: str) -> Run:
    run = Run.open(directory)
    if run.record.state == "imported":
        raise RunError(
            "was imported: there is no optimiser state to resume from", file=directory,
            remedy="start a new training from its bundle: initial=…",
        )  # fmt: skip
    if run.backend != backend:
        raise RunError(
            "was trained with another backend", file=directory, key="backend", found=run.backend, expected=backend,
            remedy=f'resume with backend="{run.backend}"',
        )  # fmt: skip
    return run


def _refuse_other_data(run: Run, scan: Scan, digest: str | None) -> None:
    """Refuse another scan than that of the run: at once if N differs, else by the digest as soon as it is known."""
    if scan.N != run.recipe.N or digest not in (None, run.record.training_data.digest):
        raise RunError(
            "was trained on other data", file=run.directory, key="training_data", found=scan.name,
            expected=run.record.training_data.name, remedy="resume with the scan that the run was started with",
        )  # fmt: skip


def _check_recipe(run: Run, task: Task) -> None:
    if task.recipe != run.recipe:
        raise RunError(
            "was trained with a recipe of an older version", file=run.directory, key="recipe",
            found=run.recipe.name, expected=task.recipe.name,
            remedy="export it and start a training from its bundle: initial=…",
        )  # fmt: skip


def _earlier_start(run: Run) -> Start | None:
    """The start of an interrupted training from a bundle; None if it did not start from one."""
    initial = run.record.initial
    if initial is None:
        return None
    snapshot = load(run.checkpoints / _INITIAL).snapshot
    return Start(
        "that the run started from", run.recipe, dict(snapshot.weights), snapshot.probe, initial.physics.mean_photons
    )


def _physics(scan: Scan, task: Task) -> Physics:
    optional: dict[str, Any] = {}
    if scan.photon_energy_eV:
        optional["wavelength_m"] = PLANCK_CONSTANT_eV_m / scan.photon_energy_eV
    if scan.object_pixel_size_m:
        optional["object_pixel_size_m"] = scan.object_pixel_size_m
    return Physics(
        N=scan.N,
        gridsize=task.recipe.gridsize,
        probe_modes=len(task.probe),
        mean_photons=task.mean_photons,
        **optional,
    )
