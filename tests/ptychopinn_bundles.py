"""Bundles as PtychoPINN writes them, made of networks that are written here anew, natively in each framework.

Each maker gives the bundle's path and what the native network computes on the variant's patterns.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ptychopinn_variant import Variant

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.from_ptychopinn import convert

__all__ = [
    "KERAS", "SETTINGS", "SMALL", "TORCH", "Expected", "Variant", "changed_config", "keras_bundle", "refused", "repack", "saved", "torch_bundle", "torch_settings", "torch_state",
]  # fmt: skip


KERAS, TORCH = "diffraction_to_obj/model.keras", "diffraction_to_obj/model.pth"
SETTINGS = "torch_scaling_metadata.pt"
SMALL = Variant(scale=0.25)


class Expected(NamedTuple):
    """A bundle, and the native network's answer to the variant's patterns."""

    path: Path
    amplitude: np.ndarray  # (B, C or 1, N, N)
    phase: np.ndarray
    output: np.ndarray | None = None  # of the saved Keras model itself, merged: (B, N, N)

    @property
    def object(self) -> np.ndarray:
        return self.amplitude * np.exp(1j * self.phase)


def refused(path: Path) -> str:
    """The one line that says why a bundle is refused; it names the file."""
    with pytest.raises(ConversionError) as caught:
        convert(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def repack(path: Path, target: Path, changes: Mapping[str, bytes | None]) -> Path:
    """The same archive with other members; None leaves one out."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in [*old.namelist(), *(name for name in changes if name not in old.namelist())]:
            content = changes[name] if name in changes else old.read(name)
            if content is not None:
                new.writestr(name, content)
    return target


def _write(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        # What stands in these is never read: not even a pickle.
        for name in ("manifest.dill", "diffraction_to_obj/params.dill", "autoencoder/params.dill"):
            archive.writestr(name, b"cos\nabort\n(tR.")
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def torch_state(variant: Variant) -> tuple[Any, dict[str, Any]]:
    """The native network, and the state dict under PtychoPINN's names."""
    import torch
    from ptychopinn_torch_network import make_network

    network = make_network(variant)
    state = {f"model.autoencoder.{name}": tensor for name, tensor in network.state_dict().items()}
    for name in ("alpha", "beta", "rect_scaler.s1", "rect_scaler.s2"):
        state[f"model.forward_model.{name}"] = torch.ones(1)
    return network, state


def torch_settings(variant: Variant) -> dict[str, Any]:
    """What PtychoPINN stores beside the weights, as far as it speaks of the network."""
    return {
        "schema_version": "ci-entrypoints-v1",
        "data_config": {"N": variant.N, "C": variant.channels, "grid_size": (variant.gridsize, variant.gridsize)},
        "model_config": {
            "architecture": "cnn",
            "cnn_output_mode": "amp_phase",
            "use_shared_decoder": False,
            "n_filters_scale": variant.scale,
            "amp_activation": variant.amp_activation,
            "object_big": variant.object_big,
            "probe_big": variant.probe_big,
            "use_legacy_decoder_channel_override": False,
            "max_hidden_channels": None,
            "betas": [0.9, 0.999],
        },
        "ci_statistics": None,
    }


def saved(content: Any) -> bytes:
    """What `torch.save` writes."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def torch_bundle(folder: Path, variant: Variant) -> Expected:
    """A bundle of the PyTorch backend."""
    import torch

    network, state = torch_state(variant)
    path = _write(
        folder / "torch.h5.zip",
        {
            "diffraction_to_obj/model.pth": saved(state),
            "autoencoder/model.pth": saved({"_sentinel": "autoencoder"}),
            "torch_scaling_metadata.pt": saved(torch_settings(variant)),
        },
    )
    with torch.no_grad():
        amplitude, phase = network(torch.from_numpy(variant.patterns))
    return Expected(path, amplitude.numpy(), phase.numpy())


def keras_state(folder: Path, variant: Variant) -> tuple[Any, Any, bytes]:
    """The network, its patches, and what Keras saves of it."""
    from ptychopinn_keras_network import make_network

    file = folder / "model.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's variables and NumPy 2
        model, patches = make_network(variant)
        model.save(file)
    return model, patches, file.read_bytes()


def keras_bundle(folder: Path, variant: Variant) -> Expected:
    """A bundle of the TensorFlow backend."""
    model, patches, content = keras_state(folder, variant)
    path = _write(
        folder / "tensorflow.h5.zip",
        {"diffraction_to_obj/model.keras": content, "autoencoder/model.keras": b"never read", "manifest.json": b"{}"},
    )
    inputs = [
        variant.patterns.transpose(0, 2, 3, 1) * np.float32(988),
        np.zeros((2, 1, 2, variant.channels), np.float32),
    ]
    amplitude, phase = (np.asarray(part).transpose(0, 3, 1, 2) for part in patches(inputs))
    return Expected(path, amplitude, phase, np.asarray(model(inputs))[..., 0])


def changed_config(content: bytes, change: Callable[[dict[str, Any]], object], target: Path) -> bytes:
    """A `.keras` archive whose configuration a function has changed."""
    source = target.with_suffix(".old")
    source.write_bytes(content)
    with zipfile.ZipFile(source) as archive:
        config = json.loads(archive.read("config.json"))
    change(config)
    return repack(source, target, {"config.json": json.dumps(config).encode()}).read_bytes()
