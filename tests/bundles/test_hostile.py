"""Every damaged or hostile file is refused with one line that says what is wrong and where."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hostile import CASES, FOREIGN_CASES, FOREIGN_SAMPLE, SAMPLE
from hostile.cases import Damage

from ptyonnx_bundles import read_bundle
from ptyonnx_bundles.errors import BundleError, DigestError, ProtocolError


@pytest.fixture(scope="module")
def good() -> bytes:
    return SAMPLE.read_bytes()


ALL = [pytest.param(SAMPLE, case, id=name) for name, case in CASES.items()]
ALL += [pytest.param(FOREIGN_SAMPLE, case, id=f"foreign_{name}") for name, case in FOREIGN_CASES.items()]


@pytest.mark.parametrize("sample, case", ALL)
def test_refused_with_one_line_naming_the_file(sample: Path, case: tuple[Damage, str], tmp_path: Path) -> None:
    damage, expected = case
    path = tmp_path / "bundle.onnx"
    path.write_bytes(damage(sample.read_bytes()))
    with pytest.raises(BundleError) as raised:
        read_bundle(path)
    message = str(raised.value)
    assert expected in message
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < 2000


@pytest.mark.parametrize("name", ["edited_weight", "edited_manifest", "edited_probe"])
def test_edits_are_digest_errors(name: str, good: bytes) -> None:
    with pytest.raises(DigestError):
        read_bundle(CASES[name][0](good))


@pytest.mark.parametrize("name", ["later_protocol", "no_protocol", "protocol_is_text"])
def test_other_protocols_are_protocol_errors(name: str, good: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_bundle(CASES[name][0](good))


def test_only_a_later_protocol_is_told_to_upgrade(good: bytes) -> None:
    for name, upgrades in (("later_protocol", True), ("no_protocol", False)):
        with pytest.raises(ProtocolError) as raised:
            read_bundle(CASES[name][0](good))
        assert raised.value.key == "protocol"
        assert ("pip install --upgrade ptyonnx" in str(raised.value.remedy)) == upgrades


@pytest.mark.parametrize("sample, case", ALL)
def test_refusing_needs_little_memory(sample: Path, case: tuple[Damage, str]) -> None:
    """The memory that a file can allocate is bounded by its own size, not by the sizes that it states."""
    damaged = case[0](sample.read_bytes())
    tracemalloc.start()
    with pytest.raises(BundleError):
        read_bundle(damaged)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * len(damaged) + 2**20


def test_the_good_bundle_from_which_they_are_made_is_good(good: bytes) -> None:
    assert read_bundle(good).manifest.protocol == 2
    assert read_bundle(FOREIGN_SAMPLE).manifest.protocol == 3
