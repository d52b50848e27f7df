"""One set of weights in every implementation: start them, judge them, say where they part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ptyonnx import backends
from ptyonnx.comparison.parity import judge, worker
from ptyonnx.comparison.parity.arbiter import NAME, arbitrate
from ptyonnx.comparison.parity.children import Progress, examine
from ptyonnx.comparison.parity.evidence import Evidence
from ptyonnx.comparison.parity.result import Parity
from ptyonnx.comparison.parity.tolerances import tolerances
from ptyonnx.comparison.parity.trial import Trial, of_bundle, of_recipe
from ptyonnx_bundles import Bundle, Recipe, digests, read_bundle
from ptyonnx_bundles.errors import SettingsError
from ptyonnx_runtime.scan import Scan

__all__ = ["STEPS", "TIMEOUT_s", "parity"]

STEPS = 5  # of the loss curve
TIMEOUT_s = 600.0  # for one implementation

Source = Recipe | Bundle | Path | str


def _unheard(implementation: str, stage: str) -> None:
    del implementation, stage


def parity(
    source: Source,
    scan: Scan | None = None,
    *,
    backends: Sequence[str] = backends.BACKENDS,
    seed: int = 0,
    steps: int = STEPS,
    threads: int = 1,
    timeout_s: float = TIMEOUT_s,
    progress: Progress = _unheard,
) -> Parity:
    """Compare implementations of one network, each with float64 and with each other.

    Parameters
    ----------
    source : Recipe, Bundle or path-like
        A recipe, whose weights are seeded, or a bundle, whose weights are taken.
    scan : Scan, optional
        Patterns to try them on; by default simulated ones.
    backends : sequence of str
        Frameworks to examine. onnxruntime runs what they export.
    seed : int
        Of the weights of a recipe.
    steps : int
        Optimiser steps of the loss curve, at least 2.
    threads : int
        Of every implementation.
    timeout_s : float
        After which the process of an implementation is stopped.
    progress : callable
        Is told which implementation is at which stage.

    Returns
    -------
    Parity

    Raises
    ------
    BundleError
        Not a bundle, or one without a recipe.
    ScanError
        The scan does not fit.
    MissingDependencyError
        A framework is not installed.
    WorkerError
        The process of an implementation died or did not end in time.
    """
    names = _names(backends)
    if threads < 1 or not timeout_s > 0:
        raise SettingsError("must be positive", key="threads, timeout", found=f"{threads}, {timeout_s:g}")
    trial = _trial(source, scan, seed, steps, threads)
    with tempfile.TemporaryDirectory(prefix="ptyonnx-parity-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        trial.write(folder)

        def look(implementation: str) -> Evidence:
            return examine(folder, implementation, threads=threads, timeout_s=timeout_s, progress=progress)

        native = [look(name) for name in names]
        exported = list(_run_exports(trial, native, folder, look))
    return _judged(trial, [*native, *exported], progress)


def _names(given: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(backends.canonical_name(name) for name in given))
    if not names:
        raise SettingsError("nothing to examine", key="backends", expected=", ".join(backends.BACKENDS))
    for name in names:
        backends.require(name)
    return names


def _trial(source: Source, scan: Scan | None, seed: int, steps: int, threads: int) -> Trial:
    if isinstance(source, Recipe):
        return of_recipe(source, scan, seed=seed, steps=steps, threads=threads)
    bundle = source if isinstance(source, Bundle) else read_bundle(source)
    return of_bundle(bundle, scan, steps=steps, threads=threads)


def _run_exports(
    trial: Trial, native: Sequence[Evidence], folder: Path, look: Callable[[str], Evidence]
) -> Iterator[Evidence]:
    """What onnxruntime makes of every different export that is a graph of the recipe."""
    models: dict[bytes, str] = {}
    for each in native:
        if each.model is not None and all(row.passed for row in judge.check_export(trial, each) if row.key == "graph"):
            models.setdefault(each.model, each.implementation)
    for model, exporter in models.items():
        (folder / worker.MODEL).write_bytes(model)
        found = look("onnxruntime")
        yield found if len(models) == 1 else found.renamed(f"onnxruntime ({exporter}'s export)")


def _judged(trial: Trial, found: Sequence[Evidence], progress: Progress) -> Parity:
    progress(NAME, "forward, physics, gradients, training")
    exact = arbitrate(trial)
    allowed = tolerances(trial, exact, lambda stage: progress(NAME, stage))
    rows = {}
    for each in found:
        progress(NAME, f"judging {each.implementation}")
        rows[each.implementation] = judge.rows(trial, exact, each, allowed)
    return Parity(
        source=trial.source,
        recipe=trial.recipe.model_dump(),
        versions={each.implementation: each.versions for each in (exact, *found)},
        threads=trial.threads,
        rows=tuple(row for compared in rows.values() for row in compared),
        agreements=tuple(judge.agreements(exact, found)),
        verdicts=tuple(judge.verdict(name, compared) for name, compared in rows.items()),
        losses={
            each.implementation: tuple(each.losses.tolist()) for each in (exact, *found) if each.losses is not None
        },
        digests=_digests(found),
        other_branches={each.implementation: judge.other_branches(exact, each) for each in found if each.branches},
    )


def _digests(found: Sequence[Evidence]) -> dict[str, dict[str, str]]:
    return {each.implementation: digests(each.model).model_dump() for each in found if each.model is not None}
