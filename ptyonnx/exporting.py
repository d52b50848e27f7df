"""From a run to a bundle: convert, compare with the native network, describe, write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptyonnx import __version__, backends
from ptyonnx.run import Checkpoint, Run
from ptyonnx_bundles import Bundle, Manifest, digests, protocol_of, write_bundle
from ptyonnx_bundles.errors import RunError
from ptyonnx_converters.check import self_test

__all__ = ["export"]

_SELFTEST_GROUPS = 2


def export(
    run: Run, path: Path | str, *, which: Checkpoint = "last", licence: str | None = None, notes: str = ""
) -> Bundle:
    """Write the weights of a run as a bundle.

    Parameters
    ----------
    run : Run
        A complete one, or an interrupted one with at least one epoch.
    path : path-like
        Of the `.onnx` file; replaced only when the new bundle is complete.
    which : {"last", "best"}
        The last epoch, whose weights the one-cycle rate has annealed, or the one with the lowest
        validation loss.
    licence, notes : str, optional
        For the manifest.

    Returns
    -------
    Bundle

    Raises
    ------
    RunError
        The run failed, or has no weights yet.
    ConversionError
        ONNX does not compute what the native network computes; nothing is written.
    """
    if run.record.state == "failed":
        raise RunError(
            f"the training failed ({run.record.message})", file=run.directory, remedy="train anew; nothing was exported"
        )
    if not run.history:
        raise RunError("no epoch is complete yet", file=run.directory, remedy="go on with it: ptyonnx train --resume")
    weights, probe = run.weights(which), run.probe(which)
    engine = backends.load(run.backend)
    model, native = engine.convert(run.recipe, weights)
    manifest = Manifest(
        protocol=protocol_of(run.recipe),
        recipe=run.recipe,
        producer=run.record.producer.model_copy(update={"versions": {"ptyonnx": __version__, **engine.versions()}}),
        physics=run.record.physics,
        training_data=run.record.training_data,
        settings=run.settings.model_dump(mode="json"),
        metrics=run.metrics(which),
        digests=digests(model),
        licence=licence,
        notes=notes,
    )
    bundle = write_bundle(path, model, manifest, probe, self_test(native, model, _patterns(weights)))
    run.write(bundle=Path(path).resolve())
    return bundle


def _patterns(weights: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Patterns for the self-test that need no data: Poisson noise on the mean training pattern.

    The training data may be confidential; their mean is in the graph anyway.
    """
    mean = weights["whitening.mean"].astype(np.float64)
    channels = weights["encoder.0.conv.0.weight"].shape[1]
    shape = (_SELFTEST_GROUPS, channels, *mean.shape)
    counts = np.random.default_rng(0).poisson(np.broadcast_to(mean**2, shape))
    return np.sqrt(counts).astype(np.float32)
