"""Convert a PtychoPINN bundle, `wts.h5.zip` of either backend, to a graph with a bundle's interface.

Neither TensorFlow nor torch is needed, and no code of the file is run: its pickles are never loaded,
except two of torch that are interpreted operator by operator (`torch_archive.py`). The graph is written
directly from the weights (`keras_network.py`, `torch_network.py`). `ptyonnx.exchange` makes the bundle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from ptyonnx_bundles.errors import ConversionError, MissingDependencyError
from ptyonnx_converters.foreign.network import ForeignNetwork
from ptyonnx_converters.ptychopinn.zip_members import ZipMembers, open_archive

__all__ = ["check_archive", "convert"]

_KERAS = "diffraction_to_obj/model.keras"
_TORCH = "diffraction_to_obj/model.pth"
_SETTINGS = "torch_scaling_metadata.pt"
_SETTINGS_VERSION = "ci-entrypoints-v1"
_LARGEST_MODEL = 2**31  # bytes
_LARGEST_SETTINGS = 2**24
# Settings of which only one value is supported; the weights do not show the value.
_ONLY = {"architecture": "cnn", "cnn_output_mode": "amp_phase", "use_shared_decoder": False}


def convert(path: Path, *, probe_big: bool | None = None, amp_activation: str | None = None) -> ForeignNetwork:
    """Read a bundle of PtychoPINN and write its network as ONNX.

    Parameters
    ----------
    path : Path
        `wts.h5.zip` of PtychoPINN's training with TensorFlow or PyTorch.
    probe_big, amp_activation : optional
        Settings of PtychoPINN that the weights of a PyTorch bundle do not show. Required for bundles
        without `torch_scaling_metadata.pt`; otherwise they must agree with it.

    Returns
    -------
    ForeignNetwork
        Its input is the amplitude, scaled such that the mean over patterns of sum(X**2) is (N/2)**2.

    Raises
    ------
    ConversionError
        The file is not such a bundle, has another version, is damaged, or contains unknown parts.
    MissingDependencyError
        onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise MissingDependencyError(
            "adopting needs onnx, which is not installed", remedy="pip install 'ptyonnx[adopt]'"
        )
    with open_archive(path) as members:
        if _network(members) == _KERAS:
            network = _convert_keras(members, path)
            _check_declared("probe_big", probe_big, network.conventions["probe_big"], path)
            _check_declared("amp_activation", amp_activation, network.conventions["amp_activation"], path)
            return network
        return _convert_torch(members, path, probe_big, amp_activation)


def check_archive(path: Path) -> None:
    """Refuse a ZIP archive that is not a PtychoPINN bundle, judging by the names of its members.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ConversionError
        The file is not a ZIP archive or not such a bundle; the remedy says what to give instead.
    """
    with open_archive(path) as members:
        _network(members)


def _network(members: ZipMembers) -> str:
    """Find the member that contains the network."""
    names = members.names
    found = [name for name in (_KERAS, _TORCH) if name in names]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConversionError(
            "networks of two backends", file=members.file, found=", ".join(found), expected="one of them",
            remedy="give wts.h5.zip as one training wrote it",
        )  # fmt: skip
    shown = ", ".join(names[:5]) or "no member"
    if names and all(name.endswith(".npy") for name in names):
        raise ConversionError(
            "an NPZ of arrays, not a network", file=members.file, found=shown,
            remedy="give an ONNX file or PtychoPINN's wts.h5.zip; a scan belongs to 'reconstruct', a probe to probe=…",
        )  # fmt: skip
    for kind, member, alone in (
        ("Keras", _KERAS, {"config.json", "model.weights.h5"} <= set(names)),
        ("torch.save", _TORCH, any(name.endswith("/data.pkl") and name.count("/") == 1 for name in names)),
    ):
        if alone:
            raise ConversionError(
                f"a bare {kind} file", file=members.file,
                expected=f"the archive that contains it as {member}",
                remedy="give the whole archive, wts.h5.zip; of another system, give an ONNX file",
            )  # fmt: skip
    raise ConversionError(
        "not a bundle of PtychoPINN", file=members.file, found=shown, expected=f"{_KERAS} or {_TORCH} in it",
        remedy="give the whole archive, wts.h5.zip",
    )  # fmt: skip


def _convert_keras(members: ZipMembers, path: Path) -> ForeignNetwork:
    from ptyonnx_converters.ptychopinn.keras_archive import read_keras_archive
    from ptyonnx_converters.ptychopinn.keras_network import build_keras

    with members.inside(_KERAS, _LARGEST_MODEL) as inner:
        archive = read_keras_archive(inner)
    network = build_keras(archive, path)
    return _foreign(
        network.model, "TensorFlow", network.N, network.channels,
        object_big=network.object_big, probe_big=network.probe_big, amp_activation=network.amp_activation,
        merged=network.object_big, n_filters_scale=network.filters_scale, cbam=False,
        patch_position="pattern" if network.object_big else "group",
    )  # fmt: skip


def _convert_torch(
    members: ZipMembers, path: Path, probe_big: bool | None, amp_activation: str | None
) -> ForeignNetwork:
    from ptyonnx_converters.ptychopinn.torch_archive import read_torch_archive
    from ptyonnx_converters.ptychopinn.torch_network import build_torch

    data, model = _settings(members, path)
    with members.inside(_TORCH, _LARGEST_MODEL) as inner:
        state = read_torch_archive(inner)
    if not isinstance(state, dict) or not all(isinstance(array, np.ndarray) for array in state.values()):
        raise ConversionError("not a state dict", file=path, key=_TORCH, expected="names and tensors only")
    settings = {
        "probe_big": _declared("probe_big", probe_big, model, bool, path),
        "amp_activation": _declared("amp_activation", amp_activation, model, str, path),
    }
    legacy_heads = model.get("use_legacy_decoder_channel_override") is True
    network = build_torch(state, **settings, legacy_heads=legacy_heads, file=path)
    object_big = model.get("object_big", network.channels > 1 or None)  # None: unknown
    for key, found, stated in (
        ("N", network.N, data.get("N", network.N)),
        ("object_big", network.channels > 1, object_big if network.channels > 1 else False),
    ):
        if not _same(found, stated):
            raise ConversionError("the weights are not those of the settings", file=path, key=key, found=found)
    return _foreign(
        network.model, "PyTorch", network.N, network.channels, **settings,
        object_big=object_big if isinstance(object_big, bool) else None,
        merged=object_big is not False and not _same(model.get("training_patch_weighting"), "probe"),
        n_filters_scale=network.filters_scale, cbam=network.attention, patch_position="pattern",
    )  # fmt: skip


def _settings(members: ZipMembers, path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Data and model settings of a PyTorch bundle; empty if it has none."""
    from ptyonnx_converters.ptychopinn.torch_archive import read_torch_archive

    if _SETTINGS not in members.names:
        return {}, {}
    with members.inside(_SETTINGS, _LARGEST_SETTINGS) as inner:
        settings = read_torch_archive(inner)
    match settings:
        case {"schema_version": version, "data_config": dict(data), "model_config": dict(model)} if _same(
            version, _SETTINGS_VERSION
        ):
            pass
        case _:
            version = settings.get("schema_version") if isinstance(settings, dict) else None
            raise ConversionError(
                "settings of another version of PtychoPINN", file=path, key=_SETTINGS,
                found=version if isinstance(version, str) else "no version", expected=_SETTINGS_VERSION,
            )  # fmt: skip
    for key, expected in _ONLY.items():
        if key in model and not _same(model[key], expected):
            raise ConversionError(
                "an unsupported PtychoPINN network", file=path, key=key,
                found=model[key] if isinstance(model[key], str | bool) else "something else", expected=expected,
            )  # fmt: skip
    return data, model


def _declared(key: str, declared: Any, model: Mapping[str, Any], kind: type, path: Path) -> Any:
    """Return a setting of the file, or the declared one if the file does not state it."""
    if key not in model:
        if declared is None:
            raise ConversionError(
                f"an older bundle that states its {key} only in a pickle, which is never loaded", file=path,
                key=_SETTINGS, remedy=f"declare {key}=… as in the training of the network",
            )  # fmt: skip
        return declared
    if not isinstance(model[key], kind):
        raise ConversionError("a setting of the wrong type", file=path, key=key, expected=kind.__name__)
    _check_declared(key, declared, model[key], path)
    return model[key]


def _same(value: Any, expected: Any) -> bool:
    """Whether two values are equal and of the same type; a value of the file may be an array."""
    return type(value) is type(expected) and value == expected


def _check_declared(key: str, declared: JsonValue, stated: JsonValue, path: Path) -> None:
    if declared is not None and declared != stated:
        raise ConversionError(
            "the declaration contradicts the file", file=path, key=key, found=declared, expected=stated
        )


def _foreign(
    model: bytes, backend: str, N: int, channels: int, *, probe_big: bool, merged: bool, **settings: JsonValue
) -> ForeignNetwork:
    """Describe the network.

    `merged`: in training, PtychoPINN used only the central half of every patch. The rest was divided by
    0.001 (TensorFlow) or ignored (PyTorch) and is meaningless.
    """
    conventions: dict[str, JsonValue] = {
        "input": "amplitude",
        "zero_frequency": "centre",
        "scale": "mean over patterns of sum(X**2) = (N/2)**2",
        "known": "everywhere" if probe_big and not merged else "central half",
        "probe_big": probe_big,
        **settings,
    }
    return ForeignNetwork(
        model=model,
        system=f"PtychoPINN ({backend})",
        N=N,
        gridsize=math.isqrt(channels),
        notes=f"Trained by PtychoPINN with {backend}; the graph was written from its weights.",
        conventions=conventions,
        mean_photons=(N / 2) ** 2,
    )
