"""Networks of PtychoPINN, written natively in each framework, and what is read from their bundles."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from float32_bounds import of_functions, of_model
from ptychopinn_bundles import SETTINGS, Expected, Variant, keras_bundle, repack, saved, torch_bundle, torch_settings

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign.network import ForeignNetwork
from ptyonnx_converters.from_ptychopinn import convert

pytestmark = pytest.mark.numerical

BOTH = [
    Variant(),
    Variant(gridsize=2),
    Variant(probe_big=False),
    Variant(gridsize=2, probe_big=False),
    Variant(object_big=False),
    Variant(scale=1),
    pytest.param(Variant(N=128, gridsize=2), marks=pytest.mark.slow),
    pytest.param(Variant(N=128, object_big=False, probe_big=False), marks=pytest.mark.slow),
    pytest.param(Variant(N=256), marks=pytest.mark.slow),
    pytest.param(Variant(N=256, gridsize=2, scale=1), marks=pytest.mark.slow),
]
TORCH = [
    Variant(cbam=False),
    Variant(gridsize=2, cbam=False),
    Variant(scale=1, bottleneck_cbam=True, amp_activation="silu"),
    Variant(batch_norm=True),
    Variant(batch_norm=True, probe_big=False, cbam=False),
]
KERAS = [
    Variant(gridsize=2, object_big=False),
    Variant(gridsize=2, object_big=False, probe_big=False),
    Variant(pad_object=False, gridsize=2),
    Variant(amp_activation="silu"),
    Variant(amp_activation="relu"),
    Variant(amp_activation="softplus"),
]


def run_model(model_bytes: bytes, patterns: np.ndarray) -> dict[str, np.ndarray]:
    """Amplitude, phase and object of a graph."""
    model = onnx.load_from_string(model_bytes)
    for name in ("amplitude", "phase"):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    model_bytes = model.SerializeToString()
    session = onnxruntime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])
    names = ["amplitude", "phase", "object"]
    return dict(zip(names, session.run(names, {"diffraction": patterns}), strict=True))


def run(network: ForeignNetwork, patterns: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Output of the graph, and its largest difference from another correct implementation: the errors of both add up."""
    found, allowed = of_model(lambda model: run_model(model, patterns), network.model)
    sizes = {name: float(np.abs(value).max()) for name, value in found.items()}
    return dict(found), {name: 2 * (allowed[name] + of_functions(size)) for name, size in sizes.items()}


def complex_object(array: np.ndarray) -> np.ndarray:
    result: np.ndarray = array.view(np.complex64)[..., 0]
    return result


def assert_interface(network: ForeignNetwork, variant: Variant) -> None:
    model = onnx.load_from_string(network.model)
    onnx.checker.check_model(model, full_check=True, check_custom_domain=True)
    assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (10, [("", 18)])
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    shape = ["batch", variant.channels, variant.N, variant.N]
    assert shapes == {"diffraction": shape, "object": [*shape, 2]}
    assert (network.N, network.gridsize) == (variant.N, variant.gridsize)
    assert network.mean_photons == (variant.N / 2) ** 2
    known = network.conventions
    assert (known["object_big"], known["probe_big"]) == (variant.object_big, variant.probe_big)
    assert known["known"] == ("everywhere" if variant.probe_big and not variant.object_big else "central half")
    assert known["amp_activation"] == variant.amp_activation


def assert_patches(
    result: tuple[dict[str, np.ndarray], dict[str, float]], expected: Expected, patches: np.ndarray, factor: float = 1
) -> None:
    found, allowed = result
    # A test of nothing would be passed by anything: these differ from pattern to pattern and pixel to pixel.
    assert expected.amplitude.std() > max(1e-2, 300 * allowed["amplitude"])
    assert expected.phase.std() > max(1e-2, 300 * allowed["phase"])
    np.testing.assert_allclose(found["amplitude"], factor * expected.amplitude, rtol=0, atol=allowed["amplitude"])
    np.testing.assert_allclose(found["phase"], expected.phase, rtol=0, atol=allowed["phase"])
    both_parts = np.sqrt(2) * allowed["object"]
    np.testing.assert_allclose(complex_object(found["object"]), factor * patches, rtol=0, atol=both_parts)


@pytest.mark.parametrize("variant", [*BOTH, *TORCH], ids=str)
def test_the_graph_of_a_pytorch_bundle_computes_what_the_native_network_computes(
    variant: Variant, tmp_path: Path
) -> None:
    expected = torch_bundle(tmp_path, variant)
    network = convert(expected.path)
    assert_interface(network, variant)
    assert network.system == "PtychoPINN (PyTorch)"
    assert network.conventions["cbam"] == (variant.cbam or variant.bottleneck_cbam)
    assert_patches(run(network, variant.patterns), expected, expected.object)


@pytest.mark.parametrize("variant", [*BOTH, *KERAS], ids=str)
def test_the_graph_of_a_tensorflow_bundle_computes_what_the_native_network_computes(
    variant: Variant, tmp_path: Path
) -> None:
    expected = keras_bundle(tmp_path, variant)
    network = convert(expected.path)
    assert_interface(network, variant)
    assert network.system == "PtychoPINN (TensorFlow)"
    group = variant.gridsize > 1 and not variant.object_big
    assert network.conventions["patch_position"] == ("pattern" if variant.object_big else "group")
    factor = 1 / 1.001 if variant.gridsize == 1 and variant.object_big else 1
    patches = np.repeat(expected.object, variant.channels, axis=1) if group else expected.object
    assert_patches(run(network, variant.patterns), expected, patches, factor)


def test_one_patch_per_group_is_what_the_saved_keras_model_gives_where_it_is_known(tmp_path: Path) -> None:
    variant = Variant()
    expected = keras_bundle(tmp_path, variant)
    assert expected.output is not None
    found, allowed = run(convert(expected.path), variant.patterns)
    centre = np.s_[:, 16:48, 16:48]
    patches = complex_object(found["object"])[:, 0]
    np.testing.assert_allclose(patches[centre], expected.output[centre], rtol=0, atol=np.sqrt(2) * allowed["object"])


def test_any_batch_gives_the_same_patches(tmp_path: Path) -> None:
    variant = Variant(gridsize=2)
    network = convert(torch_bundle(tmp_path, variant).path)
    patterns = variant.patterns
    whole, allowed = run(network, np.concatenate([patterns] * 3))
    alone = run_model(network.model, patterns[:1])
    np.testing.assert_allclose(whole["object"][4:5], alone["object"], rtol=0, atol=allowed["object"])


@pytest.mark.parametrize("make", [torch_bundle, keras_bundle])
def test_the_same_bundle_gives_the_same_bytes(make: Callable[[Path, Variant], Expected], tmp_path: Path) -> None:
    path = make(tmp_path, Variant()).path
    assert convert(path).model == convert(path).model


def test_a_network_whose_patches_were_merged_by_the_probe_is_known_everywhere(tmp_path: Path) -> None:
    variant, settings = Variant(), torch_settings(Variant())
    settings["model_config"]["training_patch_weighting"] = "probe"
    path = repack(torch_bundle(tmp_path, variant).path, tmp_path / "probe.zip", {SETTINGS: saved(settings)})
    assert convert(path).conventions["known"] == "everywhere"


def test_settings_that_a_bundle_does_not_say_are_asked_for_and_then_used(tmp_path: Path) -> None:
    variant = Variant(probe_big=False, amp_activation="silu")
    expected = torch_bundle(tmp_path, variant)
    old = repack(expected.path, tmp_path / "old.zip", {SETTINGS: None})
    for setting, declared in (("probe_big", {}), ("amp_activation", {"probe_big": False})):
        with pytest.raises(ConversionError) as caught:
            convert(old, **declared)
        assert caught.value.key == SETTINGS
        assert f"declare {setting}=" in str(caught.value.remedy)
    found = convert(old, probe_big=False, amp_activation="silu")
    assert found.model == convert(expected.path).model


@pytest.mark.parametrize("make", [torch_bundle, keras_bundle])
def test_a_setting_declared_otherwise_than_the_bundle_says_is_refused(
    make: Callable[[Path, Variant], Expected], tmp_path: Path
) -> None:
    path = make(tmp_path, Variant()).path
    assert convert(path, probe_big=True, amp_activation="sigmoid").model == convert(path).model
    with pytest.raises(ConversionError) as caught:
        convert(path, probe_big=False)
    assert (caught.value.key, caught.value.found, caught.value.expected) == ("probe_big", False, True)


@pytest.mark.parametrize("make", [torch_bundle, keras_bundle])
def test_no_framework_is_loaded_and_no_pickle_is_run(make: Callable[[Path, Variant], Expected], tmp_path: Path) -> None:
    """The bundles hold dill members that would end the process, and an audit hook sees every unpickling."""
    path = make(tmp_path, Variant()).path
    code = f"""
import sys
def hook(event, arguments):
    if event == "pickle.find_class" and armed:
        raise SystemExit("unpickled")
armed = False
from pathlib import Path
import onnx, h5py
from ptyonnx_converters import from_ptychopinn
import ptyonnx_converters.ptychopinn.keras_archive, ptyonnx_converters.ptychopinn.keras_network
import ptyonnx_converters.ptychopinn.torch_archive, ptyonnx_converters.ptychopinn.torch_network
sys.addaudithook(hook)
armed = True
from_ptychopinn.convert(Path({str(path)!r}))
armed = False
loaded = {{"torch", "tensorflow", "keras", "dill", "onnxruntime"}} & set(sys.modules)
print("loaded", sorted(loaded))
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (outcome.returncode, outcome.stdout) == (0, "loaded []\n"), outcome.stderr
