import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptyonnx import Run, open_bundle
from ptyonnx.cli import main
from ptyonnx.formats import load_result

ROOT = Path(__file__).parents[2]
SCAN = "samples/siemens_star_64.npz"
COMMAND = (
    f"--config configs/gridsize2_minimal.yaml --train_data_file {SCAN} --test_data_file {SCAN} "
    "--n_groups 4 --n_subsample 16 --neighbor_count 7 --batch_size 4 --nepochs 1"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["pytorch", "tensorflow"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str, str]:
    """The backend, its run, and what the command said to both streams."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    outcome = _run("train", "--backend", request.param, *COMMAND.split(), "--output_dir", run)
    return request.param, run, outcome.stdout, outcome.stderr


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ptyonnx", *map(str, words)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    return outcome


def test_the_command_of_ptychopinns_users_ends_in_a_reconstruction(
    trained: tuple[str, Path, str, str], tmp_path: Path
) -> None:
    backend, run, stdout, stderr = trained
    said = dict(line.split(maxsplit=1) for line in stdout.splitlines())
    assert (said["backend"], said["run"], said["bundle"]) == (backend, str(run), str(run / "bundle.onnx"))
    assert open_bundle(run / "bundle.onnx").manifest.producer.framework == backend
    assert Run.open(run).settings.gridsize == 2
    kept = [line for line in stderr.splitlines() if not line.endswith(" …")]  # a stage that takes long has a line
    assert [line.split()[0] for line in kept] == ["note:", "1", "epoch"]  # and nothing else

    _run("reconstruct", "--model_path", run, "--test_data", SCAN, "--output_dir", tmp_path / "out")
    image = load_result(tmp_path / "out" / "reconstruction.h5").object
    assert np.isfinite(image).any()


@pytest.mark.parametrize("trained", ["pytorch"], indirect=True)  # whatever the backend: PyTorch starts faster
def test_a_complete_run_is_kept_replaced_and_exported(
    trained: tuple[str, Path, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    backend, complete, *_ = trained
    run = tmp_path / "run"
    shutil.copytree(complete, run)
    words = ["train", "--backend", backend, *COMMAND.split(), "--output_dir", str(run)]
    before = (run / "bundle.onnx").read_bytes()
    assert main(words) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert "note: this training is complete already" in capsys.readouterr().err
    assert (run / "bundle.onnx").read_bytes() == before
    assert main([*words, "--overwrite", "--no-export"]) == 0
    assert f"none yet: ptyonnx export {run}" in capsys.readouterr().out
    assert not (run / "bundle.onnx").exists()
    exported = tmp_path / "exported.onnx"
    assert main(["export", str(run), "-o", str(exported), "--licence", "CC0-1.0", "--notes", "a test"]) == 0
    assert open_bundle(exported).manifest.licence == "CC0-1.0"
