"""Kill every verb at random moments, give the command again, and compare with an undisturbed one.

For each verb: the command once undisturbed, timed; then, in a folder of its own, the same command killed
with SIGKILL, and the command again (`--resume` for a training that had begun). Of the killed ones, half
die at a moment drawn evenly from the whole duration, half within moments after a file of the result
appears or changes, where files could disagree. Compared are weights bit for bit, numbers of results,
everything else byte for byte but times of day; nothing may be left over in the folder or in TMPDIR.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ptyonnx import load_scan, open_bundle
from ptyonnx.formats import write_scan
from ptyonnx.runs.checkpoints import load
from ptyonnx_runtime.scan import Scan

SAMPLE = Path(__file__).parents[1] / "samples" / "siemens_star_64.npz"
PATTERNS, EPOCHS = 40, 3
SMALL = f"--epochs {EPOCHS} --set filters_scale=0.125 --set threads=1 --set region_size=4"
_CLOCKS = {"seconds"}  # of the history
_POLL_s = 0.002
LEFT = (".lock", ".ptyonnx-*", ".incoming", ".arriving", ".moving")
_LONGEST_s = 300.0


@dataclass(frozen=True)
class Verb:
    """A command line, and what stands before it.

    Attributes
    ----------
    words : str
        The first time.
    again : str
        After the kill.
    stands : str
        What is copied there beforehand from the material, none where empty.
    """

    words: str
    again: str
    stands: str = ""


def verbs() -> dict[str, Verb]:
    """All cases by name."""
    cases = {}
    for name in ("pytorch", "tensorflow"):
        train = f"train --backend {name} --data ../scan.npz -o out {SMALL}"
        cases[f"train {name}"] = Verb(train, f"{train} --resume")
        cases[f"train --overwrite {name}"] = Verb(f"{train} --overwrite", f"{train} --overwrite", "run_pytorch")
        cases[f"train --resume {name}"] = Verb(f"{train} --resume", f"{train} --resume", f"begun_{name}")
        imported = f"import ../bundle.onnx --backend {name} -o out --overwrite"
        cases[f"import {name}"] = Verb(imported, imported)
        cases[f"import --overwrite {name}"] = Verb(imported, imported, "run_tensorflow")
        export = f"export ../run_{name} -o out.onnx"
        cases[f"export {name}"] = Verb(export, export)
    for name, words in {
        "adopt": "adopt ../foreign.onnx --system ptychovit --zero-frequency centre --scale norm=10000,times=10000 "
        "--mean-photons unknown -o out.onnx",
        "reconstruct": "reconstruct ../bundle.onnx --data ../scan.npz -o out.h5 --plot out.png",
        "simulate": "simulate --object ../scan.npz --probe ../scan.npz -o out.npz",
        "diff": "diff ../bundle.onnx ../other.onnx --data ../scan.npz --report out.html",
    }.items():
        cases[name] = Verb(words, words)
    return cases


def run(words: str, folder: Path, temporary: Path) -> subprocess.Popen[str]:
    """Start ptyonnx in a folder, with a temporary directory of its own."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-m", "ptyonnx", *words.split()],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def must(words: str, folder: Path, temporary: Path, allowed: tuple[int, ...] = (0, 1)) -> float:
    """Run to the end; returns seconds."""
    started = time.monotonic()
    process = run(words, folder, temporary)
    _, said = process.communicate(timeout=_LONGEST_s)
    if process.returncode not in allowed or "Traceback" in said:
        raise RuntimeError(f"ptyonnx {words}: exit code {process.returncode}: {said[-2000:]}")
    return time.monotonic() - started


def after(seconds: float) -> Callable[[Path], bool]:
    """Whether so much time has passed."""
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() >= end


class Changes:
    """How often names, sizes or identities of files below a folder were seen to change."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self.number = 0

    def look(self, folder: Path) -> int:
        """Look again; returns the number of changes so far."""
        found = set()
        for place, _, names in os.walk(folder):  # passes over folders that go meanwhile
            for name in names:
                with contextlib.suppress(OSError):  # gone meanwhile
                    status = Path(place, name).lstat()
                    found.add((f"{place}/{name}", status.st_ino, status.st_size))
        self.number += found != self.seen
        self.seen = found
        return self.number


def after_change(number: int) -> Callable[[Path], bool]:
    """Whether so many changes were seen."""
    changes = Changes()
    return lambda folder: changes.look(folder) >= number


def kill_when(condition: Callable[[Path], bool], process: subprocess.Popen[str], folder: Path) -> bool:
    """Kill the process when it is time; whether it was still alive."""
    while process.poll() is None:
        if condition(folder):
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return process.returncode == -signal.SIGKILL
        time.sleep(_POLL_s)
    process.communicate()
    return False


def facts(folder: Path) -> dict[str, object]:
    """What a command left: every file by name, with what must be equal in it."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = content(path)
        else:
            found[str(path.relative_to(folder))] = "folder"
    return found


def content(path: Path) -> object:
    """What must be equal in a file; the rest are clocks, names of folders and the order of metadata."""
    if path.suffix == ".safetensors":
        saved = load(path)
        arrays = {**saved.snapshot.weights, "probe": saved.snapshot.probe, **saved.snapshot.state.arrays}
        return saved.epoch, {name: np.asarray(array).tobytes() for name, array in arrays.items()}
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            return [{k: v for k, v in row.items() if k not in _CLOCKS} for row in csv.DictReader(stream)]
    if path.suffix == ".onnx":
        bundle = open_bundle(path)
        return bundle.manifest.model_dump(mode="json", exclude={"created"}), bundle.probe.tobytes()
    if path.suffix == ".h5":
        return hdf5_arrays(path)
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return {name: archive[name].tobytes() for name in archive.files}
    if path.suffix == ".html":
        return len(path.read_bytes()) // 1000  # it says when it was made, and how long that took
    if path.name == "run.json":
        record = json.loads(path.read_text())
        record["bundle"] = record["bundle"] and Path(record["bundle"]).name
        return record
    return path.read_bytes()


def hdf5_arrays(path: Path) -> dict[str, bytes]:
    """All arrays of an HDF5 file."""
    arrays: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    return arrays


def material(folder: Path) -> None:
    """What the verbs take: a small scan, runs of both frameworks, whole and begun, bundles, a foreign network."""
    scan = load_scan(SAMPLE)
    near = np.argsort(np.hypot(*(scan.positions_px - scan.positions_px.mean(axis=0)).T))[:PATTERNS]
    write_scan(folder / "scan.npz", Scan(scan.diffraction[near], scan.positions_px[near], scan.probe, scan.object))
    temporary = folder / "tmp"
    temporary.mkdir()
    for name in ("pytorch", "tensorflow"):
        train = f"train --backend {name} --data scan.npz {SMALL}"
        must(f"{train} -o run_{name}", folder, temporary)
        process = run(f"{train} -o begun_{name} --no-export", folder, temporary)
        while not (folder / f"begun_{name}/history.csv").exists():
            time.sleep(_POLL_s)
        process.send_signal(signal.SIGINT)
        process.communicate()
    shutil.copy(folder / "run_pytorch/bundle.onnx", folder / "bundle.onnx")
    shutil.copy(folder / "run_tensorflow/bundle.onnx", folder / "other.onnx")
    must("export bundle.onnx --profile ptychovit --batch 4 -o foreign.onnx", folder, temporary)


def prepare(root: Path, name: str, verb: Verb) -> tuple[Path, Path]:
    """A folder for a command and one for its temporary files."""
    folder, temporary = root / name, root / f"{name}.tmp"
    for each in (folder, temporary):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    if verb.stands:
        shutil.copytree(root / verb.stands, folder / "out")
    return folder, temporary


def undisturbed(root: Path, verb: Verb) -> tuple[float, int, dict[str, object]]:
    """Seconds, changes of files, and what is left."""
    folder, temporary = prepare(root, "whole", verb)
    seconds = must(verb.words, folder, temporary)
    expected = facts(folder)
    folder, temporary = prepare(root, "counted", verb)
    process, changes = run(verb.words, folder, temporary), Changes()
    while process.poll() is None:
        changes.look(folder)
        time.sleep(_POLL_s)
    process.communicate()
    return seconds, changes.number, expected


def trial(root: Path, verb: Verb, condition: Callable[[Path], bool], expected: dict[str, object]) -> str:
    """Kill and repeat once; what is wrong, or nothing."""
    folder, temporary = prepare(root, "killed", verb)
    process = run(verb.words, folder, temporary)
    killed = kill_when(condition, process, folder)
    begun = (
        (folder / "out/run.json").exists() or (folder / "out/.arriving").exists() or (folder / "out/.moving").exists()
    )
    try:
        must(verb.again if begun else verb.words, folder, temporary)
    except RuntimeError as error:
        return str(error)
    found = facts(folder)
    left = [*temporary.iterdir(), *(path for name in LEFT for path in root.glob(f"*/{name}"))]
    if left:
        return f"left behind: {left}"
    if found.keys() != expected.keys():
        return f"files differ: {sorted(found.keys() ^ expected.keys())}"
    different = [name for name in found if found[name] != expected[name]]
    return f"content differs: {different}" if different else ("" if killed else "-")


def main() -> None:
    """Take turns through the verbs until the number of kills is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="*", metavar="TEXT", help="only those whose names contain one of these")
    parser.add_argument("--folder", type=Path, help="where the material is kept, to go on from there")
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    root = options.folder or Path(tempfile.mkdtemp(prefix="kill-"))
    root.mkdir(exist_ok=True)
    if not (root / "foreign.onnx").exists():
        material(root)
    cases = {
        name: verb for name, verb in verbs().items() if not options.verbs or any(text in name for text in options.verbs)
    }
    known = {name: undisturbed(root, verb) for name, verb in cases.items()}
    right = kills = 0
    while kills < options.kills:
        for name, verb in cases.items():
            if kills == options.kills:
                break
            seconds, changes, expected = known[name]
            evenly = bool(generator.integers(2))
            number = int(generator.integers(1, changes + 1))
            condition = after(float(generator.uniform(0, seconds))) if evenly else after_change(number)
            problem = trial(root, verb, condition, expected)
            if problem == "-":
                continue  # it had ended before
            kills += 1
            right += not problem
            moment = "evenly" if evenly else f"change {number} of {changes}"
            print(f"{kills:4d}  {name:28s} {moment:20s} {problem or 'right'}", flush=True)
    print(f"{right} of {kills} right")
    if options.folder is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
