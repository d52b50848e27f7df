"""A bad scan is refused in one line by whoever is given it, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle
from refusal import refused

from ptyonnx.cli import main
from ptyonnx.formats import load_scan
from ptyonnx.simulation import scan_positions, simulate
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import ScanError

Output = pytest.CaptureFixture[str]
Arrays = dict[str, Any]

COUNT, N = 20, 64
SAMPLE = Path(__file__).parents[2] / "samples" / "siemens_star_64.npz"
TOUCHED = "a pickle was executed"


@cache
def good() -> Arrays:
    """A small scan without fault."""
    with np.load(SAMPLE) as sample:
        obj, probe = sample["objectGuess"][:110, :120], sample["probeGuess"]
    scan = simulate(obj, probe[np.newaxis], scan_positions("fermat", obj.shape, N, count=COUNT))
    return {
        "diffraction": np.asarray(scan.diffraction),
        "xcoords": scan.positions_px[:, 1],
        "ycoords": scan.positions_px[:, 0],
        "probeGuess": probe,
        "objectGuess": obj,
    }


class Pickled:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return Path.touch, (Path(TOUCHED),)  # type: ignore[return-value]


def altered(key: str, change: Callable[[Any], Any]) -> Callable[[], Arrays]:
    return lambda: {**good(), key: change(good()[key])}


def without(key: str) -> Callable[[], Arrays]:
    return lambda: {name: array for name, array in good().items() if name != key}


def one_value(key: str, value: float) -> Callable[[], Arrays]:
    def change(array: Any) -> Any:
        changed = array.copy()
        changed[(3,) * array.ndim] = value
        return changed

    return altered(key, change)


def cropped(size: int) -> Callable[[], Arrays]:
    return lambda: {
        **good(),
        "diffraction": good()["diffraction"][:, :size, :size],
        "probeGuess": good()["probeGuess"][:size, :size],
    }


def standing_still(step: float) -> Callable[[], Arrays]:
    places = 60 + step * np.arange(COUNT)
    return lambda: {**good(), "xcoords": places, "ycoords": places}


def far_away() -> Arrays:
    """Without an object, that would say where outside is."""
    arrays = without("objectGuess")()
    return {**arrays, "xcoords": np.where(np.arange(COUNT) == 3, 1e9, arrays["xcoords"])}


# name -> arrays, key that is named, facts that are stated
BAD = {
    "no patterns": (without("diffraction"), "diffraction", "found xcoords, ycoords"),
    "no x": (without("xcoords"), "xcoords", "found diffraction"),
    "no y": (without("ycoords"), "ycoords", "found diffraction"),
    "rank 2": (altered("diffraction", lambda a: a[0]), "diffraction", r"found float32 \(64, 64\)"),
    "rank 4": (altered("diffraction", lambda a: a[:, np.newaxis]), "diffraction", r"found float32 \(20, 1, 64, 64\)"),
    "positions of rank 2": (altered("xcoords", lambda a: a[:, np.newaxis]), "xcoords", r"found float64 \(20, 1\)"),
    "complex patterns": (altered("diffraction", lambda a: a + 0j), "diffraction", "found complex64"),
    "text": (altered("diffraction", lambda a: a.astype(str)), "diffraction", "found <U"),
    "positions as text": (altered("ycoords", lambda a: a.astype(str)), "ycoords", "found <U"),
    "real probe": (altered("probeGuess", np.abs), "probeGuess", "found float32"),
    "oblong": (altered("diffraction", lambda a: a[:, :, :60]), "diffraction", r"found \(20, 64, 60\)"),
    "odd N": (cropped(63), "diffraction", "expected an even number"),
    "small N": (cropped(16), "diffraction", "N = 16"),
    "probe of another N": (altered("probeGuess", lambda a: a[:32, :32]), "probeGuess", r"found complex64 \(32, 32\)"),
    "NaN": (one_value("diffraction", np.nan), "diffraction", "found nan in pattern 3"),
    "infinity": (one_value("diffraction", np.inf), "diffraction", "found inf in pattern 3"),
    "negative": (one_value("diffraction", -1), "diffraction", "found -1.0 in pattern 3"),
    "NaN probe": (one_value("probeGuess", np.nan), "probeGuess", "found 1 non-finite"),
    "NaN position": (one_value("ycoords", np.nan), "ycoords", "found pattern 3"),
    "infinite position": (one_value("xcoords", -np.inf), "xcoords", "found pattern 3"),
    "intensities": (altered("diffraction", np.square), "diffraction", "--values intensity"),
    "counts": (
        altered("diffraction", lambda a: np.rint(a**2).astype(np.uint16)), "diffraction",
        "--values intensity",
    ),
    "positions outside": (altered("xcoords", lambda a: a + 400), "xcoords", r"20 positions.*found pattern 0 at .*expected .*\(110, 120\)"),
    "a position outside": (one_value("ycoords", -900), "ycoords", r"\b1 positions.*found pattern 3 at .*expected .*\(110, 120\)"),
    "a position far away": (far_away, "positions", r"found \d+ x 10000\d+, expected at most .* pixels"),
    "fewer positions": (altered("ycoords", lambda a: a[:-1]), "ycoords", "found 19 positions, expected 20"),
    "equal positions": (standing_still(0), "xcoords", "found extent 0, expected object pixels"),
    "positions in metres": (standing_still(1e-8), "xcoords", "found extent 1.9e-07, expected object pixels; .*metres"),
    "no light": (altered("diffraction", np.zeros_like), "diffraction", "; check which array"),
    "dark probe": (altered("probeGuess", np.zeros_like), "probeGuess", "; check which array"),
    "objects": (altered("diffraction", lambda _: np.array([Pickled()])), "diffraction", r"found \|O, expected an array of numbers"),
    "objects as positions": (altered("xcoords", lambda _: np.array([Pickled()])), "xcoords", r"found \|O, expected an array of numbers"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx").path or "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; results of earlier work stand in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.h5").write_bytes(b"earlier work")
    (tmp_path / "result.png").write_bytes(b"earlier picture")
    return tmp_path


def commands(bundle: Path) -> dict[str, tuple[object, ...]]:
    """Every verb that reads a scan, pytorch standing for both backends: no framework is loaded yet."""
    return {
        "train": ("train", "--backend", "pytorch", "--epochs", 1, "-o", "run", "--data"),
        "test data": ("train", "--backend", "tf", "--data", SAMPLE, "-o", "run", "--test-data"),
        "reconstruct": ("reconstruct", bundle, "-o", "result.h5", "--plot", "result.png", "--data"),
        "diff": ("diff", bundle, bundle, "--data"),
    }


COMMANDS = tuple(commands(Path()))


def test_the_scan_is_good_before_it_is_spoiled(folder: Path) -> None:
    np.savez(folder / "scan.npz", **good())
    assert len(load_scan("scan.npz")) == COUNT


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_array_is_refused(capsys: Output, folder: Path, bundle: Path, case: str, command: str) -> None:
    arrays, key, facts = BAD[case]
    np.savez(folder / "scan.npz", **arrays())
    line = refused(capsys, folder, *commands(bundle)[command], "scan.npz")
    assert line.startswith("scan.npz: '")
    assert key in line.split(":")[1]
    assert re.search(facts, line)
    assert not Path(TOUCHED).exists()


def npz_bytes(path: Path) -> bytes:
    np.savez(path, **good())
    content = path.read_bytes()
    path.unlink()
    return content


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "found another format, expected a PtychoPINN NPZ"),
    "text": (lambda _: b"x,y\n1,2\n", "found another format, expected a PtychoPINN NPZ"),
    "an HDF5 file": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(100), "found an HDF5 file"),
    "half of it": (lambda good: good[: len(good) // 2], "; the file is truncated"),
    "all but the end": (lambda good: good[:-1], "; the file is truncated"),
    "a bit is wrong": (
        lambda good: good[:5000] + bytes([good[5000] ^ 1]) + good[5001:],
        "'diffraction'.*; the file is damaged",
    ),
    "a zip of something else": (lambda _: b"PK\5\6" + bytes(18), "'diffraction'.*, found an empty file"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_refused(capsys: Output, folder: Path, bundle: Path, case: str, command: str) -> None:
    damage, facts = FILES[case]
    (folder / "scan.npz").write_bytes(damage(npz_bytes(folder / "good.npz")))
    line = refused(capsys, folder, *commands(bundle)[command], "scan.npz")
    assert line.startswith("scan.npz: ")
    assert re.search(facts, line)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_file_is_refused(capsys: Output, folder: Path, bundle: Path, command: str) -> None:
    for name, said in (("absent.npz", "cannot be read (No such file or directory)"), (".", "a folder, not a file; ")):
        line = refused(capsys, folder, *commands(bundle)[command], name)
        assert line.startswith(f"{name}: {said}")


@pytest.mark.parametrize("declared", ["amplitude", "intensity"])
def test_what_is_declared_is_believed(capsys: Output, folder: Path, bundle: Path, declared: str) -> None:
    """The refusal names an option; given it, the same file is read."""
    np.savez(folder / "scan.npz", **BAD["intensities"][0]())
    words = ("reconstruct", bundle, "--data", "scan.npz", "-o", "result.h5", "--values", declared)
    assert main([str(word) for word in words]) == 0
    assert capsys.readouterr().out


# What only the work itself can know.


@pytest.mark.parametrize(
    "case",
    [
        ("too few patterns for one group, found 3, expected at least 4", "diffraction", {"count": 3, "words": ("--gridsize", 2)}),
        ("no probe.*--probe", "probeGuess", {"key": "probeGuess"}),
        ("N = 40 is not a multiple of 16", "diffraction", {"size": 40}),
        ("all patterns are equal", "diffraction", {"count": 1}),
    ],
    ids=["fewer patterns than a group", "no probe", "N without a network", "one pattern"],
)  # fmt: skip
def test_a_scan_that_cannot_be_trained_on_is_refused(
    capsys: Output, folder: Path, case: tuple[str, str, dict[str, Any]]
) -> None:
    message, key, change = case
    arrays = cropped(change["size"])() if "size" in change else without(change.get("key", ""))()
    count = change.get("count", COUNT)
    np.savez(folder / "scan.npz", **{name: a[:count] if len(a) == COUNT else a for name, a in arrays.items()})
    words = ("train", "--backend", "torch", "--threads", 1, "--data", "scan.npz", "-o", "run", *change.get("words", ()))
    line = refused(capsys, folder, *words)
    assert re.match(f"scan.npz: '{key}': {message}", line)


def test_a_scan_of_another_N_than_the_bundle_is_refused(capsys: Output, folder: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other.onnx", Recipe(N=32, filters_scale=0.0625, depth=2)).path
    np.savez(folder / "scan.npz", **good())
    line = refused(capsys, folder, "reconstruct", other, "--data", "scan.npz", "-o", "result.h5")
    assert line.startswith("scan.npz: 'diffraction': the patterns do not fit the bundle other.onnx, found N = 64")


def test_fewer_patterns_than_the_bundle_groups_are_refused(capsys: Output, folder: Path, tmp_path: Path) -> None:
    grouped = make_bundle(tmp_path / "grouped.onnx", Recipe(N=64, filters_scale=0.0625, gridsize=2)).path
    np.savez(folder / "scan.npz", **{name: a[:3] if len(a) == COUNT else a for name, a in good().items()})
    line = refused(capsys, folder, "reconstruct", grouped, "--data", "scan.npz", "-o", "result.h5")
    assert line.startswith("scan.npz: 'diffraction': too few patterns for one group, found 3, expected at least 4")


def test_a_probe_that_does_not_fit_is_named_by_its_own_file(folder: Path) -> None:
    np.save(folder / "small.npy", np.ones((32, 32), np.complex64))
    with pytest.raises(ScanError) as caught:
        load_scan(SAMPLE, probe=folder / "small.npy")
    assert str(caught.value).startswith(f"{folder / 'small.npy'}: 'probe': ")


def test_positions_under_other_names_are_refused_with_both(capsys: Output, folder: Path) -> None:
    np.savez(folder / "places.npz", y=np.ones(3), x=np.ones(3))
    line = refused(
        capsys, folder, "simulate", "--object", SAMPLE, "--probe", SAMPLE, "--positions", "places.npz", "-o", "s.npz"
    )  # fmt: skip
    assert line == "places.npz: 'ycoords': missing, found y, x, expected ycoords and xcoords"
