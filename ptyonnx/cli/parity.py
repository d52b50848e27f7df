"""The verb `parity`: compare every implementation of one network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptyonnx.cli import progress
from ptyonnx.cli.output import answer, say_aside, verbosity
from ptyonnx.cli.verb import Verb

if TYPE_CHECKING:
    from ptyonnx.parity import Parity
    from ptyonnx_bundles import Bundle, Recipe
    from ptyonnx_runtime.scan import Scan

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_BEYOND = 1  # exit code
_DEFAULT_N = 64
_MINUTE_s = 60.0
_MINUTES_PER_HOUR = 60
_BRANCHES = (
    "Here each gradient follows its own branches of rectifiers and poolings. In the table above, float64 follows the\n"
    "branches of the implementation, so its differences are smaller."
)
_LEGEND = """\
Percentages: largest difference relative to its tolerance; above 100% the implementation is wrong.
'layer alone': error of each layer for its own input, relative to the strict float32 bound. Single multiplications
and subtractions always come close to their bound and are included only where they exceed it."""
_COMPARED = ("object", "physics", "loss", "gradient", "step", "curve")


@click.command(cls=Verb)
@click.option("--backends", default="tf,torch", metavar="NAMES", help="Frameworks, separated by commas. [tf,torch]")
@click.option("--recipe", metavar="KEY=VALUE,...", help="N, gridsize, filters_scale, depth of seeded weights. [N=64]")
@click.option("--from", "bundle", type=_PATH, metavar="BUNDLE", help="The weights of this bundle instead.")
@click.option("--data", type=_PATH, metavar="FILE", help="A scan with patterns for all. [simulated patterns]")
@click.option("--probe", type=_PATH, metavar="FILE", help="Probe, for a scan without one.")
@click.option("--values", metavar="KIND", help="What the patterns are: amplitude or intensity.")
@click.option("--axes", metavar="ORDER", help="Order of the patterns' axes in the file, such as yxn.")
@click.option("--zero-frequency", metavar="PLACE", help="Of the patterns in the file: centre or corner.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="Seed of the weights of a recipe. [0]"
)
@click.option(
    "--steps", type=int, metavar="NUMBER", help="Points of the loss curve; the first is before any optimiser step. [5]"
)
@click.option("--train-probe", is_flag=True, help="Refine the probe as well, and compare its gradient.")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, metavar="NUMBER", help="Threads of each implementation. [1]"
)
@click.option("--timeout", type=float, metavar="SECONDS", help="Time limit for each implementation. [600]")
def command(backends: str, **options: Any) -> int:
    """Compare every implementation of one network.

    TensorFlow, PyTorch and onnxruntime each run in a process of their own and are compared with a float64 reference:
    every layer, the forward model, the loss, the gradient of every weight, the first steps of training and the exported
    graph. The tolerances follow from float32 rounding. Exit code 0: all are within their tolerances; 1: one is not;
    2: nothing could be compared. The command estimates its duration before it starts.

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
    with _ended_by_sigterm(), progress.stage("estimating the duration") as show:
        shown = _Progress(show)
        found = check_parity(
            _source(options["bundle"], options["recipe"], scan),
            scan,
            backends=[name.strip() for name in backends.split(",") if name.strip()],
            seed=options["seed"],
            steps=STEPS if options["steps"] is None else options["steps"],
            threads=options["threads"],
            train_probe=options["train_probe"],
            timeout_s=TIMEOUT_s if options["timeout"] is None else options["timeout"],
            progress=shown.begin,
            remaining=shown.estimate,
        )
    answer(found.to_dict(), lambda: "\n\n".join(filter(None, _sections(found))))
    return 0 if found.passed else _BEYOND


class _Progress:
    """Prints the estimated duration once, and shows the running part with the remaining time."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._remaining_s: float | None = None

    def estimate(self, seconds: float) -> None:
        """Take the remaining time; print the first."""
        if self._remaining_s is None and verbosity() >= 0:
            say_aside(f"{_about(seconds)} on this machine")
        self._remaining_s = seconds

    def begin(self, implementation: str, part: str) -> None:
        """Show what runs now."""
        left = "" if self._remaining_s is None else f" ({_about(self._remaining_s)} left)"
        self._show(f"{implementation}: {part}{left}")


def _about(seconds: float) -> str:
    """A duration with the precision of an estimate."""
    if seconds < _MINUTE_s:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    minutes = seconds / _MINUTE_s
    return f"about {minutes:.0f} min" if minutes < _MINUTES_PER_HOUR else f"about {minutes / _MINUTES_PER_HOUR:.1f} h"


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
    """End on SIGTERM, which schedulers send, as on Ctrl-C: without remaining child processes or temporary files."""
    import signal
    import threading
    from types import FrameType

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
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
    yield columns(_stages(found), ("difference from float64", *names))
    yield _LEGEND
    pairs = [(a, b) for index, a in enumerate(("float64", *names)) for b in names[index:]]
    rows = [(f"{a} – {b}", *(_agreement(found, stage, a, b) for stage in _COMPARED)) for a, b in pairs]
    yield columns(rows, ("largest relative difference", *_COMPARED))
    yield _BRANCHES
    yield _losses(found)
    yield "\n".join(_notes(found))
    yield "\n".join(verdict.sentence for verdict in found.verdicts)


def _stages(found: Parity) -> Iterator[tuple[object, ...]]:
    from ptyonnx.parity import STAGES

    for stage in STAGES:
        yield (stage, *(_cell(found, stage, name) for name in found.implementations))
        if stage == "forward":
            yield ("forward, layer alone", *(_local_error(found, name) for name in found.implementations))


def _cell(found: Parity, stage: str, implementation: str) -> str | None:
    """The row with the largest difference relative to its tolerance."""
    rows = list(found.of(stage, implementation))
    if not rows:
        return None
    wrong = [row for row in rows if row.problem]
    if wrong or stage in {"weights", "export"}:
        return f"{len(wrong)} of {len(rows)} wrong" if wrong else "bit for bit"
    compared = [row for row in rows if row.tolerance]
    if not compared:
        return f"{max(row.relative for row in rows):.1e}"
    worst = max(compared, key=lambda row: row.relative / (row.tolerance or 1))
    return f"{worst.relative:.1e} ({worst.relative / (worst.tolerance or 1):.0%})"


def _local_error(found: Parity, implementation: str) -> str | None:
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
            yield f"{name}: {count} pixels take another ReLU or pooling branch than float64; gradients are compared on its branches"
    if found.same_exports is not None:
        same = "the same digests of weights and graph (same function)" if found.same_exports else "different digests"
        yield f"exports of {' and '.join(found.digests)} have {same}"
