"""Numbers out of range, and options without effect, are refused in Python and on the command line alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusal import refused

from ptyonnx.results.picture_options import picture_options
from ptyonnx.simulation import add_modes, object_from_images, overlap_step, scan_positions, simulate
from ptyonnx_bundles.errors import SettingsError

N = 16
OBJECT = np.ones((24, 24), np.complex64)
PROBE = np.ones((1, N, N), np.complex64)
POSITIONS = np.array([[10.0, 10.0], [12.0, 13.0]])
NO_NUMBER = ("nan", "inf", "-inf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "object.npz", object=OBJECT)
    np.savez(tmp_path / "probe.npz", probe=PROBE)
    np.save(tmp_path / "points.npy", POSITIONS)
    Image.fromarray(np.arange(576, dtype=np.uint16).reshape(24, 24)).save(tmp_path / "grey.png")
    return tmp_path


def _command(folder: Path, obj: str, *words: object) -> list[object]:
    return ["simulate", "--object", folder / obj, "--probe", folder / "probe.npz", "-o", folder / "out.npz", *words]


@pytest.mark.parametrize("photons", ["-5", "0", "1e30", "1e-30", *NO_NUMBER])
@pytest.mark.parametrize("noise", [True, False])
def test_photons_out_of_range(capsys: pytest.CaptureFixture[str], folder: Path, photons: str, noise: bool) -> None:
    with pytest.raises(SettingsError) as caught:
        simulate(OBJECT, PROBE, POSITIONS, photons=float(photons), noise=noise)
    assert caught.value.key == "photons"
    words = _command(folder, "object.npz", f"--photons={photons}", "--noise" if noise else "--no-noise")
    assert refused(capsys, folder, *words).startswith("'--photons': ")


def test_the_most_photons_can_be_drawn_through_any_object() -> None:
    delta = np.zeros_like(PROBE)
    delta[0, N // 2, N // 2] = 1
    for largest in (0.5, 1.0, 3.0):
        most = 9e18 / max(1, largest) ** 2 * (1 - 1e-9)
        assert np.isfinite(simulate(largest * OBJECT, delta, POSITIONS, photons=most).diffraction[:]).all()
        with pytest.raises(SettingsError) as caught:
            simulate(largest * OBJECT, delta, POSITIONS, photons=1.1 * most)
        assert caught.value.key == "photons"


def test_a_probe_of_too_many_or_too_few_photons() -> None:
    for scale in (1e12, 1e-12):
        with pytest.raises(SettingsError) as caught:
            simulate(OBJECT, np.complex64(scale) * PROBE, POSITIONS)
        assert caught.value.key == "probe"


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_seeds_that_are_not_whole_numbers_from_0(seed: Any) -> None:
    for noise in (True, False):
        with pytest.raises(SettingsError) as caught:
            simulate(OBJECT, PROBE, POSITIONS, noise=noise, seed=seed)
        assert caught.value.key == "seed"
    with pytest.raises(SettingsError) as caught:
        scan_positions("random", (64, 64), N, count=3, seed=seed)
    assert caught.value.key == "seed"


@pytest.mark.parametrize(
    "call, key",
    [
        (lambda: scan_positions("raster", (64, 64), N), "step_px, count"),
        (lambda: scan_positions("raster", (64, 64), N, step_px=0), "step_px"),
        (lambda: scan_positions("raster", (64, 64), N, step_px=1e-9), "step_px"),
        (lambda: scan_positions("fermat", (64, 64), N, step_px=np.inf), "step_px"),
        (lambda: scan_positions("random", (64, 64), N, count=10**12), "count"),
        (lambda: scan_positions("random", (64, 64), N, count=2.5), "count"),  # type: ignore[arg-type]
        (lambda: overlap_step(PROBE, np.nan), "overlap"),
        (lambda: overlap_step(PROBE, 0.999999), "overlap"),
        (lambda: add_modes(PROBE, 0), "probe_modes"),
        (lambda: add_modes(PROBE, 2, np.nan), "second_mode_power"),
    ],
)
def test_other_numbers_out_of_range(call: Callable[[], object], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        call()
    assert caught.value.key == key
    assert not isinstance(caught.value.found, tuple)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "key, value",
    [
        ("phase_range_rad", np.inf), ("phase_range_rad", 1e39), ("phase_range_rad", np.nan),
        ("amplitude_range", (-1, 1)), ("amplitude_range", (np.nan, 1)), ("amplitude_range", (0, 0)),
        ("shape", (-5, 5)), ("shape", (2.5, 5)), ("shape", (10**6, 10**6)),
    ],
)  # fmt: skip
def test_ranges_of_images(folder: Path, key: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        object_from_images(folder / "grey.png", folder / "grey.png", **{key: value})
    assert caught.value.key == key


def test_an_amplitude_range_without_an_amplitude(folder: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        object_from_images(folder / "grey.png", amplitude_range=(0.9, 1))
    assert caught.value.key == "amplitude_range"


@pytest.mark.parametrize(
    "obj, words, key",
    [
        ("object.npz", ["--seed=-1"], "--seed"),
        ("object.npz", ["--step-px=inf"], "--step-px"),
        ("object.npz", ["--count=0"], "--count"),
        ("grey.png", ["--phase-range-rad=inf"], "--phase-range-rad"),
        ("grey.png", ["--object-size=100"], "--object-size"),
        ("grey.png", ["--object-size=2.5,3"], "--object-size"),
        ("grey.png", ["--object-size=-5,5"], "--object-size"),
        ("grey.png", ["--amplitude={}/grey.png", "--amplitude-range=-1,1"], "--amplitude-range"),
        # Options without effect:
        ("grey.png", ["--amplitude-range=2,1"], "--amplitude-range"),
        ("object.npz", ["--phase-range-rad=1", "--object-size=9,9"], "--phase-range-rad, --object-size"),
        ("object.npz", ["--second-mode-power=0.3"], "--second-mode-power"),
        ("object.npz", ["--second-mode-power=0.3", "--probe-modes=1"], "--second-mode-power"),
        ("object.npz", ["--positions={}/points.npy", "--count=3", "--overlap=0.5"], "--overlap, --count"),
        ("object.npz", ["--no-noise", "--seed=3"], "--seed"),
    ],
)
def test_the_command_line_names_the_flag(
    capsys: pytest.CaptureFixture[str], folder: Path, obj: str, words: list[str], key: str
) -> None:
    line = refused(capsys, folder, *_command(folder, obj, *(word.format(folder) for word in words)))
    assert line.startswith(f"'{key}': ")


@pytest.mark.parametrize("name", ["samples", "samples.npz"])
def test_a_folder_is_not_a_file_to_write(capsys: pytest.CaptureFixture[str], folder: Path, name: str) -> None:
    (folder / name).mkdir()
    words = ["simulate", "--object", folder / "object.npz", "--probe", folder / "probe.npz", "-o", folder / name]
    assert refused(capsys, folder, *words).startswith(f"{folder / name}: a folder, expected a file; ")


@pytest.mark.parametrize(
    "options, key",
    [
        ({"panels": ["phase"], "cmap": {"probe": "gray"}}, "cmap"),
        ({"panels": ["residual"], "cmap": "gray"}, "cmap"),
        ({"panels": ["phase"], "ranges": {"probe": (0, 1)}}, "ranges"),
        ({"ranges": {"probe": (0, 1)}}, "ranges"),
        ({"panels": ["amplitude"], "ramp": False}, "ramp"),
    ],
)
def test_options_of_panels_that_are_not_drawn(options: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        picture_options(**options)
    assert caught.value.key == key


def test_options_of_panels_that_are_drawn() -> None:
    assert picture_options(["phase"], "gray").cmaps["phase"] == "gray"
    assert picture_options(cmap={"probe": "gray"}, ranges={"probe": (0, 1)}, probe=True).ranges == {"probe": (0, 1)}


@pytest.mark.parametrize("pair, shown", [(["-0.5"], "phase=-0.5"), (("1", "0"), "phase=1,0"), (1, "phase=1")])
def test_a_range_is_shown_as_it_is_typed(pair: Any, shown: str) -> None:
    with pytest.raises(SettingsError) as caught:
        picture_options(ranges={"phase": pair})
    assert (caught.value.key, caught.value.found) == ("ranges", shown)
