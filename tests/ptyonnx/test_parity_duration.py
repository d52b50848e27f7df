"""The estimate of a parity check's duration: available before anything runs, and corrected while it runs."""

from __future__ import annotations

import itertools

import planted
import pytest

import ptyonnx
from ptyonnx.cli import main
from ptyonnx.parity.duration import Duration, Work, estimated_work
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import WorkerError

RECIPE = Recipe(N=32, filters_scale=0.1, depth=2)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_estimate_is_reported_before_any_implementation_starts() -> None:
    reports: list[object] = []
    with planted.in_children(pytorch="death"), pytest.raises(WorkerError):
        ptyonnx.check_parity(
            RECIPE, backends=["torch"], progress=lambda *stage: reports.append(stage), remaining=reports.append
        )
    assert isinstance(reports[0], float)
    assert reports[0] > 0


def test_the_work_covers_every_implementation_in_the_order_in_which_it_runs() -> None:
    work = estimated_work(RECIPE, ["tensorflow", "pytorch"], 5, reference="float64")
    order = [name for name, _ in itertools.groupby(work, key=lambda each: each.implementation)]
    assert order == ["tensorflow", "pytorch", "onnxruntime", "float64"]
    assert all(each.seconds > 0 for each in work)


def test_the_work_grows_with_pixels_and_steps() -> None:
    ticks = itertools.count()
    small, large, longer = (
        estimated_work(recipe, ["pytorch"], steps, reference="float64", clock=lambda: float(next(ticks)))
        for recipe, steps in ((RECIPE, 5), (RECIPE.model_copy(update={"N": 64}), 5), (RECIPE, 50))
    )
    of_reference = [[each.seconds for each in work if each.kind == "float64"] for work in (small, large, longer)]
    assert of_reference[1] == pytest.approx([4 * seconds for seconds in of_reference[0]])
    assert of_reference[2][0] > 5 * of_reference[0][0]
    assert of_reference[2][1:] == of_reference[0][1:]  # tolerances are sampled for the first losses only


def test_the_remaining_time_follows_what_the_finished_parts_took() -> None:
    clock = Clock()
    work = [Work("pytorch", "framework", 10), Work("tensorflow", "framework", 10), *[Work("float64", "float64", 4)] * 2]
    duration = Duration(work, clock)
    assert duration.remaining_s == 28
    duration.begin("pytorch")
    clock.now = 6
    assert duration.remaining_s == 22
    duration.begin("pytorch")  # another stage of the same part
    clock.now = 20
    assert duration.remaining_s == 18  # late: at least the parts after it
    duration.begin("tensorflow")
    assert duration.remaining_s == 28  # the machine is half as fast as estimated
    clock.now = 40
    duration.begin("float64", "exact")
    assert duration.remaining_s == 8
    clock.now = 42
    duration.begin("float64", "tolerances")
    assert duration.remaining_s == 2
    clock.now = 44
    duration.begin("float64", "beyond what was planned")
    assert duration.remaining_s == 0


def test_an_implementation_that_does_not_run_is_skipped() -> None:
    clock = Clock()
    duration = Duration([Work(name, "framework", 1) for name in ("pytorch", "onnxruntime", "float64")], clock)
    duration.begin("pytorch")
    clock.now = 1
    duration.begin("float64")
    assert duration.remaining_s == 1


@pytest.mark.parametrize(
    "seconds, shown",
    [(0.2, "about 5 s"), (28.7, "about 30 s"), (61, "about 1 min"), (570, "about 10 min"), (9000, "about 2.5 h")],
)
def test_a_duration_is_stated_with_the_precision_of_an_estimate(seconds: float, shown: str) -> None:
    from importlib import import_module

    assert import_module("ptyonnx.cli.parity")._about(seconds) == shown


def test_the_command_line_prints_the_estimate_first_and_nothing_with_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["parity", "--backends", "torch", "--recipe", "N=32,filters_scale=0.1,depth=1"]
    for quiet in ([], ["--quiet"]):
        with planted.in_children(pytorch="death"):
            assert main([*words, *quiet]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines[:-1] if line.startswith("about ")] == ([] if quiet else lines[:1])
        assert lines[-1].startswith("ptyonnx: error: ")
