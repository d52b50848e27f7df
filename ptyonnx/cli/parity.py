"""The verb `parity`: one set of weights in every implementation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli import progress
from ptyonnx.cli.output import answer
from ptyonnx.cli.verb import Verb

if TYPE_CHECKING:
    from ptyonnx.parity import Parity
    from ptyonnx_bundles import Bundle, Recipe
    from ptyonnx_runtime.scan import Scan

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_BEYOND = 1  # exit code
_DEFAULT_N = 64
_LEGEND = """\
Percentages: how much of what float32 allows the worst quantity uses; above 100% is wrong.
'alone': each layer on its own input, against the strict bound of its sum. Single multiplications and
subtractions round once and always come close to their bound: they count only where they exceed it."""
_COMPARED = ("object", "physics", "loss", "gradient", "step", "curve")


@click.command(cls=Verb)
@click.option("--backends", default="tf,torch", metavar="NAMES", help="Frameworks, with commas. [tf,torch]")
@click.option("--recipe", metavar="KEY=VALUE,...", help="N, gridsize, filters_scale, depth of seeded weights. [N=64]")
@click.option("--from", "bundle", type=_PATH, metavar="BUNDLE", help="The weights of this bundle instead.")
@click.option("--data", type=_PATH, metavar="FILE", help="A scan to try them on. [simulated patterns]")
@click.option("--probe", type=_PATH, metavar="FILE", help="Probe, for a scan without one.")
@click.option("--values", metavar="KIND", help="What the scan's patterns are: amplitude or intensity.")
@click.option("--axes", metavar="ORDER", help="Order of the patterns' axes in the file, such as yxn.")
@click.option("--zero-frequency", metavar="PLACE", help="Of the patterns in the file: centre or corner.")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="Of a recipe's weights. [0]")
@click.option("--steps", type=int, metavar="NUMBER", help="Optimiser steps of the loss curve. [5]")
@click.option("--train-probe", is_flag=True, help="Refine the probe, too, and compare the gradient by it.")
@click.option("--threads", type=click.IntRange(min=1), default=1, metavar="NUMBER", help="Of each implementation. [1]")
@click.option("--timeout", type=float, metavar="SECONDS", help="For each implementation. [600]")
def command(backends: str, **options: Any) -> int:
    """Compare every implementation of one network.

    TensorFlow, PyTorch and onnxruntime each run in a process of their own and are compared with
    float64: every layer, the forward model, the loss, the gradient of every weight, the first
    steps of training and the exported graph. Exit code 1 beyond the tolerances, which are derived
    from float32 itself.

    Example:
      ptyonnx parity
      ptyonnx parity --from bundle.onnx --data scan.npz
      ptyonnx parity --backends torch --recipe N=128,gridsize=2 --json
    """
    from ptyonnx.parity import STEPS, TIMEOUT_s, check_parity
    from ptyonnx_bundles.errors import SettingsError

    if options["bundle"] is not None and options["recipe"] is not None:
        raise SettingsError("contradict each other", key="--recipe, --from", remedy="give one of them")
    scan = _scan(options)
    with _ended_by_sigterm(), progress.stage("starting the implementations") as show:
        found = check_parity(
            _source(options["bundle"], options["recipe"], scan),
            scan,
            backends=[name.strip() for name in backends.split(",") if name.strip()],
            seed=options["seed"],
            steps=STEPS if options["steps"] is None else options["steps"],
            threads=options["threads"],
            train_probe=options["train_probe"],
            timeout_s=TIMEOUT_s if options["timeout"] is None else options["timeout"],
            progress=lambda implementation, part: show(f"{implementation}: {part}"),
        )
    answer(found.to_dict(), lambda: "\n\n".join(filter(None, _sections(found))))
    return 0 if found.passed else _BEYOND


def _scan(options: dict[str, Any]) -> Scan | None:
    from ptyonnx.formats import load_scan

    if options["data"] is None:
        return None
    return load_scan(options["data"], **{name: options[name] for name in ("values", "axes", "zero_frequency", "probe")})


def _source(bundle: Path | None, recipe: str | None, scan: Scan | None) -> Bundle | Recipe:
    from pydantic import ValidationError

    from ptyonnx.runs.run import exported_bundle
    from ptyonnx_bundles import Recipe, read_bundle
    from ptyonnx_bundles.errors import SettingsError

    if bundle is not None:
        return read_bundle(exported_bundle(bundle))
    values: dict[str, Any] = {"N": _DEFAULT_N if scan is None else scan.N}
    for assignment in filter(None, (recipe or "").split(",")):
        name, _, text = assignment.partition("=")
        if name.strip() not in Recipe.model_fields:
            raise SettingsError(
                "there is no such key", file="--recipe", key=name.strip(), expected=f"one of {', '.join(Recipe.model_fields)}",
            )  # fmt: skip
        values[name.strip()] = _number(text)
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise SettingsError.from_validation(error, key="--recipe") from None


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, as schedulers send it, end the verb as Ctrl-C does: no child and no temporary file stays."""
    import signal
    import threading
    from types import FrameType

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # cleaning up is not to be interrupted by a second one
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _sections(found: Parity) -> Iterator[str]:
    from ptyonnx.cli.tables import columns

    recipe = ", ".join(f"{name} {value}" for name, value in found.recipe.items())
    versions = [
        (name, ", ".join(f"{package} {each}" for package, each in of.items())) for name, of in found.versions.items()
    ]
    yield columns([("weights, patterns", found.source), ("recipe", recipe), ("threads", found.threads), *versions])
    names = found.implementations
    yield columns(_stages(found), ("from float64, relative", *names))
    yield _LEGEND
    pairs = [(a, b) for index, a in enumerate(("float64", *names)) for b in names[index:]]
    rows = [(f"{a} – {b}", *(_agreement(found, stage, a, b) for stage in _COMPARED)) for a, b in pairs]
    yield columns(rows, ("largest relative difference", *_COMPARED))
    yield _losses(found)
    yield "\n".join(_notes(found))
    yield "\n".join(verdict.sentence for verdict in found.verdicts)


def _stages(found: Parity) -> Iterator[tuple[object, ...]]:
    from ptyonnx.parity import STAGES

    for stage in STAGES:
        yield (stage, *(_cell(found, stage, name) for name in found.implementations))
        if stage == "forward":
            yield ("forward, alone", *(_alone(found, name) for name in found.implementations))


def _cell(found: Parity, stage: str, implementation: str) -> str | None:
    """The row that comes nearest to its tolerance, or is farthest beyond it."""
    rows = list(found.of(stage, implementation))
    if not rows:
        return None
    wrong = [row for row in rows if row.problem]
    if wrong or stage in {"weights", "export"}:
        return f"{len(wrong)} of {len(rows)} wrong" if wrong else "bit for bit"
    judged = [row for row in rows if row.tolerance]
    if not judged:
        return f"{max(row.relative for row in rows):.1e}"
    worst = max(judged, key=lambda row: row.relative / (row.tolerance or 1))
    return f"{worst.relative:.1e} ({worst.relative / (worst.tolerance or 1):.0%})"


def _alone(found: Parity, implementation: str) -> str | None:
    share = found.worst_local_error(implementation)
    return None if share is None else f"{share:.0%}" if share < math.inf else "wrong"


def _agreement(found: Parity, stage: str, a: str, b: str) -> str | None:
    values = [each.relative for each in found.between(stage, a, b)]
    return f"{max(values):.1e}" if values else None


def _losses(found: Parity) -> str:
    from ptyonnx.cli.tables import columns

    steps = range(max(map(len, found.losses.values())))
    rows = [(name, *(f"{loss:.7f}" for loss in losses)) for name, losses in found.losses.items()]
    return columns(rows, ("loss after steps", *map(str, steps)))


def _notes(found: Parity) -> Iterator[str]:
    for name, count in found.other_branches.items():
        if count:
            yield f"{name}: at {count} pixels a rectifier or pooling went another way than in float64; gradients follow it"
    if found.same_exports is not None:
        same = "the same digests of weights and graph: the same function" if found.same_exports else "different digests"
        yield f"exports of {' and '.join(found.digests)} have {same}"
