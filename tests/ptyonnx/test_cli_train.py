import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptyonnx import Run, open_bundle
from ptyonnx.formats import load_result

ROOT = Path(__file__).parents[2]
SCAN = "samples/siemens_star_64.npz"
COMMAND = (
    f"--config configs/gridsize2_minimal.yaml --train_data_file {SCAN} --test_data_file {SCAN} "
    "--n_groups 4 --n_subsample 16 --neighbor_count 7 --batch_size 4 --nepochs 1"
)


def _run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ptyonnx", *map(str, words)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert outcome.returncode == code, outcome.stderr
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_the_command_of_ptychopinns_users_ends_in_a_reconstruction(backend: str, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    words = ["train", "--backend", backend, *COMMAND.split(), "--output_dir", run]
    trained = _run(*words)
    said = dict(line.split(maxsplit=1) for line in trained.stdout.splitlines())
    assert (said["backend"], said["run"], said["bundle"]) == (backend, str(run), str(run / "bundle.onnx"))
    assert open_bundle(run / "bundle.onnx").manifest.producer.framework == backend
    assert Run.open(run).settings.gridsize == 2
    assert [line.split()[0] for line in trained.stderr.splitlines()] == ["note:", "1", "epoch"]  # and nothing else

    _run("reconstruct", "--model_path", run, "--test_data", SCAN, "--output_dir", out)
    image = load_result(out / "reconstruction.h5").object
    assert np.isfinite(image).any()

    assert "holds a run already" in _run(*words, code=2).stderr
    assert (run / "bundle.onnx").exists()
    before = (run / "bundle.onnx").read_bytes()
    assert "note: this training is complete already" in _run(*words, "--resume").stderr
    assert (run / "bundle.onnx").read_bytes() == before
    again = _run(*words, "--overwrite", "--no-export")
    assert f"none yet: ptyonnx export {run}" in again.stdout
    assert not (run / "bundle.onnx").exists()
    _run("export", run, "-o", tmp_path / "exported.onnx", "--licence", "CC0-1.0", "--notes", "a test")
    assert open_bundle(tmp_path / "exported.onnx").manifest.licence == "CC0-1.0"
