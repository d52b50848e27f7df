"""How a good bundle is turned into a bad one, and the list of all such cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx

from ptyonnx_bundles import FOREIGN, NATIVE, digests
from ptyonnx_bundles.errors import BundleError

SAMPLES = Path(__file__).parents[2] / "bundles" / "samples"
SAMPLE, FOREIGN_SAMPLE = SAMPLES / "protocol-2.onnx", SAMPLES / "protocol-3.onnx"
MANIFEST, PROBE, SELFTEST, DIGEST = "ptyonnx.manifest", "ptyonnx.probe", "ptyonnx.selftest", "ptyonnx.digest"

Damage = Callable[[bytes], bytes]
Cases = dict[str, tuple[Damage, str]]
CASES: Cases = {}
FOREIGN_CASES: Cases = {}


def case(expected: str) -> Callable[[Damage], Damage]:
    """Register a function that turns the bytes of a good bundle into a bad one."""

    def register(damage: Damage) -> Damage:
        CASES[damage.__name__] = (damage, expected)
        return damage

    return register


def edit(
    name: str, expected: str, change: Callable[[onnx.ModelProto], object], *, seal: bool = True, cases: Cases = CASES
) -> None:
    """Register a change of the model; sealed ones carry the digests of what they became."""

    def damage(good: bytes) -> bytes:
        model = onnx.load_model_from_string(good)
        change(model)
        return resealed(model) if seal else model.SerializeToString()

    cases[name] = (damage, expected)


def entry(model: onnx.ModelProto, key: str) -> onnx.StringStringEntryProto:
    return next(item for item in model.metadata_props if item.key == key)


def resealed(model: onnx.ModelProto) -> bytes:
    """State the digests that the changed model has, as somebody who means harm would."""
    try:
        text = entry(model, MANIFEST)
        manifest = json.loads(text.value)
        found = digests(model.SerializeToString(), FOREIGN if manifest["protocol"] >= 3 else NATIVE)
    except (BundleError, StopIteration):
        return model.SerializeToString()
    manifest["digests"] = found.model_dump()
    text.value = json.dumps(manifest)
    return model.SerializeToString()


def varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def block(number: int, content: bytes) -> bytes:
    """Write one length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(content)) + content
