import re
import shutil
from pathlib import Path

import pytest
from bundle_factory import make_bundle

from ptyonnx.comparison import Implementation, open_implementation
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import BundleError, SettingsError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("subject") / "bundle.onnx", Recipe(N=32, filters_scale=0.0625))


@pytest.mark.parametrize(
    "suffix, engine, provider",
    [
        ("", "onnxruntime", "auto"),
        ("@torch", "pytorch", "auto"),
        ("@PyTorch", "pytorch", "auto"),
        ("@tf", "tensorflow", "auto"),
        ("@tensorflow", "tensorflow", "auto"),
        ("@onnxruntime", "onnxruntime", "auto"),
        ("@cpu", "onnxruntime", "cpu"),
        ("@cuda", "onnxruntime", "cuda"),
    ],
)
def test_an_engine_or_a_provider_stands_behind_an_at(bundle: Bundle, suffix: str, engine: str, provider: str) -> None:
    found = open_implementation(f"{bundle.path}{suffix}")
    assert (found.engine, found.provider) == (engine, provider)
    assert found.bundle.manifest == bundle.manifest


def test_the_provider_that_is_given_is_for_what_names_none(bundle: Bundle) -> None:
    assert open_implementation(str(bundle.path), "cpu").provider == "cpu"
    assert open_implementation(f"{bundle.path}@torch", "cpu").provider == "cpu"
    assert open_implementation(f"{bundle.path}@cuda", "cpu").provider == "cuda"
    assert open_implementation(bundle, "cpu").provider == "cpu"


@pytest.mark.parametrize("name", ["me@home.onnx", "bundle@cpu", "odd@torch@cpu"])
def test_a_file_whose_name_holds_an_at_is_taken_as_it_is(bundle: Bundle, name: str, tmp_path: Path) -> None:
    assert bundle.path is not None
    shutil.copy(bundle.path, tmp_path / name)
    assert open_implementation(tmp_path / name).engine == "onnxruntime"
    assert open_implementation(f"{tmp_path / name}@torch").engine == "pytorch"


def test_an_at_in_a_folder_is_no_engine(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.path is not None
    (tmp_path / "a@b").mkdir()
    shutil.copy(bundle.path, tmp_path / "a@b" / "bundle.onnx")
    assert open_implementation(tmp_path / "a@b" / "bundle.onnx").engine == "onnxruntime"
    with pytest.raises(BundleError) as refusal:
        open_implementation(tmp_path / "a@b" / "absent.onnx")
    assert refusal.value.file == str(tmp_path / "a@b" / "absent.onnx")


def test_what_is_neither_engine_nor_provider_is_refused_with_those_that_are(bundle: Bundle) -> None:
    with pytest.raises(SettingsError) as refusal:
        open_implementation(f"{bundle.path}@jax")
    assert refusal.value.key == "@jax"
    assert {"ort", "torch", "cuda"} <= set(re.findall(r"\w+", str(refusal.value.expected)))


def test_a_file_that_is_absent_is_named_without_its_engine(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as refusal:
        open_implementation(f"{tmp_path / 'absent.onnx'}@torch")
    assert refusal.value.file == str(tmp_path / "absent.onnx")


def test_a_subject_says_what_computes_it(bundle: Bundle) -> None:
    assert Implementation(bundle).name == str(bundle.path)
    assert Implementation(bundle, "pytorch").name == f"{bundle.path} by pytorch"
    assert Implementation(bundle, provider="cpu").name == f"{bundle.path} by onnxruntime (cpu)"
