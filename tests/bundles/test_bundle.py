"""Bundles are written and read back, and the samples of every protocol stay readable."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundle_factory import canonical_model, example_probe, example_weights, make_bundle, run_model
from hostile import SAMPLE
from onnx.reference import ReferenceEvaluator

import ptyonnx_bundles
from ptyonnx_bundles import PROTOCOL, Bundle, Recipe, SelfTest, digests, read_bundle, write_bundle
from ptyonnx_bundles.errors import BundleError, DigestError, OutputError, PtyonnxError

BUNDLES = Path(__file__).parents[2] / "bundles"
SMALL = Recipe(N=64, gridsize=2, filters_scale=0.0625)
SAMPLES = sorted((BUNDLES / "samples").glob("protocol-*.onnx"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("made") / "made.onnx", SMALL, probe=example_probe(64, 3))


def test_there_is_a_sample_of_every_protocol() -> None:
    assert [path.name for path in SAMPLES] == [f"protocol-{number}.onnx" for number in range(1, PROTOCOL + 1)]
    assert all(path.stat().st_size < 300_000 for path in SAMPLES)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_read_and_computes_what_it_computed_at_home(path: Path) -> None:
    sample = read_bundle(path)
    found = run_model(sample.model, sample.selftest.diffraction)
    assert np.abs(found - sample.selftest.object).max() <= sample.selftest.tolerance
    assert np.ptp(np.angle(found)) > 0.1  # a test that a constant would not pass


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_an_ordinary_model_for_others(path: Path) -> None:
    model = onnx.load_model(path)
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    selftest = read_bundle(path).selftest
    model.opset_import[0].version += 1  # the same operators; onnx's reference has those in 8 bits from 19 on
    (found,) = ReferenceEvaluator(model).run(None, {"diffraction": selftest.diffraction})
    np.testing.assert_allclose(found.view(np.complex64)[..., 0], selftest.object, atol=selftest.tolerance)


def test_the_ten_lines_of_the_specification_work(monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", (BUNDLES / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(SAMPLE.parent)
    values: dict[str, object] = {}
    exec(code[1], values)  # noqa: S102 - our own specification
    assert np.shape(values["object_patches"]) == (2, 1, 32, 32)


def test_every_sentence_of_the_manifest_table_is_a_field_of_the_schema() -> None:
    """The specification and schema.json name the same keys."""
    table = (BUNDLES / "README.md").read_text(encoding="utf-8").split("\n## Manifest")[1].split("\n## ")[0]
    written = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", row)
    }
    described = ptyonnx_bundles.schema()

    def keys(properties: dict, prefix: str = "") -> set[str]:
        found = set()
        for name, value in properties.items():
            reference = value.get("$ref", "").removeprefix("#/$defs/")
            inner = described["$defs"].get(reference, {}).get("properties")
            if inner and reference != "Recipe":  # the recipe has a table of its own
                found |= keys(inner, f"{prefix}{name}.")
            else:
                found.add(prefix + name)
        return found

    assert written == keys(described["properties"])


def test_the_table_of_the_recipe_names_its_fields() -> None:
    section = (BUNDLES / "README.md").read_text(encoding="utf-8").split("### Recipes ")[1].split("### ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section.split("| attributes |")[0], re.MULTILINE)
    assert rows == list(Recipe.model_fields)


def test_what_was_written_is_what_is_read(bundle: Bundle) -> None:
    assert bundle.path is not None
    again = read_bundle(bundle.path)
    assert again.model == bundle.model == bundle.path.read_bytes()
    assert again.manifest == bundle.manifest
    assert again.probe.dtype == np.complex64
    np.testing.assert_array_equal(again.probe, example_probe(64, 3))
    np.testing.assert_array_equal(again.selftest.diffraction, bundle.selftest.diffraction)
    np.testing.assert_array_equal(again.selftest.object, bundle.selftest.object)
    assert again.selftest.tolerance == bundle.selftest.tolerance
    assert again.name == "made.onnx"
    assert "N=64, gridsize=2, 3 probe mode(s)" in repr(again)


def test_weights_come_back_bit_for_bit_by_name(bundle: Bundle) -> None:
    recipe = bundle.manifest.recipe
    expected = {**example_weights(recipe), **recipe.graph_constants()}
    assert bundle.weights.keys() == expected.keys()
    for name, array in expected.items():
        assert bundle.weights[name].tobytes() == array.tobytes()
        assert bundle.weights[name].shape == array.shape
        assert not bundle.weights[name].flags.writeable


def test_a_bundle_can_be_read_from_bytes(bundle: Bundle) -> None:
    again = read_bundle(bundle.model)
    assert again.path is None
    assert again.name == "bundle"


def test_probe_and_self_test_may_be_changed_by_whoever_reads_them(bundle: Bundle) -> None:
    """They are copies: frameworks warn about arrays that cannot be written to."""
    again = read_bundle(bundle.model)
    again.probe[:] *= 2
    again.selftest.diffraction[:] = 0
    assert read_bundle(bundle.model).probe[0, 32, 32] == bundle.probe[0, 32, 32]


def test_writing_a_bundle_again_replaces_what_it_says(bundle: Bundle, tmp_path: Path) -> None:
    manifest = bundle.manifest.model_copy(update={"notes": "second"})
    again = write_bundle(tmp_path / "again.onnx", bundle.model, manifest, bundle.probe, bundle.selftest)
    keys = [item.key for item in onnx.load_model_from_string(again.model).metadata_props]
    assert sorted(keys) == ["ptyonnx.digest", "ptyonnx.manifest", "ptyonnx.probe", "ptyonnx.selftest"]
    assert read_bundle(tmp_path / "again.onnx").manifest.notes == "second"
    assert digests(again.model) == bundle.manifest.digests


def test_metadata_of_other_people_stay(bundle: Bundle, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(bundle.model)
    model.metadata_props.add(key="lab", value="beamline 7")
    again = write_bundle(tmp_path / "b.onnx", model.SerializeToString(), bundle.manifest, bundle.probe, bundle.selftest)
    assert again.graph.metadata["lab"] == "beamline 7"


def test_two_bundles_of_the_same_weights_are_the_same_function(tmp_path: Path) -> None:
    one = make_bundle(tmp_path / "a.onnx", framework="pytorch")
    other = make_bundle(tmp_path / "b.onnx", framework="tensorflow", mean_photons=1e6)
    assert one.manifest.digests == other.manifest.digests
    assert one.manifest != other.manifest
    patterns = one.selftest.diffraction
    assert run_model(one.model, patterns).tobytes() == run_model(other.model, patterns).tobytes()


@pytest.mark.parametrize(
    "change, error",
    [
        ({"probe": np.zeros((1, 64, 64), np.complex64)}, BundleError),
        ({"probe": np.ones((3, 32, 32), np.complex64)}, BundleError),
        ({"model": b"not a model"}, BundleError),
        ({"model": b""}, BundleError),
        ({"model": canonical_model(Recipe(N=32), example_weights(Recipe(N=32)))}, BundleError),
        ({"model": canonical_model(SMALL, example_weights(SMALL, seed=7))}, DigestError),
    ],
    ids=["dark probe", "small probe", "text", "nothing", "another recipe", "other weights"],
)
def test_what_is_no_bundle_is_not_written(
    bundle: Bundle, change: dict[str, object], error: type[PtyonnxError], tmp_path: Path
) -> None:
    parts = {"model": bundle.model, "probe": bundle.probe, "selftest": bundle.selftest, **change}
    with pytest.raises(error):
        write_bundle(tmp_path / "new" / "bad.onnx", manifest=bundle.manifest, **parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 0.5, float("nan")])
def test_a_self_test_that_proves_nothing_is_not_written(bundle: Bundle, tolerance: float, tmp_path: Path) -> None:
    selftest = SelfTest(bundle.selftest.diffraction, bundle.selftest.object, tolerance)
    with pytest.raises(BundleError) as raised:
        write_bundle(tmp_path / "bad.onnx", bundle.model, bundle.manifest, bundle.probe, selftest)
    assert raised.value.key == "ptyonnx.selftest"


def test_an_unwritable_place_loses_nothing(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(OutputError):
        write_bundle(tmp_path / "file" / "b.onnx", bundle.model, bundle.manifest, bundle.probe, bundle.selftest)
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["missing.onnx", "folder", "pipe", "a\0b", "x" * 300])
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(BundleError) as raised:
        read_bundle(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**30 + 1)  # takes no room on the disk
    with pytest.raises(BundleError) as raised:
        read_bundle(path)
    assert raised.value.found == f"{2**30 + 1} bytes"


def test_reading_needs_no_onnx_package_and_no_runtime() -> None:
    """In a process of its own, since the tests themselves use them."""
    import subprocess
    import sys

    code = (
        "import sys; from ptyonnx_bundles import read_bundle; read_bundle(sys.argv[1]);"
        "print(sorted({'onnx', 'onnxruntime', 'google.protobuf', 'torch', 'tensorflow', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(SAMPLE)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_onnxruntime_reads_the_same_metadata(bundle: Bundle) -> None:
    session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == bundle.graph.metadata


def test_every_name_of_the_face_exists() -> None:
    assert all(hasattr(ptyonnx_bundles, name) for name in ptyonnx_bundles.__all__)
