"""What reads each kind of file of `seeds`: the library's own doors, as the command line uses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ptyonnx.formats import load_result, load_scan
from ptyonnx.formats.objects import load_object
from ptyonnx.formats.positions import read_positions
from ptyonnx.formats.probes import load_probe
from ptyonnx.runs import checkpoints
from ptyonnx.runs.run import Run
from ptyonnx.settings.configuration import configure
from ptyonnx.simulation import object_from_images
from ptyonnx_bundles import read_bundle
from ptyonnx_converters.foreign.safe_load import load_untrusted
from ptyonnx_converters.from_ptychopinn import check_archive
from ptyonnx_converters.ptychopinn.keras_archive import read_keras_archive
from ptyonnx_converters.ptychopinn.torch_archive import read_torch_archive
from ptyonnx_converters.ptychopinn.zip_members import open_archive

__all__ = ["READERS"]


def _scan(path: Path) -> None:
    scan = load_scan(path)
    scan.diffraction[:]


def _run(name: str) -> Callable[[Path], None]:
    """Read a run of which one file is replaced; the others lie beside it."""

    def read(path: Path) -> None:
        folder = path.parent / "run"
        target = folder / name
        good = target.read_bytes()
        try:
            target.write_bytes(path.read_bytes())
            run = Run.open(folder)
            run.metrics("best")
            run.metrics("last")
        finally:
            target.write_bytes(good)

    return read


def _torch(path: Path) -> None:
    with open_archive(path) as members:
        read_torch_archive(members)


def _keras(path: Path) -> None:
    with open_archive(path) as members:
        read_keras_archive(members)


READERS: dict[str, Callable[[Path], object]] = {
    "scan": _scan,
    "probe.npz": load_probe,
    "probe.npy": load_probe,
    "probe.h5": load_probe,
    "object.npz": load_object,
    "object.h5": load_object,
    "positions.npz": read_positions,
    "positions.npy": read_positions,
    "positions.txt": read_positions,
    "result.h5": load_result,
    "result.npz": load_result,
    "image": object_from_images,
    "yaml": configure,
    "run": _run("run.json"),
    "settings": _run("settings.yaml"),
    "history": _run("history.csv"),
    "weights": checkpoints.load,
    "torch archive": _torch,
    "keras archive": _keras,
    "ptychopinn": check_archive,
    "bundle": read_bundle,
    "foreign ONNX": lambda path: load_untrusted(path.read_bytes(), str(path)),
}
