import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from float32_bounds import of_sums

from ptyonnx import __version__
from ptyonnx.cli import VERBS, main
from ptyonnx.cli.progress import TrainingBars, bar
from ptyonnx.settings import Settings, configuration
from ptyonnx.settings.ptychopinn_names import BATCH_SIZE
from ptyonnx_bundles import Bundle, Recipe, write_bundle
from ptyonnx_bundles.errors import SettingsError

ROOT = Path(__file__).parents[2]
SCAN = ROOT / "samples" / "siemens_star_64.npz"
Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", Recipe(N=64, filters_scale=0.0625))


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ptyonnx", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _refused(output: Output, *words: object) -> str:
    """The one line with which a command is refused."""
    assert main([str(word) for word in words]) == 2
    captured = output.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("ptyonnx: error: ")
    return line.removeprefix("ptyonnx: error: ")


def test_the_help_lists_every_verb_with_a_whole_sentence(capsys: Output) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in VERBS:
        assert f"\n  {verb} " in text
    assert "..." not in text.split("Commands:")[1]
    assert main([]) == 0
    assert capsys.readouterr().out == text


def test_the_version_is_that_of_the_package(capsys: Output) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ptyonnx {__version__}\n"


@pytest.mark.parametrize(
    "verb, hint", [("trian", "'train'"), ("recontruct", "'reconstruct'"), ("xyz", "train, export")]
)
def test_an_unknown_verb_suggests_the_nearest(capsys: Output, verb: str, hint: str) -> None:
    assert hint in _refused(capsys, verb)


def test_an_unknown_flag_suggests_the_nearest(capsys: Output) -> None:
    assert "--epochs" in _refused(capsys, "train", "--epoch", "3")


def test_debug_shows_the_trace_wherever_it_stands(capsys: Output) -> None:
    for words in (["--debug", "inspect", "absent.onnx"], ["inspect", "absent.onnx", "--debug"]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "Traceback" in error
        assert "BundleError" in error
        assert error.splitlines()[-1].startswith("ptyonnx: error: absent.onnx")


@pytest.mark.parametrize(
    "words, expected",
    [
        (("inspect", "absent.onnx"), "absent.onnx: "),
        (("verify", SCAN), "siemens_star_64.npz: "),
        (("reconstruct",), "'--data': missing"),
        (("reconstruct", "absent.onnx", "--data", SCAN), "'-o"),
        (("reconstruct", "--data", SCAN, "-o", "r.h5"), "'BUNDLE': missing"),
        (("reconstruct", "absent.onnx", "--data", SCAN, "-o", "r.h5"), "absent.onnx: "),
        (("train", "--data", SCAN), "'--backend': "),
        (("train", "--backend", "jax", "--data", SCAN), "found jax"),
        (("train", "--backend", "tf"), "'--data': missing"),
        (("train", "--backend", "tf", "--data", SCAN, "--epochs", "many"), "'--epochs': "),
        (("train", "--backend", "tf", "--data", SCAN, "--set", "epoch=3"), "'epochs'"),
        (("train", "--config", "absent.yaml"), "absent.yaml: "),
        (("train", "--resume", "--overwrite"), "'--resume, --overwrite': "),
        (("train", "--resume", "-o", "absent", "--data", SCAN), "absent/run.json: "),
        (("export", "absent"), "absent/run.json: "),
        (("diff", "a.onnx"), "'B'"),
        (("simulate", "--object", SCAN, "--probe", SCAN), "'-o'"),
        (("simulate", "--object", SCAN, "--probe", SCAN, "-o", "s.npz", "--positions", "spiral"), "raster, fermat, random"),
        (("simulate", "--object", SCAN, "--probe", "p.txt", "-o", "s.npz"), "p.txt: "),
        (("simulate", "--object", SCAN, "--probe", SCAN, "-o", "s.npz", "--amplitude", "a.png"), "'--amplitude': "),
        (("simulate", "--object", "a.png", "--probe", SCAN, "-o", "s.npz", "--amplitude-range", "1"), "'--amplitude-range': "),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_nothing_is_written(
    capsys: Output, words: tuple[object, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in _refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_provider_lists_those_that_exist(capsys: Output, bundle: Bundle) -> None:
    assert "cpu" in _refused(capsys, "verify", bundle.path, "--provider", "gpux")


def test_errors_go_to_stderr_with_exit_code_2() -> None:
    outcome = _run("inspect", "absent.onnx")
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("ptyonnx: error: absent.onnx: cannot be read")


def test_a_reader_that_goes_away_is_no_error(bundle: Bundle) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ptyonnx", "inspect", str(bundle.path)]
    with os.fdopen(write, "w") as closed:
        outcome = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert outcome.stderr == ""


WAITING = """
import sys, time
from ptyonnx.cli import inspect, main

def wait(**_):
    print("ready", flush=True)
    time.sleep(60)

inspect.command.callback = wait
sys.exit(main(["inspect", "x"]))
"""


def test_ctrl_c_ends_with_130_and_a_sentence() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "ptyonnx: interrupted" in error
    assert "Traceback" not in error


def test_inspect_tells_people_and_machines(capsys: Output, bundle: Bundle) -> None:
    assert main(["inspect", str(bundle.path)]) == 0
    text = capsys.readouterr().out
    assert bundle.manifest.digests.weights in text
    assert "diffraction float32 (batch, 1, 64, 64)" in text
    assert main(["inspect", "--json", str(bundle.path)]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["manifest"] == bundle.manifest.model_dump(mode="json")
    assert read["outputs"] == [{"name": "object", "dtype": "float32", "shape": ["batch", 1, 64, 64, 2]}]
    trained = bundle.manifest.recipe.weight_shapes()
    assert read["parameters"] == sum(int(np.prod(shape)) for shape in trained.values())


def test_verify_passes_a_sound_bundle_and_fails_one_that_computes_something_else(
    capsys: Output, bundle: Bundle, tmp_path: Path
) -> None:
    assert main(["verify", str(bundle.path), "--provider", "cpu"]) == 0
    assert "passed" in capsys.readouterr().out
    selftest = replace(bundle.selftest, object=bundle.selftest.object + np.complex64(1e-3))
    wrong = write_bundle(tmp_path / "wrong.onnx", bundle.model, bundle.manifest, bundle.probe, selftest)
    assert main(["verify", str(wrong.path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["difference"] == pytest.approx(1e-3, rel=0.1)


def test_diff_says_the_same_function_or_exits_with_1(capsys: Output, bundle: Bundle, tmp_path: Path) -> None:
    assert main(["diff", str(bundle.path), str(bundle.path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("same function")
    other = make_bundle(tmp_path / "other.onnx", bundle.manifest.recipe, seed=1)
    assert main(["diff", str(bundle.path), str(other.path), "--verbose"]) == 1
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith("different functions")
    verdicts = [line.split()[:2] for line in text.splitlines() if line.split()[1:2] in (["same"], ["differ"], ["–"])]
    assert verdicts[:4] == [["identity", "differ"], ["weights", "differ"], ["activations", "differ"], ["images", "–"]]
    assert "encoder.0.conv.0" in text
    assert main(["diff", str(bundle.path), str(other.path), "--tolerance", "inf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same_function"] is False


def test_simulate_writes_a_scan_that_can_be_read(capsys: Output, tmp_path: Path) -> None:
    output = tmp_path / "simulated.npz"
    words = f"simulate --object {SCAN} --probe {SCAN} --probe-modes 2 --photons 1e5 --count 30 --seed 2 -o {output}"
    assert main(words.split()) == 0
    assert "30 patterns of 64 x 64" in capsys.readouterr().out
    with np.load(output) as file, np.load(SCAN) as sample:
        assert file["diffraction"].shape == (30, 64, 64)
        assert file["diffraction"].dtype == np.float32
        np.testing.assert_array_equal(file["objectGuess"], sample["objectGuess"])
        power = np.sum(np.abs(file["probeGuess"]) ** 2, axis=(1, 2))
        np.testing.assert_allclose(power, [8e4, 2e4], rtol=of_sums(64 * 64))
        first = file["diffraction"]
    again = tmp_path / "again.npz"
    of_file = words.replace("--count 30 ", "").split()[:-1]
    assert main([*of_file, str(again), "--positions", str(output)]) == 0
    with np.load(again) as file:
        np.testing.assert_array_equal(file["diffraction"], first)


ISSUE = (
    "--config {root}/configs/gridsize2_minimal.yaml --train_data_file {scan} --test_data_file {scan} --output_dir run "
    "--n_groups 4 --n_subsample 16 --neighbor_count 7 --batch_size 4 --nepochs 1"
)


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow", "tf", "torch"])
def test_the_command_of_ptychopinns_users_gives_these_settings(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both spellings, YAML and flags: everything up to loading the framework."""
    asked: list[configuration.Configuration] = []

    def stop(*words: object) -> None:
        asked.append(configure(*words))  # type: ignore[arg-type]
        raise SettingsError("enough")

    configure = configuration.configure
    monkeypatch.setattr(configuration, "configure", stop)
    for spelled in (ISSUE, ISSUE.replace("_file", "-file").replace("n_groups", "n-groups").replace("_dir", "-dir")):
        words = f"train --backend {backend} {spelled.format(root=ROOT, scan=SCAN)}"
        assert main(words.split()) == 2
    assert asked[0] == asked[1]
    assert asked[0] == configuration.Configuration(
        backend=backend,
        data=SCAN,
        test_data=SCAN,
        output=Path("run"),
        settings=Settings(gridsize=2, n_groups=4, n_subsample=16, neighbor_count=7, batch_size=4, epochs=1),
        notes=(BATCH_SIZE,),
    )


def test_progress_without_a_terminal_is_a_line_for_each_epoch(capsys: Output) -> None:
    row = {"epoch": 3, "loss": 0.5, "r_factor": 0.2, "val_loss": 0.6, "val_r_factor": 0.3, "rate": 1e-3, "seconds": 1.5}
    with TrainingBars() as bars:
        bars.started(epochs=20, steps_per_epoch=5, epoch=2)
        for _ in range(5):
            bars.step(0.5, 0.2)
        bars.note("probe scaled")
        bars.epoch(row)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "20 epochs of 5 steps, 2 of them done earlier",
        "note: probe scaled",
        "epoch  3/20  loss 0.5000  R 0.200  validation: loss 0.6000  R 0.300  rate 1.0e-03  1.5 s",
    ]


def test_bars_in_a_terminal_show_loss_and_r_factor(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TrainingBars() as bars:
        bars.started(epochs=2, steps_per_epoch=1, epoch=0)
        bars.step(0.25, 0.125)
        bars.note("said aloud")
    with bar("reconstructing", "group") as report:
        report(1, 2)
        report(2, 2)
    shown = capsys.readouterr().err
    assert "epoch 1/2" in shown
    assert "said aloud" in shown
    assert "reconstructing" in shown


def test_diff_with_a_scan_shows_what_was_removed_and_what_is_left(
    capsys: Output, bundle: Bundle, tmp_path: Path
) -> None:
    other = make_bundle(tmp_path / "other.onnx", bundle.manifest.recipe, seed=1)
    assert main(["diff", f"{bundle.path}@cpu", str(other.path), "--data", str(SCAN), "-v"]) == 1
    text = capsys.readouterr().out
    for words in ("bundle.onnx by onnxruntime (cpu)", "removed from the images: scale", "ramp y, x", "SSIM", "PSNR", "data range", "Fourier rings  ", "phase correlation", "128 patches (scan)"):  # fmt: skip
        assert words in text


def test_without_scikit_image_diff_compares_all_but_images(bundle: Bundle, tmp_path: Path) -> None:
    """None in sys.modules is what Python calls a module that cannot be found."""
    other = make_bundle(tmp_path / "other.onnx", bundle.manifest.recipe, seed=1)
    program = "import sys; sys.modules['skimage'] = None; from ptyonnx.cli import main; sys.exit(main())"
    words = ["diff", str(bundle.path), str(other.path), "--data", str(SCAN), "--json"]
    outcome = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert outcome.returncode == 1, outcome.stderr
    found = json.loads(outcome.stdout)
    assert found["images"] == {
        "passed": None, "image": None,
        "sentence": "not compared: comparing images needs scikit-image; pip install 'ptyonnx[compare]'",
    }  # fmt: skip
    assert found["activations"]["first"] == "encoder.0.conv.0"
    assert found["patches"]["difference"]["maximum"] > 1e-4
