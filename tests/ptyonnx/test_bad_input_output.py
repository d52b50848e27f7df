"""What cannot be written is refused, if possible before the work; what stood there stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_bundle
from refusal import contents, error_line, refused

from ptyonnx.cli import main
from ptyonnx.runs.run import Record, Run
from ptyonnx.settings import Settings
from ptyonnx_bundles import Bundle
from ptyonnx_runtime import reconstruct as engine

Output = pytest.CaptureFixture[str]
SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
EARLIER = b"earlier work"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a scan and a file of every kind of earlier work."""
    monkeypatch.chdir(tmp_path)
    with np.load(SAMPLE) as arrays:
        few = {key: array[:30] if len(array) == 516 else array for key, array in arrays.items()}
    np.savez(tmp_path / "scan.npz", **few)
    for name in ("result.h5", "result.npz", "result.png", "simulated.npz", "bundle.onnx", "file"):
        (tmp_path / name).write_bytes(EARLIER)
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "device.h5").symlink_to("/dev/full")
    return tmp_path


def run_of(bundle: Bundle, folder: Path) -> Path:
    """A run that could be exported, if there were weights."""
    manifest = bundle.manifest
    record = Record(
        backend="pytorch",
        producer=manifest.producer,
        recipe=manifest.recipe,
        physics=manifest.physics,
        training_data=manifest.training_data,
    )
    return Run(folder / "run", record, Settings()).write().directory


RECONSTRUCT = ("reconstruct", "{bundle}", "--data", "scan.npz")
SIMULATE = ("simulate", "--object", "scan.npz", "--probe", "scan.npz")
TRAIN = ("train", "--backend", "tf", "--data", "scan.npz")
BEFOREHAND = {
    "unknown suffix": ((*RECONSTRUCT, "-o", "result.txt"), "found '.txt', expected .h5"),
    "no suffix": ((*RECONSTRUCT, "-o", "result"), "found '', expected .h5"),
    "a file as folder": ((*RECONSTRUCT, "-o", "file/result.h5"), "file/result.h5: cannot be written (Not a directory)"),
    "a file as folder above": ((*RECONSTRUCT, "-o", "file/a/b/r.h5"), "file/a/b/r.h5: cannot be written (Not a dir"),
    "a folder as file": ((*RECONSTRUCT, "-o", "folder.h5"), "folder.h5: a folder, expected a file; "),
    "a device": ((*RECONSTRUCT, "-o", "device.h5"), "device.h5: cannot be written (not a regular file)"),
    "long name": ((*RECONSTRUCT, "-o", f"{'x' * 300}.h5"), "cannot be written (File name too long)"),
    "unknown picture": ((*RECONSTRUCT, "-o", "r.h5", "--plot", "p.xyz"), "found '.xyz', expected "),
    "picture": (
        (*RECONSTRUCT, "-o", "r.h5", "--plot", "file/p.png"),
        "file/p.png: cannot be written (Not a directory)",
    ),
    "a file as directory": (
        (*RECONSTRUCT, "--output_dir", "file"),
        "file/reconstruction.h5: cannot be written (Not a d",
    ),
    "train": ((*TRAIN, "-o", "file"), "file: cannot be written (Not a directory)"),
    "train below a file": ((*TRAIN, "-o", "file/run"), "file/run: cannot be written (Not a directory)"),
    "simulate": ((*SIMULATE, "-o", "simulated.h5"), "found '.h5', expected .npz"),
    "simulate below a file": ((*SIMULATE, "-o", "file/s.npz"), "file/s.npz: cannot be written (Not a directory)"),
    "export": (("export", "run", "-o", "file/b.onnx"), "file/b.onnx: cannot be written (Not a directory)"),
}


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither network nor framework nor simulation may be asked."""

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("refused only after the work")

    monkeypatch.setattr(engine, "reconstruct", worked)
    monkeypatch.setattr("ptyonnx.simulation.simulate", worked)
    monkeypatch.setattr("ptyonnx.backends.load", worked)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("case", BEFOREHAND)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    capsys: Output, folder: Path, bundle: Bundle, case: str
) -> None:
    run_of(bundle, folder)
    words, message = BEFOREHAND[case]
    line = refused(capsys, folder, *(word.format(bundle=bundle.path) for word in words))
    assert message in line


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    "words", [(*RECONSTRUCT, "-o", "new/result.h5"), (*TRAIN, "-o", "new/run"), (*SIMULATE, "-o", "new/s.npz")]
)
def test_a_write_protected_folder_is_refused_before_the_work(
    capsys: Output, folder: Path, bundle: Bundle, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so the system call has to say no."""
    open_file = os.open

    def denied(path: object, flags: int, *rest: int, **options: int) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return open_file(path, flags, *rest, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        line = refused(capsys, folder, *(word.format(bundle=bundle.path) for word in words))
    assert line.startswith("new/")
    assert "cannot be written (Permission denied)" in line


# A full disk: the system lets no file grow beyond a size.

LIMITED = """
import resource, sys
size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
from ptyonnx.cli import main
sys.exit(main())
"""


def refused_for_want_of_space(folder: Path, size: int, *words: object) -> str:
    """As :func:`refused`, in a process of its own, whose temporary files lie in the folder, too."""
    before = contents(folder)
    command = [sys.executable, "-c", LIMITED, str(size), *map(str, words)]
    environment = {**os.environ, "TMPDIR": str(folder), "MPLCONFIGDIR": str(folder.parent)}
    outcome = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert outcome.returncode == 2, outcome.stderr
    assert outcome.stdout == ""
    line = error_line(outcome.stderr)
    assert line.startswith("ptyonnx: error: ")
    assert contents(folder) == before
    return line.removeprefix("ptyonnx: error: ")


@pytest.mark.parametrize("name", ["result.h5", "result.npz"])
def test_a_result_that_finds_no_space_leaves_the_earlier_one(folder: Path, bundle: Bundle, name: str) -> None:
    words = ("reconstruct", bundle.path, "--data", "scan.npz", "--phases", "network", "-o", name)
    line = refused_for_want_of_space(folder, 20_000, *words)
    assert line.startswith(f"{name}: cannot be written (File too large); an existing file is unchanged")


def test_a_reconstruction_that_finds_no_space_for_its_patches_says_where(folder: Path, bundle: Bundle) -> None:
    line = refused_for_want_of_space(
        folder, 20_000, "reconstruct", bundle.path, "--data", "scan.npz", "-o", "result.h5"
    )
    assert line.startswith(f"{folder}: ")
    assert "(File too large); make room there, set TMPDIR" in line


def test_a_compressed_scan_that_finds_no_space_says_where(folder: Path, bundle: Bundle) -> None:
    line = refused_for_want_of_space(folder, 20_000, "reconstruct", bundle.path, "--data", SAMPLE, "-o", "result.h5")
    assert line.startswith(
        f"{SAMPLE}: 'diffraction': cannot be decompressed into {folder}, expected 8454272 bytes of free"
    )


def test_a_simulation_that_finds_no_space_leaves_the_earlier_scan(folder: Path) -> None:
    words = ("simulate", "--object", "scan.npz", "--probe", "scan.npz", "--count", 20, "-o", "simulated.npz")
    line = refused_for_want_of_space(folder, 20_000, *words)
    assert line.startswith("simulated.npz: cannot be written (File too large); an existing file is unchanged")


def test_a_picture_that_finds_no_space_leaves_the_earlier_one(
    capsys: Output, folder: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is written before it; that is not undone."""
    fsync: Callable[[int], None] = os.fsync
    calls = []

    def full_at_the_second_file(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # result, its folder, picture
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_the_second_file)
    words = ("reconstruct", bundle.path, "--data", "scan.npz", "-o", "result.h5", "--plot", "result.png")
    assert main([str(word) for word in words]) == 2
    assert "ptyonnx: error: result.png: cannot be written (No space left on device)" in capsys.readouterr().err
    assert (folder / "result.png").read_bytes() == EARLIER
    assert (folder / "result.h5").read_bytes() != EARLIER
    assert not list(folder.glob(".ptyonnx-*"))


# What is made of a file does not replace it.


@pytest.mark.parametrize(
    "words",
    [
        (*RECONSTRUCT, "-o", "scan.npz"),
        (*RECONSTRUCT, "-o", "link.npz"),
        (*RECONSTRUCT, "-o", "./folder.h5/../scan.npz"),
        ("simulate", "--object", "scan.npz", "--probe", "probe.npz", "-o", "scan.npz"),
        ("simulate", "--object", "scan.npz", "--probe", "probe.npz", "-o", "probe.npz"),
        ("simulate", "--object", "scan.npz", "--probe", "scan.npz", "--positions", "probe.npz", "-o", "probe.npz"),
        ("diff", "{bundle}", "page.html", "--report", "page.html"),
        ("adopt", "probe.npz", "-o", "probe.npz"),
        ("adopt", "absent.onnx", "--probe", "probe.npz", "-o", "probe.npz"),
    ],
    ids=" ".join,
)
def test_an_output_never_replaces_an_input(
    capsys: Output, folder: Path, bundle: Bundle, words: tuple[str, ...]
) -> None:
    (folder / "probe.npz").write_bytes((folder / "scan.npz").read_bytes())
    (folder / "link.npz").symlink_to("scan.npz")
    (folder / "page.html").write_bytes(bundle.model)
    line = refused(capsys, folder, *(word.format(bundle=bundle.path) for word in words))
    assert line == f"{Path(words[-1])}: would replace a file that it is computed from; name another file"


def test_a_run_keeps_to_its_own_bundle_wherever_else_it_is_exported(folder: Path, bundle: Bundle) -> None:
    run = run_of(bundle, folder)
    Run.open(run).write(bundle=folder / "elsewhere.onnx")
    assert Run.open(run).bundle == folder / "elsewhere.onnx"
    (run / "bundle.onnx").write_bytes(bundle.model)
    assert Run.open(run).bundle == run / "bundle.onnx"
    moved = run.rename(folder / "moved")
    assert Run.open(moved).bundle == moved / "bundle.onnx"


@pytest.mark.parametrize("words", [("inspect", "run"), ("verify", "run"), ("diff", "run", "run")])
def test_a_run_stands_for_its_bundle(capsys: Output, folder: Path, bundle: Bundle, words: tuple[str, ...]) -> None:
    (run_of(bundle, folder) / "bundle.onnx").write_bytes(bundle.model)
    assert main(list(words)) == 0
    assert capsys.readouterr().err == ""
