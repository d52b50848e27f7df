"""A file that is not a PtychoPINN bundle, or is damaged or hostile, is refused in one line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from ptychopinn_bundles import (
    KERAS,
    SMALL,
    TORCH,
    refused,
    repack,
)

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters import from_ptychopinn
from ptyonnx_converters.from_ptychopinn import convert


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "not a complete ZIP archive"),
        (b"PK\x03\x04 and no more", "not a complete ZIP archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a complete ZIP archive"),
    ],
)
def test_what_is_no_archive(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "wts.h5.zip"
    path.write_bytes(content)
    assert words in refused(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read (No such file or directory)" in refused(tmp_path / "wts.h5.zip")
    assert "not a file" in refused(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_bundle(torch_path: Path, share: float, tmp_path: Path) -> None:
    path = tmp_path / "short.zip"
    content = torch_path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "fetch it again" in refused(path)


@pytest.mark.parametrize("member", [KERAS, TORCH])
def test_a_member_that_is_truncated_itself(member: str, keras_path: Path, torch_path: Path, tmp_path: Path) -> None:
    source = keras_path if member == KERAS else torch_path
    with zipfile.ZipFile(source) as archive:
        content = archive.read(member)
    path = repack(source, tmp_path / "short.zip", {member: content[: len(content) // 2]})
    assert f"'{member}': " in refused(path)


def test_bits_that_changed_on_the_way(torch_path: Path, tmp_path: Path) -> None:
    content = bytearray(torch_path.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "flipped.zip"
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_members_that_are_missing(keras_path: Path, torch_path: Path, tmp_path: Path) -> None:
    none = repack(torch_path, tmp_path / "none.zip", {TORCH: None})
    line = refused(none)
    assert "found manifest.dill" in line
    assert line.endswith(f"expected {KERAS} or {TORCH} in it; give the whole archive, wts.h5.zip")
    with zipfile.ZipFile(keras_path) as archive:
        content = archive.read(KERAS)
    both = repack(torch_path, tmp_path / "both.zip", {KERAS: content})
    assert f"found {KERAS}, {TORCH}, expected one of them" in refused(both)
    inner = tmp_path / "model.keras"
    inner.write_bytes(content)
    for name in ("config.json", "model.weights.h5", "metadata.json"):
        part = repack(inner, tmp_path / "part.keras", {name: None}).read_bytes()
        path = repack(keras_path, tmp_path / "part.zip", {KERAS: part})
        assert f"'{name}': " in refused(path)


@pytest.mark.parametrize("member", [KERAS, TORCH])
def test_the_network_out_of_its_archive(member: str, keras_path: Path, torch_path: Path, tmp_path: Path) -> None:
    name = Path(member).name
    with zipfile.ZipFile(keras_path if member == KERAS else torch_path) as archive:
        (tmp_path / name).write_bytes(archive.read(member))
    line = refused(tmp_path / name)
    assert f"as {member}; " in line
    assert "wts.h5.zip" in line


def test_arrays_are_no_network(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez_compressed(path, diffraction=np.ones((2, 8, 8), np.float32), probe=np.ones((8, 8), np.complex64))
    assert "found diffraction.npy, probe.npy; " in refused(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil", "x/\\../evil"])
def test_names_that_lead_out_of_the_archive(name: str, torch_path: Path, tmp_path: Path) -> None:
    path = repack(torch_path, tmp_path / "path.zip", {name: b"evil"})
    before = sorted(tmp_path.rglob("*"))
    assert "do not trust this file" in refused(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_lead_out_of_the_inner_archive(torch_path: Path, tmp_path: Path) -> None:
    inner = tmp_path / "model.pth"
    with zipfile.ZipFile(torch_path) as archive:
        inner.write_bytes(archive.read(TORCH))
    evil = repack(inner, tmp_path / "evil.pth", {"archive/../../evil": b"evil"}).read_bytes()
    assert "do not trust this file" in refused(repack(torch_path, tmp_path / "path.zip", {TORCH: evil}))


def test_two_members_of_one_name(torch_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    path.write_bytes(torch_path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(TORCH, b"another")
    assert f"'{TORCH}': " in refused(path)


def test_an_encrypted_member(torch_path: Path, tmp_path: Path) -> None:
    content = bytearray(torch_path.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(signature, place + 1)
    path = tmp_path / "secret.zip"
    path.write_bytes(content)
    assert "damaged, encrypted" in refused(path)


def test_too_many_members(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(10_001):
            archive.writestr(str(index), b"")
    assert "found 10001" in refused(path)


def test_random_damage_ends_in_one_line_or_in_the_same_network(
    torch_path: Path, keras_path: Path, tmp_path: Path
) -> None:
    """Damage with valid checksums of the archive, as an attacker would cause it."""
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.zip"
    for source, member in ((torch_path, TORCH), (keras_path, KERAS)):
        with zipfile.ZipFile(source) as archive:
            content = archive.read(member)
        for _ in range(60):
            damaged = bytearray(content)
            for place in random.integers(0, len(content), 3):
                damaged[place] = random.integers(256)
            try:
                network = convert(repack(source, path, {member: bytes(damaged)}))
            except ConversionError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert network.N == SMALL.N


@pytest.mark.slow
def test_random_damage_of_the_pickle_and_of_the_weights_ends_in_one_line(
    torch_path: Path, keras_path: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    inner = tmp_path / "inner.zip"
    for source, member, part in ((torch_path, TORCH, "archive/data.pkl"), (keras_path, KERAS, "model.weights.h5")):
        with zipfile.ZipFile(source) as archive:
            inner.write_bytes(archive.read(member))
        with zipfile.ZipFile(inner) as archive:
            content = archive.read(part)
        for _ in range(100):
            damaged = bytearray(content)
            damaged[random.integers(len(content))] = random.integers(256)
            changed = repack(inner, tmp_path / "changed.zip", {part: bytes(damaged)}).read_bytes()
            try:
                network = convert(repack(source, tmp_path / "damaged.zip", {member: changed}))
            except ConversionError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert network.N == SMALL.N


def test_onnx_is_asked_for_where_it_is_missing(torch_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptyonnx_bundles.errors import MissingDependencyError

    monkeypatch.setattr("ptyonnx_converters.from_ptychopinn.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError) as caught:
        from_ptychopinn.convert(torch_path)
    assert caught.value.remedy == "pip install 'ptyonnx[adopt]'"
