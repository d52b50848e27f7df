"""The bundle digest changes with every edit of a bundle but not with its encoding."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_factory import canonical_model, example_weights, make_bundle
from foreign_factory import make_foreign_bundle
from hostile import SAMPLE

from ptyonnx.cli import main
from ptyonnx_bundles import Bundle, Recipe, bundle_digest, digests, read_bundle, write_bundle
from ptyonnx_bundles.digest import text_digest

SPECIFICATION = (Path(__file__).parents[2] / "bundles" / "README.md").read_text(encoding="utf-8")
RECIPE = Recipe(N=32, filters_scale=0.0625)
PUBLISHED = {
    1: "b2bf3d822495d8b20f4d8f223416b299827fda8c8d1817f130ffa420ecb6bcfa",
    2: "51fec427550dc31544bf50414ab6d4efbe3dd1c69da76ee6cc1fe9ff46284a78",
    3: "a1cf0a211ba1aed8e9444f1a04bf350342eeaad8e535642d011701711fd4dd17",
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle.onnx", RECIPE)


def test_the_worked_example() -> None:
    text = next(line for line in SPECIFICATION.splitlines() if line.startswith('{"weights":"'))
    found = re.search(r"SHA-256  ([0-9a-f]{64})", SPECIFICATION[SPECIFICATION.index(text) :])
    assert found
    assert hashlib.sha256(text.encode()).hexdigest() == found[1]
    parts = json.loads(text)
    assert bundle_digest(parts["weights"], parts["graph"], parts["metadata"]) == found[1]
    assert text_digest(["{}", "a", "b"]) == parts["metadata"]


@pytest.mark.parametrize("protocol", PUBLISHED)
def test_digests_of_the_samples_never_change(protocol: int) -> None:
    assert read_bundle(SAMPLE.with_name(f"protocol-{protocol}.onnx")).digest == PUBLISHED[protocol]


def manifest(**changes: Any) -> Callable[[Bundle], Bundle]:
    """Change the manifest; names with two underscores reach into its parts."""

    def edit(bundle: Bundle) -> Bundle:
        described = bundle.manifest.model_dump()
        for name, value in changes.items():
            *parts, last = name.split("__")
            place = described
            for part in parts:
                place = place[part]
            place[last] = value
        return replace(bundle, manifest=type(bundle.manifest).model_validate(described))

    return edit


def probe(change: Callable[[Any], Any]) -> Callable[[Bundle], Bundle]:
    return lambda bundle: replace(bundle, probe=change(bundle.probe))


def selftest(**changes: Callable[[Any], Any]) -> Callable[[Bundle], Bundle]:
    def edit(bundle: Bundle) -> Bundle:
        said = {name: change(getattr(bundle.selftest, name)) for name, change in changes.items()}
        return replace(bundle, selftest=replace(bundle.selftest, **said))

    return edit


def last_bit_of_a_weight(bundle: Bundle) -> Bundle:
    weights = dict(example_weights(RECIPE))
    weights["whitening.scale"] = np.nextafter(weights["whitening.scale"], np.float32(10))
    model = canonical_model(RECIPE, weights)
    return replace(manifest(digests=digests(model))(bundle), model=model)


EDITS = {
    "a conjugated probe": probe(np.conj),
    "a brighter probe": probe(lambda modes: modes * 10),
    "100 times the photons": manifest(physics__mean_photons=1e7),
    "a licence": manifest(licence="CC-BY-4.0"),
    "a note": manifest(notes="mine"),
    "another date": manifest(created="2020-01-01T00:00:00Z"),
    "a pixel size": manifest(physics__object_pixel_size_m=1e-8),
    "a wavelength": manifest(physics__wavelength_m=1e-10),
    "other training data": manifest(training_data__name="yours"),
    "the other framework": manifest(producer__framework="tensorflow"),
    "a version": manifest(producer__versions={"onnx": "0"}),
    "a setting": manifest(settings={"seed": 9}),
    "a better loss": manifest(metrics={"loss": -9.0}),
    "a laxer tolerance": selftest(tolerance=lambda tolerance: tolerance * 2),
    "another pattern": selftest(diffraction=lambda patterns: patterns * 2),
    "another answer": selftest(object=np.conj),
    "the last bit of a weight": last_bit_of_a_weight,
}


@pytest.mark.parametrize("edit", EDITS)
def test_whoever_edits_a_bundle_is_believed_but_has_another_digest(bundle: Bundle, tmp_path: Path, edit: str) -> None:
    """The digests inside the file are recomputed, which needs no key."""
    edited = EDITS[edit](bundle)
    write_bundle(tmp_path / "edited.onnx", edited.model, edited.manifest, edited.probe, edited.selftest)
    assert read_bundle(tmp_path / "edited.onnx").digest != bundle.digest


def test_another_operator_of_a_foreign_graph_is_another_digest(tmp_path: Path) -> None:
    bundle = make_foreign_bundle(tmp_path / "foreign.onnx")
    model = onnx.load_model_from_string(bundle.model)
    squashing = next(node for node in model.graph.node if node.op_type == "Tanh")
    squashing.op_type = "Softsign"
    content = model.SerializeToString()
    changed = replace(manifest(digests=digests(content))(bundle), model=content)
    write_bundle(tmp_path / "changed.onnx", changed.model, changed.manifest, changed.probe, changed.selftest)
    assert read_bundle(tmp_path / "changed.onnx").digest != bundle.digest


def test_the_same_parts_written_twice_have_one_digest(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again.onnx", bundle.model, bundle.manifest, bundle.probe, bundle.selftest)
    assert read_bundle(tmp_path / "again.onnx").digest == bundle.digest


def test_how_a_file_is_encoded_and_what_means_nothing_do_not_change_it(bundle: Bundle) -> None:
    model = onnx.load_model_from_string(bundle.model)
    entries = [(item.key, item.value) for item in model.metadata_props]
    del model.metadata_props[:]
    for key, value in [("theirs", "note"), *reversed(entries)]:
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.doc_string, model.graph.name = "somebody", "described", "renamed"
    initializers = list(model.graph.initializer)
    del model.graph.initializer[:]
    model.graph.initializer.extend(reversed(initializers))
    for node in model.graph.node:
        attributes = list(node.attribute)
        del node.attribute[:]
        node.attribute.extend(reversed(attributes))
    head = onnx.ModelProto(ir_version=model.ir_version, metadata_props=model.metadata_props)
    model.ClearField("metadata_props")
    model.ClearField("ir_version")
    other = model.SerializeToString() + head.SerializeToString()  # fields in another order
    assert other != bundle.model
    assert read_bundle(other).digest == bundle.digest


def test_inspect_shows_the_digest(capsys: pytest.CaptureFixture[str], bundle: Bundle) -> None:
    assert main(["inspect", str(bundle.path)]) == 0
    assert re.search(rf"^digest +{bundle.digest}$", capsys.readouterr().out, re.MULTILINE)
    assert main(["inspect", str(bundle.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == bundle.digest
