"""A PyTorch bundle of PtychoPINN with wrong weights, settings or pickles is refused in one line."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ptychopinn_bundles import (
    SETTINGS,
    SMALL,
    TORCH,
    Variant,
    refused,
    repack,
    saved,
    torch_bundle,
    torch_settings,
    torch_state,
)

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.ptychopinn.torch_archive import read_torch_archive
from ptyonnx_converters.ptychopinn.zip_members import open_archive


@pytest.fixture(scope="module")
def torch_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_bundle(tmp_path_factory.mktemp("torch"), SMALL).path


def with_state(torch_path: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    _, state = torch_state(SMALL)
    change(state)
    return repack(torch_path, folder / "state.zip", {TORCH: saved(state)})


ENCODER = "model.autoencoder.encoder.blocks.1.conv1.weight"


def spoil(name: str, make: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state[name] = make(state[name])

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda state: [state.pop(name) for name in list(state) if "encoder.blocks.2." in name],
            "found 2 levels, expected 3, 4 or 5",
        ),
        (lambda state: state.update({ENCODER.replace(".1.", f".{'9' * 5000}."): state[ENCODER]}), "a weight that PtychoPINN's"),
        (lambda state: state.update({ENCODER.replace(".1.", ".9."): state[ENCODER]}), "found 10 levels"),
        (lambda state: state.clear(), "found 0 levels"),
        (lambda state: state.update(extra=state[ENCODER]), "'extra': "),
        (lambda state: state.update(log_scale_delta=state[ENCODER]), "'log_scale_delta': "),
        (spoil(ENCODER, lambda tensor: tensor[:, :-1]), f"'{ENCODER}': "),
        (spoil(ENCODER, lambda tensor: tensor[..., :1]), "expected float32 (?, 8, 3, 3)"),
        (spoil(ENCODER, lambda tensor: tensor.double()), "found float64"),
        (spoil(ENCODER, lambda tensor: tensor.half()), "found float16"),
        (spoil(ENCODER, lambda tensor: tensor * float("nan")), f"'{ENCODER}': "),
        (spoil(ENCODER, lambda tensor: tensor * float("inf")), f"'{ENCODER}': "),
        (spoil(ENCODER, lambda _: "a word"), "not a state dict"),
        (spoil("model.autoencoder.decoder_amp.amp.conv1.weight", lambda t: t[:, :-1]), "'model.autoencoder.decoder_amp.amp.conv1.weight': "),
        (spoil("model.autoencoder.decoder_amp.amp.conv_up_block.conv1.weight", lambda t: t[:, :0]), "'model.autoencoder.decoder_amp.amp.conv_up_block.conv1.weight': "),
        (
            spoil("model.autoencoder.encoder.blocks.0.conv1.weight", lambda t: t.repeat(1, 2, 1, 1)),
            "expected 2 channels, as the input",
        ),
    ],
)  # fmt: skip
def test_a_state_dict_that_is_not_the_networks(
    change: Callable[[dict[str, Any]], object], words: str, torch_path: Path, tmp_path: Path
) -> None:
    assert words in refused(with_state(torch_path, tmp_path, change))


def test_a_weight_that_is_missing_is_named(torch_path: Path, tmp_path: Path) -> None:
    """Each weight by its own name, although its neighbours no longer fit either."""
    _, state = torch_state(Variant(scale=0.25, batch_norm=True, bottleneck_cbam=True))
    needed = [name for name in state if "forward_model" not in name and "num_batches" not in name]
    assert len(needed) > 100
    for name in needed:
        rest = {other: tensor for other, tensor in state.items() if other != name}
        line = refused(repack(torch_path, tmp_path / "state.zip", {TORCH: saved(rest)}))
        assert f"'{name}': " in line


def test_one_patch_for_four_patterns_at_an_unknown_position(torch_path: Path, tmp_path: Path) -> None:
    """PtychoPINN's PyTorch network takes four patterns only to give four patches."""
    path = with_state(torch_path, tmp_path, spoil(ENCODER.replace(".1.", ".0."), lambda t: t.repeat(1, 4, 1, 1)))
    line = refused(path)
    assert "found heads of 1 channel for 4 patterns, expected 4 channels, or 1 pattern" in line


def test_heads_of_a_version_that_split_channels_in_another_way(torch_path: Path, tmp_path: Path) -> None:
    _, state = torch_state(SMALL)
    for head in ("amp.amp", "phase.phase"):
        name = f"model.autoencoder.decoder_{head}"
        state[f"{name}.conv1.weight"] = state[f"{name}.conv1.weight"][:, :-1]
        state[f"{name}.conv_up_block.conv1.weight"] = state[f"{name}.conv_up_block.conv1.weight"].repeat(1, 2, 1, 1)
    path = repack(torch_path, tmp_path / "old.zip", {TORCH: saved(state)})
    assert "conv_up_block.conv1.weight': " in refused(path)


@pytest.mark.parametrize(
    "section, key, value, words",
    [
        ("model_config", "architecture", "fno", "found fno, expected cnn"),
        ("model_config", "cnn_output_mode", "real_imag", "found real_imag, expected amp_phase"),
        ("model_config", "use_shared_decoder", True, "'use_shared_decoder'"),
        ("model_config", "amp_activation", "softplus", "found softplus"),
        ("model_config", "amp_activation", 3, "'amp_activation': "),
        ("model_config", "probe_big", 1, "'probe_big': "),
        ("data_config", "N", 128, "'N': "),
        ("data_config", "N", np.ones(3), "'N': "),
        ("model_config", "architecture", np.ones(3), "'architecture': "),
    ],
)  # fmt: skip
def test_settings_that_are_not_known(
    *, section: str, key: str, value: object, words: str, torch_path: Path, tmp_path: Path
) -> None:
    settings = torch_settings(SMALL)
    settings[section][key] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    assert words in refused(repack(torch_path, tmp_path / "other.zip", {SETTINGS: saved(settings)}))


@pytest.mark.parametrize("version", ["torch-artifact-v4", None, 3])
def test_settings_of_another_version(version: object, torch_path: Path, tmp_path: Path) -> None:
    settings = torch_settings(SMALL) | {"schema_version": version}
    line = refused(repack(torch_path, tmp_path / "other.zip", {SETTINGS: saved(settings)}))
    assert f"'{SETTINGS}': " in line
    assert "expected ci-entrypoints-v1" in line


class _Bomb:
    """Creates a folder if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("unpickled",))


def with_pickle(torch_path: Path, folder: Path, member: str, program: bytes) -> Path:
    inner = folder / "inner.zip"
    with zipfile.ZipFile(torch_path) as archive:
        inner.write_bytes(archive.read(member))
    changed = repack(inner, folder / "changed.zip", {"archive/data.pkl": program}).read_bytes()
    return repack(torch_path, folder / "evil.zip", {member: changed})


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("member", [TORCH, SETTINGS])
def test_a_pickle_that_would_run_something_runs_nothing(
    member: str, protocol: int, torch_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = pickle.dumps({"weights": _Bomb()}, protocol)
    line = refused(with_pickle(torch_path, tmp_path, member, program))
    assert "it was not run" in line
    assert not Path("unpickled").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02N",
        b"\x80\x02NN.",
        b"\x80\x02}q\x00h\x05.",
        b"\x80\x02(.",
        b"\x80\x02u.",
        b"\x80\x02}(K\x01K\x02u.",
        b"\x80\x02}(X\x01\x00\x00\x00au.",
        b"\x80\x02X\xff\xff\xff\x7fa.",
        b"\x80\x02ccollections\nOrderedDict\nK\x01R.",
        b"\x80\x02ccollections\nOrderedDict\n)R)R.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02K\x01K\x02b.",
        b"\x80\x02]K\x01a}b.",
        b"\x80\x02(X\x07\x00\x00\x00storageX\x01\x00\x00\x00aX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ.",
        b"no pickle at all",
    ],
)
def test_a_pickle_that_makes_no_sense(program: bytes, torch_path: Path, tmp_path: Path) -> None:
    line = refused(with_pickle(torch_path, tmp_path, TORCH, program))
    assert f"'{TORCH}': " in line


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _storage(kind: str, length: bytes) -> bytes:
    """The storage `0` of the archive, of 64 bytes."""
    return b"(" + _text("storage") + b"ctorch\n" + kind.encode() + b"\n" + _text("0") + _text("cpu") + length + b"tQ"


_NUMBERS = (
    b"K\x00",
    b"K\x01",
    b"K\x04",
    b"J\xff\xff\xff\xff",
    b"\x8a\x08" + struct.pack("<q", 2**62),
    b"G\x7f\xf0" + bytes(6),
)
_NAMES = (b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n")
_STORAGES = tuple(
    _storage(kind, length) for kind in ("FloatStorage", "BoolStorage", "ComplexFloatStorage") for length in (b"K\x08", b"K\x10", b"K\x40")
)  # fmt: skip
_TENSORS = tuple(_NAMES[1] + b"(" + storage + b"K\x00K\x04\x85K\x01\x85\x89}tR" for storage in _STORAGES)
_PIECES = st.one_of(
    st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes if opcode.arg is None]),
    st.sampled_from([*_NUMBERS, *_NAMES, *map(_text, ("storage", "collections", "OrderedDict", "torch FloatStorage", ""))]),
    st.sampled_from([*_STORAGES, *_TENSORS]),
    st.sampled_from([b"q\x00", b"h\x00", b"r" + bytes(4), b"j" + bytes(4), b"\x94", b"\x93"]),
    st.sampled_from([b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"Q", b"b", b"s", b"u", b"a", b"e", b"]", b"}", b")"]),
)  # fmt: skip


@given(st.lists(_PIECES, max_size=25))
@settings(max_examples=2000, deadline=None)
@example([b"(", _text("storage"), _text("a"), _text("0"), _text("cpu"), b"K\x01", b"t", b"Q"])  # no class but a text
@example([_NAMES[2], _TENSORS[1], b"R"])
@example([_NAMES[1], b"(", _STORAGES[0], b"K\x00", _TENSORS[1], _TENSORS[1], b"t", b"R"])
@example([_TENSORS[1], b"Q"])
def test_no_pickle_ends_in_a_trace(pieces: list[bytes]) -> None:
    """Every program gives a value or an error of one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + b"".join(pieces) + b".")
            archive.writestr("archive/data/0", bytes(64))
        with open_archive(path) as members:
            try:
                read_torch_archive(members)
            except ConversionError as error:
                assert "\n" not in str(error)  # noqa: PT017


def test_the_fuzzed_pieces_make_tensors(tmp_path: Path) -> None:
    """Without this, the test above might only see programs that are refused at once."""
    for index, tensor in enumerate(_TENSORS):
        with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + tensor + b".")
            archive.writestr("archive/data/0", bytes(64))
        fits = index in {1, 5, 6}  # 16 of 4 bytes, 64 of 1, 8 of 8
        with open_archive(tmp_path / "model.pth") as members:
            if fits:
                np.testing.assert_array_equal(read_torch_archive(members), np.zeros(4))
            else:
                with pytest.raises(ConversionError) as caught:
                    read_torch_archive(members)
                assert caught.value.file == str(members.file)


def tensor_program(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int, key: str = "0") -> bytes:
    """A state dict of one tensor, as torch writes it, with numbers of our choice."""

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)

    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu") + number(count) + b"tQ"
    sizes = b"(" + b"".join(map(number, shape)) + b"t" + b"(" + b"".join(map(number, strides)) + b"t"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + sizes + b"\x89}tR"
    return b"\x80\x02}" + _text("weight") + call + b"s."


@pytest.mark.parametrize(
    "shape, strides, offset, count",
    [
        ((1000, 1000), (1000, 1), 0, 16),  # larger than its storage
        ((4,), (1,), 14, 16),  # over the end
        ((4,), (8,), 0, 16),
        ((4,), (-1,), 8, 16),  # before the beginning
        ((4,), (1,), -1, 16),
        ((-4,), (1,), 0, 16),
        ((2**40,), (0,), 0, 16),  # one number, repeated
        ((4, 4), (4,), 0, 16),
        ((1,) * 40, (1,) * 40, 0, 16),
        ((4,), (1,), 0, 2**40),  # a storage that the file does not have
        ((4,), (1,), 0, -1),
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage(
    *, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int, torch_path: Path, tmp_path: Path
) -> None:
    line = refused(with_pickle(torch_path, tmp_path, TORCH, tensor_program(shape, strides, offset, count)))
    assert f"'{TORCH}': " in line


def test_a_storage_that_is_named_a_path(torch_path: Path, tmp_path: Path) -> None:
    program = tensor_program((4,), (1,), 0, 16, key="../../etc/passwd")
    assert "'archive/data/../../etc/passwd': " in refused(with_pickle(torch_path, tmp_path, TORCH, program))
