"""Every implementation beside float64: good ones agree, and a planted fault is named where it is."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import planted
import pytest
from bundle_factory import make_bundle, overflowing
from foreign_factory import make_foreign_bundle

import ptyonnx
from ptyonnx import backends
from ptyonnx.cli import main
from ptyonnx.parity import Parity, Row, verdicts
from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.float64_reference import compute_reference, gradients_on_branches
from ptyonnx.parity.monte_carlo_tolerances import monte_carlo_tolerances, quantities, scales
from ptyonnx.parity.result import ImplementationVerdict
from ptyonnx.parity.shared_inputs import SharedInputs, of_recipe
from ptyonnx.parity.verdicts import other_branches
from ptyonnx.parity.worker_process import run_worker
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import BundleError, ScanError, SettingsError, WorkerError

SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
RECIPE = Recipe(N=32, filters_scale=0.1, depth=2)
TIMEOUT_s = 300.0

IN_TENSORFLOW = {
    "": ("", ""),
    "last_bit_tensorflow": ("weights", planted.FLIPPED),
    "hidden_bit_tensorflow": ("forward", planted.FLIPPED.removesuffix(".weight")),
    "swapped_filters_tensorflow": ("forward", planted.SWAPPED),
    "dropped_bias_tensorflow": ("forward", planted.BIASED),
    "half_pixel_upsampling_tensorflow": ("forward", "decoder.amplitude.0.upsample"),
    "shifted_dft": ("physics", "intensity"),
    "export_without_bias": ("export", planted.BIASED),
    "export_half_pixel": ("export", "decoder.amplitude.0.upsample"),
}
IN_PYTORCH = {
    "": ("", ""),
    "last_bit_pytorch": ("weights", planted.FLIPPED),
    "padded_pooling_pytorch": ("forward", "encoder.0.pool"),
    "shifted_dft": ("physics", "intensity"),
    "lifted_logarithm": ("loss", ""),
    "leaking_gradient_pytorch": ("gradient", "decoder.phase.1.conv.1.weight"),
    "no_gradients_pytorch": ("gradient", "decoder.phase.output.weight"),
    "doubled_rate": ("step", "after 1 step"),
    "lost_after_three_steps": ("curve", "after 3 steps"),
}


@pytest.fixture(scope="module")
def inputs() -> SharedInputs:
    return of_recipe(RECIPE, None, seed=0, steps=5, threads=1)


@pytest.fixture(scope="module")
def exact(inputs: SharedInputs) -> ComputedValues:
    return compute_reference(inputs)


@pytest.fixture(scope="module")
def allowed(inputs: SharedInputs, exact: ComputedValues) -> dict[tuple[str, str], float]:
    return monte_carlo_tolerances(inputs, exact, lambda _: None)


Judge = Callable[[ComputedValues], ImplementationVerdict]


@pytest.fixture(scope="module")
def judged(inputs: SharedInputs, exact: ComputedValues, allowed: dict[tuple[str, str], float]) -> Judge:
    def verdict(found: ComputedValues) -> ImplementationVerdict:
        stages = verdicts.RUNTIME_STAGES if found.implementation == "onnxruntime" else verdicts.BACKEND_STAGES
        return verdicts.verdict(found.implementation, verdicts.rows(inputs, exact, found, allowed, stages=stages))

    return verdict


def examined(inputs: SharedInputs, folder: Path, implementation: str, plants: list[str]) -> dict[str, ComputedValues]:
    """What a process finds with each fault, all in one process."""
    folder.mkdir(exist_ok=True)
    inputs.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in planted.environment({implementation: plants}).items():
            patch.setenv(name, value)
        run_worker(
            folder, implementation, threads=1, timeout_s=TIMEOUT_s, progress=lambda *_: None, module=planted.__name__
        )  # fmt: skip
    return {plant: ComputedValues.read(folder / planted.computed_name(plant)) for plant in plants}


@pytest.fixture(scope="module")
def tensorflow(inputs: SharedInputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ComputedValues]:
    return examined(inputs, tmp_path_factory.mktemp("tensorflow"), "tensorflow", list(IN_TENSORFLOW))


@pytest.fixture(scope="module")
def pytorch(inputs: SharedInputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ComputedValues]:
    return examined(inputs, tmp_path_factory.mktemp("pytorch"), "pytorch", list(IN_PYTORCH))


@pytest.mark.slow
@pytest.mark.parametrize("plant", IN_TENSORFLOW)
def test_a_fault_in_tensorflow_is_named_where_it_is(
    plant: str, tensorflow: dict[str, ComputedValues], judged: Judge
) -> None:
    verdict = judged(tensorflow[plant])
    assert (verdict.stage, verdict.key) == IN_TENSORFLOW[plant], verdict.sentence
    assert verdict.passed == (plant == "")
    assert verdict.key in verdict.sentence


@pytest.mark.slow
@pytest.mark.parametrize("plant", IN_PYTORCH)
def test_a_fault_in_pytorch_is_named_where_it_is(plant: str, pytorch: dict[str, ComputedValues], judged: Judge) -> None:
    verdict = judged(pytorch[plant])
    assert (verdict.stage, verdict.key) == IN_PYTORCH[plant], verdict.sentence
    assert verdict.passed == (plant == "")
    assert verdict.key in verdict.sentence


@pytest.mark.slow
def test_both_frameworks_export_the_same_function_and_onnxruntime_computes_it(
    tensorflow: dict[str, ComputedValues],
    pytorch: dict[str, ComputedValues],
    inputs: SharedInputs,
    judged: Judge,
    tmp_path: Path,
) -> None:
    models = tensorflow[""].model, pytorch[""].model
    assert models[0] is not None
    assert models[0] == models[1]
    (tmp_path / "model.onnx").write_bytes(models[0])
    found = examined(inputs, tmp_path, "onnxruntime", [""])[""]
    verdict = judged(found)
    assert verdict.passed, verdict.sentence
    assert set(found.activations) == {node.name for node in RECIPE.nodes()}


@pytest.mark.slow
@pytest.mark.numerical
def test_gradients_of_both_frameworks_differ_by_rounding_and_by_the_branches_they_took(tmp_path: Path) -> None:
    """On a real scan. Each errs as far as float32 may, on the branches of its own rectifiers and poolings."""
    recipe = Recipe(N=64, filters_scale=0.25)
    inputs = of_recipe(recipe, ptyonnx.load_scan(SAMPLE), seed=0, steps=2, threads=1)
    exact = compute_reference(inputs)
    allowed, sizes = monte_carlo_tolerances(inputs, exact, lambda _: None), scales(dict(quantities(exact)))
    found = [examined(inputs, tmp_path / name, name, [""])[""] for name in backends.BACKENDS]
    along = [gradients_on_branches(inputs, each.branches) for each in found]
    pixels = sum(taken.size for taken in exact.branches.values())
    for each in found:
        assert other_branches(exact, each) < 1e-4 * pixels  # near a threshold, and nowhere else
    for weight in recipe.weight_shapes():
        apart, branches = (each[0][weight] - each[1][weight] for each in ([f.gradients for f in found], along))
        tolerance = 2 * allowed["gradient", weight] * sizes["gradient", weight]
        np.testing.assert_allclose(apart, branches, rtol=0, atol=tolerance, err_msg=weight)


@pytest.mark.slow
def test_the_probe_is_refined_alike_and_a_fault_in_it_is_named() -> None:
    """Two modes: of one, all that the probe can do, the object can do as well."""
    scan = ptyonnx.load_scan(SAMPLE)
    assert scan.probe is not None
    modes = np.concatenate([scan.probe, 0.2 * np.roll(scan.probe, 7, axis=1)])
    with planted.in_children(tensorflow="conjugated_probe_tensorflow"):
        found = ptyonnx.check_parity(
            Recipe(N=64, filters_scale=0.1), replace(scan, probe=modes), steps=3, train_probe=True
        )
    verdicts = {verdict.implementation: verdict for verdict in found.verdicts}
    assert verdicts["pytorch"].passed, verdicts["pytorch"].sentence
    assert verdicts["tensorflow"].key == "probe.imag", verdicts["tensorflow"].sentence
    agreed = found.between("gradient", "float64", "pytorch")
    assert {"probe.real", "probe.imag"} < {each.key for each in agreed}


@pytest.mark.slow
def test_the_command_line_refines_the_probe_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = "N=32,filters_scale=0.1,depth=1"
    words = ["--backends", "torch", "--recipe", recipe, "--steps", "3", "--train-probe", "--json"]
    assert main(["parity", *words]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    of_probe = [row for row in rows if row["key"].startswith("probe.")]
    assert len(of_probe) == 2
    assert all(row["tolerance"] for row in of_probe)


@pytest.mark.slow
def test_one_framework_alone_is_enough_and_the_result_goes_to_json(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    bundle = make_bundle(tmp_path / "bundle.onnx", Recipe(N=32, filters_scale=0.1, depth=1, gridsize=2))
    result = ptyonnx.check_parity(bundle, backends=["torch"], steps=2, progress=lambda *report: seen.append(report))
    assert isinstance(result, Parity)
    assert result.implementations == ("pytorch", "onnxruntime")
    assert result.passed, [verdict.sentence for verdict in result.verdicts]
    assert result.same_exports is None
    assert ("pytorch", "gradients") in seen
    assert result.digests["pytorch"] == bundle.manifest.digests.model_dump()
    document = result.to_dict()
    assert document["passed"] is True
    assert {row["stage"] for row in document["rows"]} >= {"weights", "forward", "gradient", "step", "export"}


@pytest.mark.slow
def test_a_fault_in_a_child_ends_in_the_verdict_of_the_library_call() -> None:
    with planted.in_children(tensorflow="swapped_filters_tensorflow"):
        result = ptyonnx.check_parity(RECIPE, backends=["tf"], steps=2)
    assert not result.passed
    assert (result.verdicts[0].stage, result.verdicts[0].key) == ("forward", planted.SWAPPED)


@pytest.mark.slow
def test_the_command_line_ends_with_1_and_one_sentence_where_an_implementation_parts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with planted.in_children(pytorch="padded_pooling_pytorch"):
        code = main(["parity", "--backends", "torch", "--recipe", "N=32,filters_scale=0.1,depth=1", "--steps", "2"])
    shown = capsys.readouterr().out
    assert code == 1
    last = shown.splitlines()[-1]  # of pytorch: the export is not the recipe's graph and does not run
    assert last.startswith("pytorch")
    assert "encoder.0.pool" in last


@pytest.mark.slow
def test_the_command_line_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "bundle.onnx", Recipe(N=64, filters_scale=0.0625)).path
    words = ["--backends", "tf", "--from", str(bundle), "--data", str(SAMPLE), "--steps", "2", "--json"]
    assert main(["parity", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is True
    assert [verdict["implementation"] for verdict in document["verdicts"]] == ["tensorflow", "onnxruntime"]


@pytest.mark.slow
def test_weights_that_overflow_are_a_finding_without_a_word_from_numpy(tmp_path: Path) -> None:
    """Warnings are errors here."""
    broken = overflowing(make_bundle(tmp_path / "good.onnx", RECIPE), tmp_path / "broken.onnx")
    found = ptyonnx.check_parity(broken, backends=["torch"], steps=2)
    assert [verdict.key for verdict in found.verdicts] == ["decoder.phase.1.conv.0"] * 2
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "words, key",
    [
        (["--backends", "jax"], "backend"),
        (["--recipe", "N=33"], "--recipe"),
        (["--recipe", "N=64,width=3"], "width"),
        (["--recipe", "M=64"], "M"),
        (["--recipe", "N=64,depth=deep"], "depth"),
        (["--recipe", "N=64", "--from", "bundle.onnx"], "--recipe, --from"),
        (["--steps", "1"], "--steps"),
        (["--timeout", "-1"], "--timeout"),
        (["--timeout", "inf"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--timeout", "86401"], "--timeout"),
    ],
)
def test_bad_options_are_refused_in_one_line_that_names_them(
    words: list[str], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"'{key}': " in shown.err
    assert shown.err.count("\n") == 1


def test_a_framework_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "tensorflow" else find_spec(name))
    assert main(["parity", "--recipe", "N=32"]) == 2
    assert "pip install 'ptyonnx[tensorflow]'" in capsys.readouterr().err


def test_infinities_are_null_in_json() -> None:
    row = Row(
        "forward",
        "encoder.0.pool",
        "pytorch",
        absolute=math.nan,
        relative=math.inf,
        tolerance=1e-6,
        local_error=math.inf,
    )
    assert not row.passed
    assert json.loads(json.dumps(row.to_dict(), allow_nan=False))["relative"] is None


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files of this test would lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def _parity(own: dict[str, float]) -> Parity:
    """A result with these layers' own errors and nothing else."""
    rows = tuple(Row("forward", layer, "pytorch", tolerance=1e-6, local_error=error) for layer, error in own.items())
    return Parity(
        "x", RECIPE.model_dump(), {}, 1, rows, (), (ImplementationVerdict("pytorch", "", "", "fine"),), {}, {}, {}
    )


def test_a_layer_that_rounds_once_counts_only_beyond_its_bound() -> None:
    """A correctly rounded product errs by up to half a unit in the last place: of many, one by just that."""
    values = np.random.default_rng(0).uniform(1, 2, (2, 10_000)).astype(np.float32)
    exact = np.multiply(*values.astype(np.float64))
    reached = float(np.max(np.abs(np.multiply(*values) - exact) / exact) * 2**24)
    assert reached == pytest.approx(1, abs=0.02)
    assert reached <= 1
    own = {"whitening.scaled": reached, "encoder.0.conv.0": 0.3, "encoder.0.relu.0": 0.0, "amplitude": 0.99}
    assert _parity(own).worst_local_error("pytorch") == 0.3
    assert _parity(own | {"amplitude": 1.01}).worst_local_error("pytorch") == 1.01
    assert _parity(own | {"encoder.0.relu.0": math.inf}).worst_local_error("pytorch") == math.inf
    assert _parity({}).worst_local_error("pytorch") is None


def test_a_result_is_printed_in_one_line_with_its_verdicts() -> None:
    assert repr(_parity({})) == "<Parity of x: fine>"


def test_python_has_nothing_to_say_about_what_the_child_runs(tmp_path: Path) -> None:
    with pytest.raises(WorkerError) as refusal:
        run_worker(tmp_path, "pytorch", threads=1, timeout_s=TIMEOUT_s, progress=lambda *_: None)
    assert "FileNotFoundError: " in str(refusal.value.found)
    assert "Warning" not in (tmp_path / "pytorch.stderr").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_tensorflow_says_of_every_machine_is_not_quoted() -> None:
    with planted.in_children(tensorflow="killed_after_loading_tensorflow"), pytest.raises(WorkerError) as refusal:
        ptyonnx.check_parity(RECIPE, backends=["tf"])
    assert "SIGKILL" in str(refusal.value)
    assert refusal.value.found is None


def test_a_process_that_dies_is_quoted_in_one_line_and_leaves_nothing(temporary: Path) -> None:
    with planted.in_children(pytorch="death"), pytest.raises(WorkerError) as refusal:
        ptyonnx.check_parity(RECIPE, backends=["torch"])
    line = str(refusal.value)
    assert "SIGABRT" in line
    assert "terminate called after throwing std::bad_alloc" in str(refusal.value.found)
    assert "\n" not in line
    assert refusal.value.remedy is None  # there is no other backend
    with planted.in_children(tensorflow="death"), pytest.raises(WorkerError) as refusal:
        ptyonnx.check_parity(RECIPE, backends=["tf", "torch"])
    assert 'backends="pytorch"' in str(refusal.value.remedy)
    assert list(temporary.iterdir()) == []


def test_a_process_that_hangs_is_stopped_and_leaves_nothing(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = temporary.parent / "pid"
    monkeypatch.setenv("PLANTED_PID", str(pid_file))
    started = time.monotonic()
    with planted.in_children(pytorch="silence"), pytest.raises(WorkerError) as refusal:
        ptyonnx.check_parity(RECIPE, backends=["torch"], timeout_s=4)
    assert "waiting for a lock" in str(refusal.value.found)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_sigterm_ends_the_child_and_leaves_nothing(temporary: Path) -> None:
    pid_file = temporary.parent / "pid"
    program = (
        "import sys, planted; from ptyonnx.cli import main\n"
        "with planted.in_children(pytorch='silence'): sys.exit(main(['parity', '--recipe', 'N=32']))"
    )
    environment = {**os.environ, **planted.environment({}), "PLANTED_PID": str(pid_file)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + TIMEOUT_s
            while not (pid_file.exists() and pid_file.read_text()):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert list(temporary.iterdir()) != []
            process.terminate()
            assert process.wait(30) == 128 + signal.SIGTERM
        finally:
            process.kill()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_an_export_with_another_input_is_a_finding_and_the_other_verdicts_stay() -> None:
    with planted.in_children(pytorch="export_renamed_input"):
        result = ptyonnx.check_parity(RECIPE, backends=["torch"], steps=2)
    (verdict,) = result.verdicts
    assert (verdict.stage, verdict.key) == ("export", "diffraction")
    assert result.digests.keys() == {"pytorch"}


@pytest.mark.slow
def test_an_onnxruntime_that_dies_is_a_finding_and_the_other_verdicts_stay(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with planted.in_children(onnxruntime="death"):
        code = main(["parity", "--backends", "torch", "--recipe", "N=32,filters_scale=0.1,depth=1", "--steps", "2"])
    shown = capsys.readouterr()
    assert code == 1
    pytorch, onnxruntime = shown.out.splitlines()[-2:]
    assert pytorch.startswith("pytorch agrees")
    assert onnxruntime.startswith("onnxruntime cannot run")
    assert "SIGABRT" in onnxruntime
    assert "std::bad_alloc" in onnxruntime
    assert list(temporary.iterdir()) == []


def test_what_cannot_be_compared_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as unknown:
        ptyonnx.check_parity(RECIPE, backends=["jax"])
    assert unknown.value.found == "jax"
    with pytest.raises(SettingsError) as short:
        ptyonnx.check_parity(RECIPE, steps=1)
    assert short.value.key == "steps"
    with pytest.raises(BundleError) as absent:
        ptyonnx.check_parity(tmp_path / "absent.onnx")
    assert absent.value.file == str(tmp_path / "absent.onnx")
    scan = of_recipe(Recipe(N=48, filters_scale=0.1), None, seed=0, steps=2, threads=1).scan
    with pytest.raises(ScanError) as other_size:
        ptyonnx.check_parity(RECIPE, scan)
    assert (other_size.value.found, other_size.value.expected) == (48, 32)
    make_foreign_bundle(tmp_path / "foreign.onnx")
    with pytest.raises(BundleError) as refusal:
        ptyonnx.check_parity(tmp_path / "foreign.onnx")
    assert "recipe" in str(refusal.value)
