"""Patches wait on disk: what comes back is what went in, memory does not keep it, and a folder that cannot be used is said."""

from __future__ import annotations

import gc
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np
import pytest

from ptyonnx_bundles.errors import OutputError
from ptyonnx_runtime.stitching import spool as spools
from ptyonnx_runtime.stitching.spool import TileSpool
from ptyonnx_runtime.stitching.stitching import Tiles

N = 32


def example(count: int) -> Tiles:
    generator = np.random.default_rng(0)
    return Tiles(
        generator.standard_normal((count, N + 1, 2 * (N + 1))).astype(np.float32),
        generator.integers(0, 100, (count, 2)),
        generator.uniform(0, 1, (count, 2)),
        generator.uniform(0, 1, count),
    )


def part(tiles: Tiles, which: slice) -> Tiles:
    return Tiles(*(array[which] for array in tiles))


def test_tiles_come_back_as_they_went_in_in_any_order() -> None:
    tiles = example(30)
    with TileSpool(N, 30) as spool:
        for first in reversed(range(0, 30, 7)):
            spool.put_tiles(first, part(tiles, slice(first, first + 7)))
        for first, count in ((21, 9), (0, 5), (5, 16)):
            for before, after in zip(
                part(tiles, slice(first, first + count)), spool.get_tiles(first, count), strict=True
            ):
                np.testing.assert_array_equal(before, after)


def test_tiles_from_the_spool_are_turned_like_others() -> None:
    tiles, factors = example(5), np.exp(1j * np.arange(5)).astype(np.complex64)
    with TileSpool(N, 5) as spool:
        spool.put_tiles(0, tiles)
        found = spool.get_tiles(0, 5).rotated(factors)
    np.testing.assert_array_equal(found.values, tiles.rotated(factors).values)


def test_the_spool_keeps_no_tile_in_memory() -> None:
    tiles = example(30)
    values = np.array(tiles.values)
    alive = weakref.ref(values)
    with TileSpool(N, 30) as spool:
        spool.put_tiles(0, tiles._replace(values=values))
        del values
        gc.collect()
        assert alive() is None


def test_a_folder_that_does_not_exist_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python would silently take another one, on a disk that the user did not choose."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(OutputError) as caught, TileSpool(N, 1):
        pass
    assert (caught.value.key, caught.value.file) == ("TMPDIR", str(tmp_path / "nowhere"))


def test_a_machine_without_any_folder_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(OutputError) as caught, TileSpool(N, 1):
        pass
    assert caught.value.key == "TMPDIR"


def test_room_is_looked_for_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage(tempfile.gettempdir())
    needed = 1000 * (8 * (N + 1) ** 2 + 40)
    monkeypatch.setattr(spools.shutil, "disk_usage", lambda _: real._replace(free=needed - 1))
    with pytest.raises(OutputError) as caught, TileSpool(N, 1000):
        pass
    assert caught.value.file == tempfile.gettempdir()
    assert "GB free" in str(caught.value.found)
    monkeypatch.setattr(spools.shutil, "disk_usage", lambda _: real._replace(free=needed))
    with TileSpool(N, 1000):
        pass


def test_a_disk_that_fills_meanwhile_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with TileSpool(N, 4) as spool:
        monkeypatch.setattr(spools, "write_at", full)
        with pytest.raises(OutputError, match="No space left on device") as caught:
            spool.put_tiles(0, example(4))
    assert caught.value.file == tempfile.gettempdir()


def test_where_much_goes_is_said_and_little_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with TileSpool(N, 10):
        assert not caplog.records
    monkeypatch.setattr(spools, "_LARGE_BYTES", 1000)
    with TileSpool(N, 10):
        assert tempfile.gettempdir() in caplog.text
