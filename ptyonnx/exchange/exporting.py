"""Export a run as a bundle: convert, compare with the native network, describe, write."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ptyonnx import backends
from ptyonnx.exchange.output_path import check_onnx_path
from ptyonnx.opening import AnyRun, open_run
from ptyonnx.runs.folder import check_unlocked, locked
from ptyonnx.runs.run import Checkpoint, Run
from ptyonnx_bundles import Bundle, Digests, Manifest, digests, protocol_of, write_bundle
from ptyonnx_bundles.arguments import as_path
from ptyonnx_bundles.errors import OutputError, RunError, SettingsError
from ptyonnx_converters.selftest import make_selftest

__all__ = ["check_exportable", "export", "selftest_patterns"]

_SELFTEST_GROUPS = 2
_IMPORT_AGAIN = "import the bundle again"


def export(
    run: AnyRun, path: Path | str, *, which: Checkpoint = "last", licence: str | None = None, notes: str = ""
) -> Bundle:
    """Write the weights of a run as a bundle.

    Parameters
    ----------
    run : Run or path-like
        A complete one, an interrupted one with at least one epoch, or an imported one.
    path : path-like
        Of the `.onnx` file; replaced only when the new bundle is complete.
    which : {"last", "best"}
        The last epoch, whose weights the one-cycle rate has annealed, or the one with the lowest
        validation loss.
    licence, notes : str, optional
        For the manifest. A run that was imported, or that started from a bundle, keeps the licence of that
        bundle unless another is given.

    Returns
    -------
    Bundle

    Raises
    ------
    RunError
        The run failed or has no weights yet, or `path` is inside the run directory while another process writes there.
    ConversionError
        The results of the ONNX graph differ from those of the native network; nothing is written.
    OutputError
        The file cannot be written, or its suffix is not .onnx.
    """
    run = open_run(run)
    check_onnx_path(as_path(path, "path", "the path of the bundle"), "path")
    if which not in get_args(Checkpoint):
        raise SettingsError("no such checkpoint", key="which", found=which, expected=" or ".join(get_args(Checkpoint)))
    check_exportable(run)
    inside = Path(path).resolve().is_relative_to(run.directory.resolve())
    if inside:
        check_unlocked(run.directory)
    weights, probe, metrics = run.trained(which)
    engine = backends.load(run.backend)
    model, native = engine.convert(run.recipe, weights)
    versions = {"ptyonnx": version("ptyonnx"), **engine.versions()}
    if run.record.state == "imported":
        manifest = _manifest_of_import(run, digests(model), versions)
    else:
        manifest = Manifest(
            protocol=protocol_of(run.recipe),
            recipe=run.recipe,
            producer=run.record.producer.model_copy(update={"versions": versions}),
            physics=run.record.physics,
            training_data=run.record.training_data,
            settings=_settings(run),
            metrics=metrics,
            digests=digests(model),
            licence=run.record.initial and run.record.initial.licence,
        )
    stated = {"licence": licence, "notes": notes}
    manifest = manifest.model_copy(update={key: text for key, text in stated.items() if text})
    test = make_selftest(native, model, selftest_patterns(weights))
    with locked(run.directory) if inside else nullcontext():
        bundle = write_bundle(path, model, manifest, probe, test)
        if inside:
            _record_bundle_path(run, path)
    if not inside:
        # the export has succeeded even if the record is locked by a training or cannot be written
        with suppress(RunError, OutputError), locked(run.directory):
            _record_bundle_path(run, path)
    return bundle


def _record_bundle_path(run: Run, path: Path | str) -> None:
    """Store the path of the bundle in the current record of the run."""
    Run.open(run.directory).write(bundle=Path(path).resolve())


def _settings(run: Run) -> dict[str, Any]:
    """Resolved settings; `initial` is the digest of the weights that the training started from."""
    settings = run.settings.model_dump(mode="json")
    initial = run.record.initial
    return {**settings, "initial": initial.digests.weights} if initial else settings


def _manifest_of_import(run: Run, computed: Digests, versions: Mapping[str, str]) -> Manifest:
    """The manifest of the imported bundle, with the versions and the time of this export."""
    manifest = run.record.initial
    if manifest is None:
        raise RunError(
            "the manifest of the imported bundle is missing",
            file=run.directory / "run.json",
            key="initial",
            remedy=_IMPORT_AGAIN,
        )
    if computed != manifest.digests:
        raise RunError(
            "the weights are not those that were imported", file=run.checkpoints, found=computed.weights[:16] + "…",
            expected=manifest.digests.weights[:16] + "…", remedy=_IMPORT_AGAIN,
        )  # fmt: skip
    producer = manifest.producer
    took_part = producer.model_copy(update={"versions": {**producer.versions, **versions}})
    now = datetime.now(UTC).replace(microsecond=0)
    return manifest.model_copy(update={"producer": took_part, "created": now})


def check_exportable(run: Run) -> None:
    """Refuse a run without usable weights.

    Raises
    ------
    RunError
        The training failed, or has no weights yet.
    """
    if run.record.state == "failed":
        raise RunError(
            f"the training failed ({run.record.message})",
            file=run.directory,
            remedy="train again; nothing was exported",
        )
    if not run.history and run.record.state != "imported":
        raise RunError("no epoch is complete yet", file=run.directory, remedy="resume the training first")


def selftest_patterns(weights: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Simulate patterns for the self-test: Poisson noise on the mean training pattern.

    Training data may be confidential, and the graph contains only their mean.
    """
    mean = weights["whitening.mean"].astype(np.float64)
    channels = weights["encoder.0.conv.0.weight"].shape[1]
    shape = (_SELFTEST_GROUPS, channels, *mean.shape)
    counts = np.random.default_rng(0).poisson(np.broadcast_to(mean**2, shape))
    return np.sqrt(counts).astype(np.float32)
