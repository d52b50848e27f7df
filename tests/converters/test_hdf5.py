"""The reader of HDF5 files reads data of the file; external, too large or damaged data are refused in time."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hostile.hdf5 import ELSEWHERE, bomb, changed_heap, deflate_bomb, product

from ptyonnx_bundles.errors import ConversionError, ObjectError, PtyonnxError
from ptyonnx_converters.hdf5 import Hdf5File

MOST = 2**33


def made(path: Path, change: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        change(file)
    return path


def read(path: Path, key: str = "x", most: int = MOST) -> np.ndarray:
    with Hdf5File(path, ObjectError) as file:
        return file.array(key, most)


def refused(path: Path, key: str = "x", most: int = MOST) -> ObjectError:
    with pytest.raises(ObjectError) as caught:
        read(path, key, most)
    assert caught.value.file == str(path)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", ">i4", "f4", ">f8", "c8", "c16"])
@pytest.mark.parametrize(
    "settings", [{}, {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}]
)
def test_numbers_arrive_as_h5py_reads_them(tmp_path: Path, dtype: str, settings: dict[str, object]) -> None:
    array = (np.random.default_rng(0).normal(size=(3, 4, 5)) * 50).astype(dtype)
    path = made(tmp_path / "a.h5", lambda file: file.create_dataset("group/x", data=array, **settings))
    found = read(path, "group/x")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_names_kinds_and_attributes(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["group/x"] = np.ones((2, 3))
        file["link"] = h5py.SoftLink("/group/./x")
        file["group"].attrs.update(text="µm", fixed=np.bytes_(b"m"), number=3, numbers=(1.5, 2), truth=True)

    with Hdf5File(made(tmp_path / "a.h5", change), ObjectError) as file:
        assert file.names() == ("group", "link")
        kinds = [file.kind(path) for path in ("", "group", "group/x", "link", "absent", "absent/x", "group/x/y")]
        assert kinds == ["group", "group", "dataset", "dataset", None, None, None]
        assert (file.shape("link"), file.array("link", 48).shape) == ((2, 3), (2, 3))
        assert (file.text("group", "text"), file.text("group", "fixed")) == ("µm", "m")
        assert file.text("group", "absent") is None
        assert (file.number("group", "number"), file.number("group", "truth")) == (3, 1)
        assert file.numbers("group", "numbers", 2) == (1.5, 2)
        for path, name in (("group", "absent"), ("group", "text"), ("group", "numbers")):
            with pytest.raises(ObjectError) as caught:
                file.number(path, name)
            assert caught.value.key == f"{path}/{name}"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_numbers_of_another_file_never_come_in(tmp_path: Path, name: str) -> None:
    other = made(tmp_path / "other.h5", lambda file: file.create_dataset("secret", data=np.ones((8, 8), np.complex64)))
    path = made(tmp_path / "a.h5", lambda file: ELSEWHERE[name](file, "x", other))
    assert refused(path).key == "x"


def test_what_the_caller_cannot_need_is_not_read(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda file: file.create_dataset("x", data=np.ones(1000)))
    assert read(path, most=8000).shape == (1000,)
    assert refused(path, most=7999).key == "x"


MEASURED = """
import resource, sys
from pathlib import Path
from ptyonnx_bundles.errors import ObjectError
from ptyonnx_converters.hdf5 import Hdf5File
try:
    with Hdf5File(Path(sys.argv[1]), ObjectError) as file:
        file.array("x", 2**33)
except ObjectError:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize(
    "change",
    [
        lambda file: bomb(file, "x", (1, 2**14, 2**14)),
        lambda file: bomb(file, "x", (1, 2**12, 2**12), written=True),
        lambda file: file.create_dataset("x", (2**14, 2**14), "c8"),
        lambda file: file.create_dataset("x", (4, 4), "f8", chunks=(2**13, 2**13), maxshape=(None, None)),
        lambda file: deflate_bomb(file, "x", 2**30),
    ],
    ids=["packed and never written", "packed zeros", "never written", "a vast chunk", "a chunk that goes on"],
)
def test_what_unpacks_to_many_times_the_file_is_not_unpacked(
    tmp_path: Path, change: Callable[[h5py.File], object]
) -> None:
    path = made(tmp_path / "a.h5", change)
    assert path.stat().st_size < 2 * 2**20
    found = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 400_000  # kB, of the process that reads


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.create_dataset("x", data=["a", "b"]),
        lambda file: file.create_dataset("x", data=np.zeros(3, [("a", "f4"), ("b", "i4")])),
        lambda file: file.create_dataset("x", (2,), h5py.ref_dtype),
        lambda file: file.create_dataset("x", (2,), h5py.vlen_dtype("f4")),
        lambda file: file.create_dataset("x", (2,), np.dtype(("f4", (3,)))),
        lambda file: file.create_dataset("x", data=h5py.Empty("f4")),
        lambda file: file.create_dataset("x", (2, 2), "i4", chunks=(2, 2), scaleoffset=4),
        lambda file: file.create_group("x"),
        lambda file: file.create_group("y"),
    ],
    ids=["texts", "records", "references", "ragged", "arrays of arrays", "empty", "a filter", "a group", "missing"],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path, change: Callable[[h5py.File], object]) -> None:
    assert refused(made(tmp_path / "a.h5", change)).key == "x"


@pytest.mark.parametrize("size", [0, 24, 2**64 - 16])
def test_a_damaged_text_over_which_the_library_hangs_is_refused_in_time(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(changed_heap(product(), size))
    started = time.monotonic()
    with pytest.raises(ObjectError), Hdf5File(path, ObjectError) as file:
        file.text("", "name")
    assert time.monotonic() - started < 30  # two seconds of computing, on a busy machine


def test_damaged_files_inside_of_archives_are_named_with_their_member(tmp_path: Path) -> None:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["x"] = np.arange(3)
    with Hdf5File(tmp_path / "a.zip", ConversionError, content=content.getvalue(), key="weights.h5") as file:
        np.testing.assert_array_equal(file.array("x", 100), np.arange(3))
    for damaged in (b"", b"text", content.getvalue()[:100], content.getvalue()[:-1500]):
        with pytest.raises(ConversionError) as caught:
            Hdf5File(tmp_path / "a.zip", ConversionError, content=damaged, key="weights.h5")
        assert (caught.value.file, caught.value.key) == (str(tmp_path / "a.zip"), "weights.h5")


@pytest.mark.parametrize("name", ["absent.h5", "folder", "/dev/zero"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(PtyonnxError) as caught:
        Hdf5File(tmp_path / name, ObjectError)
    assert caught.value.file == str(tmp_path / name)


def test_no_process_stays_behind(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda file: file.create_dataset("x", data=np.ones(3)))
    file = Hdf5File(path, ObjectError)
    with file:
        child = file._child
        assert child.poll() is None  # type: ignore[attr-defined]
    assert child.poll() is not None  # type: ignore[attr-defined]
