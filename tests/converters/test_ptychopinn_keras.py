"""A TensorFlow bundle of PtychoPINN with a wrong configuration or wrong weights is refused in one line."""

from __future__ import annotations

import base64
import copy
import io
import json
import marshal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptychopinn_bundles import (
    KERAS,
    SMALL,
    changed_config,
    keras_bundle,
    refused,
    repack,
)

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.from_ptychopinn import convert
from ptyonnx_converters.ptychopinn.keras_archive import KerasArchive, read_keras_archive
from ptyonnx_converters.ptychopinn.keras_network import build_keras
from ptyonnx_converters.ptychopinn.zip_members import open_archive


@pytest.fixture(scope="module")
def keras_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keras_bundle(tmp_path_factory.mktemp("keras"), SMALL).path


def with_config(keras_path: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    with zipfile.ZipFile(keras_path) as archive:
        content = archive.read(KERAS)
    return repack(keras_path, folder / "config.zip", {KERAS: changed_config(content, change, folder / "model.keras")})


def layer_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(layer for layer in config["config"]["layers"] if layer["name"] == name)
    return found


def option(layer: str, key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        layer_of(config, layer)["config"][key] = value

    return change


def kind(layer: str, module: str, name: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        layer_of(config, layer).update(module=module, class_name=name)

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (kind("amp", "keras.layers", "Lambda"), "found keras.layers.Lambda"),
        (kind("amp", "keras.layers", "TorchModuleWrapper"), "found keras.layers.TorchModuleWrapper"),
        (kind("amp", "evil", "ActivationLayer"), "found evil.ActivationLayer"),
        (kind("conv2d", "ptycho.custom_layers", "Conv2D"), "found ptycho.custom_layers.Conv2D"),
        (option("conv2d", "strides", [2, 2]), "strides, found [2, 2], expected [1, 1]"),
        (option("conv2d", "padding", "valid"), "padding, found valid, expected 'same'"),
        (option("conv2d", "dilation_rate", [2, 2]), "dilation_rate, found [2, 2], expected [1, 1]"),
        (option("conv2d", "groups", True), "groups, found True, expected 1"),
        (option("conv2d", "activation", "gelu"), "found gelu"),
        (option("conv2d", "activation", {"class_name": "function"}), "activation, found {'class_name': 'function'}, expected 'relu'"),
        (option("conv2d", "filters", 3), "found float32 (3, 3, 1, 8), expected float32 (3, 3, 1, 3)"),
        (option("conv2d", "filters", "many"), "filters, found many"),
        (option("conv2d", "data_format", "channels_first"), "data_format, found channels_first"),
        (option("conv2d", "kernel_size", [2, 2]), "kernel_size, found [2, 2], expected [1, 1] or [3, 3]"),
        (option("max_pooling2d", "pool_size", [3, 3]), "pool_size, found [3, 3], expected [2, 2]"),
        (option("up_sampling2d", "interpolation", "bilinear"), "interpolation, found bilinear"),
        (option("amp", "activation_name", "exec"), "found exec"),
        (option("amp", "scale", 2.0), "scale, found 2.0, expected 1"),
        (option("phi", "scale", float("nan")), "found nan"),
        (option("obj", "use_polar", False), "use_polar, found False, expected True"),
        (lambda config: layer_of(config, "obj")["config"].pop("use_polar"), "found nothing, expected True"),
        (option("center_mask_layer", "N", 32), "N, found 32, expected 64"),
        (option("amp_padded", "padding", [[1, 1], [2, 2]]), "padding, found [[1, 1], [2, 2]]"),
        (option("amp_padded", "padding", [[8, 8], [8, 8]]), "found ((1, 48), (1, 64))"),
        (option("amp_padded", "padding", [[10**9, 0], [10**9, 0]]), "padding, found [[1000000000, 0], [1000000000, 0]]"),
        (option("trimmed_obj", "output_size", 32), "output_size, found 32, expected 64"),
        (option("input", "batch_shape", [None, 64, 32, 1]), "'input': an input that is neither diffraction nor positions, found [None, 64, 32, 1]"),
        (option("input", "batch_shape", [None, 10**9, 10**9, 1]), "N, found 64, expected 1000000000"),
        (lambda config: config.update(class_name="Sequential"), "not a functional Keras model, found Sequential"),
        (lambda config: config["config"].update(layers=[{}] * 2000), "not a functional Keras model"),
        (lambda config: config["config"].update(layers=[{}]), "a layer without name, class, options or inputs"),
        (lambda config: config["config"].update(output_layers=[["obj", 0, 0]]), "expected a merged object as output"),
        (lambda config: config["config"].update(output_layers=[["conv2d", 0, 0]]), "not a network of PtychoPINN"),
        (lambda config: config["config"].update(output_layers=[]), "output, found []"),
        (lambda config: config["config"]["layers"].remove(layer_of(config, "max_pooling2d")), "'max_pooling2d': "),
        (lambda config: config["config"]["layers"].append(config["config"]["layers"][3]), "two layers of one name"),
        (lambda config: layer_of(config, "conv2d").update(inbound_nodes=[]), "inputs, found 0, expected 1 images"),
        (lambda config: layer_of(config, "conv2d")["inbound_nodes"].append({}), "'conv2d': "),
        (
            lambda config: layer_of(config, "conv2d").update(inbound_nodes=layer_of(config, "conv2d_1")["inbound_nodes"]),
            "'config.json': ",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_the_networks(
    change: Callable[[dict[str, Any]], object], words: str, keras_path: Path, tmp_path: Path
) -> None:
    assert words in refused(with_config(keras_path, tmp_path, change))


def test_the_code_of_a_lambda_layer_is_not_run(
    keras_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither built nor called: the code writes a file, and no byte of it is unmarshalled."""
    trace = tmp_path / "executed"
    code = marshal.dumps(compile(f"__import__('pathlib').Path({str(trace)!r}).touch()", "lambda", "eval"))
    stored = {"code": base64.b64encode(code).decode("ascii"), "defaults": None, "closure": None}
    loads, unmarshalled = marshal.loads, list[bytes]()
    monkeypatch.setattr(
        marshal, "loads", lambda data, **options: (unmarshalled.append(bytes(data)), loads(data, **options))[1]
    )

    def change(config: dict[str, Any]) -> None:
        layer_of(config, "amp").update(module="keras.layers", class_name="Lambda")
        layer_of(config, "amp")["config"] = {"name": "amp", "function": {"class_name": "__lambda__", "config": stored}}

    assert "'amp': " in refused(with_config(keras_path, tmp_path, change))
    assert code not in unmarshalled
    assert not trace.exists()
    eval(loads(code))  # noqa: S307 - would have left this trace
    assert trace.exists()


def _places(part: object, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where values stand in a configuration, all the way down."""
    keys = part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    return [found for key in keys for found in [(*place, key), *_places(part[key], (*place, key))]]  # type: ignore[index]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4) | st.sampled_from(["relu", "Conv2D", "obj"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["class_name", "config", "step"]), inner),
    max_leaves=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(keras_path: Path) -> KerasArchive:
    with open_archive(keras_path) as members, members.inside(KERAS, 2**30) as inner:
        return read_keras_archive(inner)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_configuration_it_is_a_network_or_one_line(
    archive: KerasArchive, data: st.DataObject
) -> None:
    config = copy.deepcopy(archive.config)
    place = data.draw(st.sampled_from(_places(config)))
    part: Any = config
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = data.draw(_JSON)
    try:
        network = build_keras(archive._replace(config=config), Path("f"))
    except ConversionError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert network.N == SMALL.N


@pytest.mark.parametrize("step", [{}, [1], 2, True])
def test_channels_that_are_taken_in_steps(step: object, archive: KerasArchive) -> None:
    """Some of these values cannot be compared or hashed."""
    config = copy.deepcopy(archive.config)
    (bounds, *_) = [
        argument["config"]
        for layer in config["config"]["layers"]
        for node in layer["inbound_nodes"]
        for part in node["args"]
        for argument in (part if isinstance(part, list) else [])
        if isinstance(argument, dict) and argument.get("class_name") == "__slice__"
    ]
    bounds["step"] = step
    with pytest.raises(ConversionError) as caught:
        build_keras(archive._replace(config=config), Path("f"))
    assert str(caught.value.key).startswith("get_item")


def test_channels_that_are_taken_in_another_way(keras_path: Path, tmp_path: Path) -> None:
    def change(config: dict[str, Any], item: object) -> None:
        layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "GetItem")
        layer["inbound_nodes"][0]["args"][1] = item

    ellipsis = {"class_name": "__ellipsis__", "config": {}}
    for item, facts in (
        ([ellipsis, 3], ", 3],), expected [..., start:stop]"),
        ([{"class_name": "__slice__", "config": {}}, ellipsis], "found ([{'class_name': '__slice__'"),
        ([ellipsis, {"class_name": "__slice__", "config": {"step": -1}}], "found None:None:-1, expected start:stop"),
        ([ellipsis, {"class_name": "__slice__", "config": {"start": 1e9}}], "found 1000000000.0:None:None, expected"),
        ([ellipsis, {"class_name": "__slice__", "config": {"start": 10**9}}], "found 8 to 8 of 8"),
    ):
        line = refused(with_config(keras_path, tmp_path, lambda config, item=item: change(config, item)))
        assert "'get_item" in line
        assert facts in line


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe", b'{"class_name": "Functional"}'])
def test_a_configuration_that_is_no_configuration(text: bytes, keras_path: Path, tmp_path: Path) -> None:
    inner = tmp_path / "model.keras"
    with zipfile.ZipFile(keras_path) as archive:
        inner.write_bytes(archive.read(KERAS))
    changed = repack(inner, tmp_path / "changed.keras", {"config.json": text}).read_bytes()
    line = refused(repack(keras_path, tmp_path / "text.zip", {KERAS: changed}))
    assert "'config.json': " in line


@pytest.mark.parametrize("version", ["2.15.0", "4.0", 3, None])
def test_another_version_of_keras(version: object, keras_path: Path, tmp_path: Path) -> None:
    inner = tmp_path / "model.keras"
    with zipfile.ZipFile(keras_path) as archive:
        inner.write_bytes(archive.read(KERAS))
    metadata = json.dumps({"keras_version": version}).encode()
    changed = repack(inner, tmp_path / "changed.keras", {"metadata.json": metadata}).read_bytes()
    assert "another version of Keras" in refused(repack(keras_path, tmp_path / "old.zip", {KERAS: changed}))


def with_weights(keras_path: Path, folder: Path, change: Callable[[h5py.File], object]) -> Path:
    inner = folder / "model.keras"
    with zipfile.ZipFile(keras_path) as archive:
        inner.write_bytes(archive.read(KERAS))
    with zipfile.ZipFile(inner) as archive:
        buffer = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(buffer, "a") as weights:
        change(weights)
    changed = repack(inner, folder / "changed.keras", {"model.weights.h5": buffer.getvalue()}).read_bytes()
    return repack(keras_path, folder / "weights.zip", {KERAS: changed})


KERNEL = "layers/conv2d/vars/0"


def replaced(make: Callable[[h5py.Group, np.ndarray], object]) -> Callable[[h5py.File], None]:
    def change(weights: h5py.File) -> None:
        array = weights[KERNEL][()]
        del weights[KERNEL]
        make(weights["layers/conv2d/vars"], array)

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda weights: weights.pop("layers/conv2d"), "'conv2d.weight': "),
        (lambda weights: weights.pop("layers"), "'layers': a group"),
        (lambda weights: weights.pop(f"{KERNEL[:-1]}1"), f"'{KERNEL[:-1]}1': "),
        (lambda weights: weights.pop(KERNEL), f"'{KERNEL}': "),
        (lambda weights: weights.pop("layers/conv2d_1/vars/0"), "'layers/conv2d_1/vars/0': "),
        (lambda weights: weights.move(KERNEL, KERNEL[:-1] + "9" * 5000), f"'{KERNEL}': "),
        (replaced(lambda group, array: group.create_dataset("0", data=array[..., :-1])), "found float32 (3, 3, 1, 7), expected float32 (3, 3, 1, 8)"),
        (replaced(lambda group, array: group.create_dataset("0", data=array.astype(float))), "found float64"),
        (replaced(lambda group, array: group.create_dataset("0", data=array * np.nan)), "'conv2d.weight': NaN"),
        (replaced(lambda group, _: group.create_dataset("0", data="words")), "not an array of numbers"),
        (
            replaced(lambda group, _: group.create_dataset("0", (10**5, 10**5), "f4", chunks=(100, 100))),
            "too large",
        ),
        (replaced(lambda group, _: group.create_dataset("0", (10**5, 10**5), "f4")), "too large"),
        (
            replaced(lambda group, _: group.create_dataset("0", (36,), "f4", external=[("/etc/hostname", 0, 144)])),
            "found /etc/hostname",
        ),
        (
            replaced(lambda group, _: group.__setitem__("0", h5py.ExternalLink("/etc/hostname", "/x"))),
            "found /etc/hostname",
        ),
        (replaced(lambda group, _: group.__setitem__("0", h5py.SoftLink("/layers"))), "not an array"),
        (
            lambda weights: weights["layers"].create_group("dense/vars").create_dataset("0", data=np.ones(2, "f4")),
            "'layers/dense': weights that do not belong to a convolution, found 1 arrays",
        ),
        (lambda weights: weights["layers"].__setitem__("conv2d/again", weights["layers"]), "weights that"),
    ],
)  # fmt: skip
def test_weights_that_are_not_the_networks(
    change: Callable[[h5py.File], object], words: str, keras_path: Path, tmp_path: Path
) -> None:
    assert words in refused(with_weights(keras_path, tmp_path, change))


def test_a_virtual_dataset_is_not_followed(keras_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "secret.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones((3, 3, 1, 2), np.float32)

    def virtual(group: h5py.Group, array: np.ndarray) -> None:
        layout = h5py.VirtualLayout(array.shape, array.dtype)
        layout[:] = h5py.VirtualSource(str(other), "secret", array.shape)
        group.create_virtual_dataset("0", layout)

    assert "a virtual data set" in refused(with_weights(keras_path, tmp_path, replaced(virtual)))


def test_weights_of_older_keras_are_found_by_their_number(keras_path: Path, tmp_path: Path) -> None:
    """Before Keras wrote the layer's name beside its weights, only the order of the layers identified them."""

    def change(weights: h5py.File) -> None:
        for group in weights["layers"].values():
            group["vars"].attrs.clear()

    assert convert(with_weights(keras_path, tmp_path, change)).model == convert(keras_path).model
