"""Run every implementation on the same inputs, compare each with float64, and report the first differences."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ptyonnx import backends
from ptyonnx.opening import AnyBundle, AnyScan, open_bundle, open_scan
from ptyonnx.parity import verdicts, worker
from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.duration import Duration, estimated_work
from ptyonnx.parity.float64_reference import NAME, compute_reference
from ptyonnx.parity.monte_carlo_tolerances import monte_carlo_tolerances
from ptyonnx.parity.result import Parity, Row
from ptyonnx.parity.shared_inputs import SharedInputs, check_steps, of_bundle, of_recipe
from ptyonnx.parity.worker_process import Progress, run_worker
from ptyonnx_bundles import Bundle, Recipe, digests, temporary_folder
from ptyonnx_bundles.errors import BundleError, SettingsError, WorkerError
from ptyonnx_runtime.scan import Scan

__all__ = ["STEPS", "TIMEOUT_s", "check_parity"]

STEPS = 5  # of the loss curve
TIMEOUT_s = 600.0  # per implementation
_LONGEST_TIMEOUT_s = 86400.0  # a day
_RUNTIME = "onnxruntime"

Source: TypeAlias = "Recipe | AnyBundle"


def _ignore(*_: object) -> None:
    """Ignore a report."""


@np.errstate(all="ignore")  # weights may overflow in float32 and in float64; non-finite values are reported as rows
def check_parity(
    source: Source,
    scan: AnyScan | None = None,
    *,
    backends: Sequence[str] = backends.BACKENDS,
    seed: int = 0,
    steps: int = STEPS,
    threads: int = 1,
    train_probe: bool = False,
    timeout_s: float = TIMEOUT_s,
    progress: Progress = _ignore,
    remaining: Callable[[float], None] = _ignore,
) -> Parity:
    """Compare implementations of one network with a float64 reference and with each other.

    Parameters
    ----------
    source : Recipe, Bundle, Run or path-like
        A recipe, with seeded weights, or a bundle with its own weights.
    scan : Scan or path-like, optional
        Patterns for the comparison; simulated by default.
    backends : sequence of str
        Frameworks to compare. onnxruntime runs the models that they export.
    seed : int
        Seed of a recipe's weights.
    steps : int
        Points of the loss curve, at least 2; the first is before any optimiser step.
    threads : int
        Number of threads of every implementation.
    train_probe : bool
        Refine the probe as well, and compare its gradient.
    timeout_s : float
        Time limit for the process of each implementation, seconds, at most a day.
    progress : callable
        Receives an implementation and its stage, whenever a stage begins.
    remaining : callable
        Receives the estimated remaining time in seconds: first before any implementation starts, then before every
        call of `progress`.

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
        The process of a framework died or exceeded the time limit. (If it was onnxruntime's, its verdict says so.)
    """
    names = _names(backends)
    check_steps(steps)
    if threads < 1:
        raise SettingsError("must be positive", key="threads", found=threads)
    if not 0 < timeout_s <= _LONGEST_TIMEOUT_s:
        raise SettingsError(
            f"must lie between 0 and {_LONGEST_TIMEOUT_s:g} seconds, a day", key="timeout_s", found=f"{timeout_s:g}"
        )
    scan = None if scan is None else open_scan(scan)
    source = source if isinstance(source, Recipe) else open_bundle(source, key="source")
    recipe = source if isinstance(source, Recipe) else source.native_recipe("a framework")
    temporary_folder()  # refused before the estimate, which says that the work begins
    duration = Duration(estimated_work(recipe, names, steps, reference=NAME))
    remaining(duration.remaining_s)

    def report(implementation: str, stage: str) -> None:
        duration.begin(implementation, stage if implementation == NAME else "")
        remaining(duration.remaining_s)
        progress(implementation, stage)

    inputs = _shared_inputs(source, scan, seed, steps=steps, threads=threads, train_probe=train_probe)
    with tempfile.TemporaryDirectory(prefix="ptyonnx-parity-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        inputs.write(folder)

        def run(implementation: str) -> ComputedValues:
            others = ",".join(name for name in names if name != implementation)
            remedy = f'backends="{others}" compares without it' if others and implementation in names else None
            return run_worker(
                folder, implementation, threads=threads, timeout_s=timeout_s, progress=report, remedy=remedy
            )

        native = [run(name) for name in names]
        exported, unrun = _run_exports(inputs, native, folder, run)
    return _compared(inputs, native, exported, unrun, report)


def _names(given: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(backends.canonical_name(name) for name in given))
    if not names:
        raise SettingsError("no backend to compare", key="backends", expected=", ".join(backends.BACKENDS))
    for name in names:
        backends.require(name)
    return names


def _shared_inputs(source: Recipe | Bundle, scan: Scan | None, seed: int, **training: Any) -> SharedInputs:
    if isinstance(source, Recipe):
        return of_recipe(source, scan, seed=seed, **training)
    return of_bundle(source, scan, **training)


def _run_exports(
    inputs: SharedInputs, native: Sequence[ComputedValues], folder: Path, run: Callable[[str], ComputedValues]
) -> tuple[list[ComputedValues], list[Row]]:
    """Run every distinct export that has the recipe's graph in onnxruntime; rows say why one could not be run."""
    models: dict[bytes, str] = {}
    for each in native:
        if each.model is not None and _has_the_graph(inputs, each):
            models.setdefault(each.model, each.implementation)
    exported, unrun = [], []
    for model, exporter in models.items():
        name = _RUNTIME if len(models) == 1 else f"{_RUNTIME} ({exporter}'s export)"
        (folder / worker.MODEL).write_bytes(model)
        try:
            exported.append(run(_RUNTIME).renamed(name))
        except WorkerError as error:
            unrun.append(Row("export", verdicts.RUN, name, problem=str(error)))
    return exported, unrun


def _has_the_graph(inputs: SharedInputs, found: ComputedValues) -> bool:
    try:
        verdicts.exported_graph(inputs, found)
    except BundleError:
        return False
    return True


def _compared(
    inputs: SharedInputs,
    native: Sequence[ComputedValues],
    exported: Sequence[ComputedValues],
    unrun: Sequence[Row],
    progress: Progress,
) -> Parity:
    progress(NAME, "forward, physics, gradients, training")
    exact = compute_reference(inputs)
    allowed = monte_carlo_tolerances(inputs, exact, lambda stage: progress(NAME, stage))
    found = [*native, *exported]
    rows: dict[str, list[Row]] = {}
    for each in found:
        progress(NAME, f"comparing {each.implementation}")
        stages = verdicts.BACKEND_STAGES if each in native else verdicts.RUNTIME_STAGES
        rows[each.implementation] = verdicts.rows(inputs, exact, each, allowed, stages=stages)
    rows |= {row.implementation: [row] for row in unrun}
    return Parity(
        source=inputs.source,
        recipe=inputs.recipe.model_dump(),
        versions={each.implementation: each.versions for each in (exact, *found)},
        threads=inputs.threads,
        rows=tuple(row for compared in rows.values() for row in compared),
        agreements=tuple(verdicts.agreements(exact, found)),
        verdicts=tuple(verdicts.verdict(name, compared) for name, compared in rows.items()),
        losses={
            each.implementation: tuple(each.losses.tolist()) for each in (exact, *found) if each.losses is not None
        },
        digests=_digests(found),
        other_branches={each.implementation: verdicts.other_branches(exact, each) for each in found if each.branches},
    )


def _digests(found: Sequence[ComputedValues]) -> dict[str, dict[str, str]]:
    """Digests of every export that can be read, whatever its graph."""
    known = {}
    for each in found:
        with contextlib.suppress(BundleError):
            if each.model is not None:
                known[each.implementation] = digests(each.model).model_dump()
    return known
