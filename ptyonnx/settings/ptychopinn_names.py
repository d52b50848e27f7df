"""Translate PtychoPINN's names of settings.

Names with an equivalent are renamed. For every other name a note states its replacement, so that no setting is
ignored silently. The names are those of PtychoPINN's `TrainingConfig` and of the flags of `ptycho_train`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = [
    "BATCH_SIZE",
    "BLOCKS",
    "KNOWN",
    "LOSS_WEIGHTS",
    "OPTIONAL_VALUE",
    "RENAMED",
    "Translation",
    "flatten",
    "loss_of_weights",
    "translate",
]

RENAMED = {
    "accelerator": "device",
    "gradient_clip_val": "clip",
    "learning_rate": "rate",
    "max_epochs": "epochs",
    "n_filters_scale": "filters_scale",
    "n_images": "n_groups",
    "nepochs": "epochs",
    "output_dir": "output",
    "probe_trainable": "train_probe",
    "test_data_file": "test_data",
    "torch_accelerator": "device",
    "torch_learning_rate": "rate",
    "torch_loss_mode": "loss",
    "train_data_file": "data",
}

_VALUES = {
    "device": {"cuda": "gpu"},
    "loss": {"mae": "amplitude_mae"},
}

_OBJECT = "object and probe are always N x N patches that overlap (region_size)"
_PROBE = "the probe of the scan is used unchanged (see probe_photons, train_probe)"
_ADAM = "training uses Adam"
_RATE = "the rate follows one cycle (rate, warmup)"
_SCREEN = "only progress and errors are shown (quiet and verbose are options of the command line)"
_CHECKPOINTS = "the best and the last checkpoint are always kept"

REPLACED = {
    "accumulate_grad_batches": "set batch_size, the number of regions per step",
    "amp_activation": "the amplitude is always 1.5 sigmoid",
    "architecture": "the only network is PtychoPINN's CNN",
    "console_level": _SCREEN,
    "deterministic": "seed determines the order of batches and the initial weights",
    "do_stitching": "'ptyonnx reconstruct' stitches",
    "enable_checkpointing": _CHECKPOINTS,
    "enable_oversampling": "n_groups may exceed the number of patterns",
    "gaussian_smoothing_sigma": _PROBE,
    "gradient_clip_algorithm": "the global norm of the gradient is clipped (clip)",
    "intensity_scale_trainable": "the scale of the input is measured once and stored in the graph",
    "neighbor_pool_size": "set neighbor_count",
    "nphotons": "photons are measured from the patterns",
    "num_workers": "the whole scan is held in memory",
    "object_big": _OBJECT,
    "object_layout": _OBJECT,
    "optimizer": _ADAM,
    "pad_object": _OBJECT,
    "positions_provided": "positions are always read from the scan",
    "probe_big": _OBJECT,
    "probe_mask": _PROBE,
    "probe_mask_diameter": _PROBE,
    "probe_mask_sigma": _PROBE,
    "probe_scale": _PROBE,
    "quiet": _SCREEN,
    "realspace_mae_weight": "set loss; training uses no true object",
    "realspace_weight": "set loss; training uses no true object",
    "scheduler": _RATE,
    "sequential_sampling": "n_subsample draws patterns at random; shorten the file to use its first patterns",
    "torch_accumulate_grad_batches": "set batch_size, the number of regions per step",
    "torch_checkpoint_save_top_k": _CHECKPOINTS,
    "torch_deterministic": "seed determines the order of batches and the initial weights",
    "torch_enable_checkpointing": _CHECKPOINTS,
    "torch_logger": "history.csv is always written; set tensorboard for more",
    "torch_mae_pred_l2_match_target": "set probe_photons",
    "torch_num_workers": "the whole scan is held in memory",
    "torch_scheduler": _RATE,
    "training_canvas": _OBJECT,
    "training_patch_weighting": "overlapping patches are weighted by the probe's intensity",
    "verbose": _SCREEN,
}  # fmt: skip

MODEL_TYPE = "model_type"
BATCH_SIZE = (
    "batch_size counts regions of region_size overlapping patterns, not single groups: "
    "1 is a good value; with region_size=1 it has PtychoPINN's meaning"
)
LOSS_WEIGHTS = {"nll_weight": "poisson", "mae_weight": "amplitude_mae"}
KNOWN = frozenset({*RENAMED, *REPLACED, *LOSS_WEIGHTS, MODEL_TYPE})
OPTIONAL_VALUE = frozenset({*REPLACED, "probe_trainable"})
"""Flags that may be given without a value, which means true."""

_PREFIXED_BLOCKS = {"gradient_clip": "gradient_clip_"}
BLOCKS = frozenset({"model", "data", "sampling", "loss", "tf_loss", *_PREFIXED_BLOCKS})
"""Keys whose values may be mappings of settings."""


class Translation(NamedTuple):
    """Name and value of a setting in this project, and a note for the user."""

    name: str | None
    value: object = None
    note: str = ""


def translate(name: str, value: object) -> Translation | None:
    """Translate one setting.

    Parameters
    ----------
    name : str
        With underscores.
    value : object
        As given.

    Returns
    -------
    Translation or None
        None if the name is not specific to PtychoPINN.
    """
    if name == "gradient_clip_val" and value in (0, None):
        return Translation(
            None, note="gradient_clip_val: the gradient is always clipped; set a large clip to disable it"
        )
    if name == MODEL_TYPE:
        return Translation(None, note=_note_on_model_type(value))
    if name in REPLACED:
        return Translation(None, note=f"{name} has no effect here: {REPLACED[name]}")
    if name not in RENAMED:
        return None
    renamed = RENAMED[name]
    same = _VALUES.get(renamed, {})
    return Translation(renamed, same.get(value, value) if isinstance(value, str) else value)


def loss_of_weights(weights: Mapping[str, object]) -> str | None:
    """Find the loss that PtychoPINN's weights select; None if they select several or none.

    A missing weight has PtychoPINN's default: 1 for `nll_weight`, 0 for `mae_weight`.
    """
    complete = {"nll_weight": 1.0, "mae_weight": 0.0, **weights}
    chosen = [loss for name, loss in LOSS_WEIGHTS.items() if complete[name] not in (0, 0.0)]
    return chosen[0] if len(chosen) == 1 else None


def flatten(content: Mapping[object, object]) -> Iterator[tuple[object, object]]:
    """Keys and values, with PtychoPINN's blocks (``model:``, ``sampling:`` …) flattened."""
    for key, value in content.items():
        if isinstance(value, Mapping) and key in BLOCKS:
            prefix = _PREFIXED_BLOCKS.get(str(key), "")
            yield from ((f"{prefix}{inner}", content) for inner, content in value.items())
        else:
            yield key, value


def _note_on_model_type(value: object) -> str:
    if value == "pinn":
        return ""
    return f"model_type: '{value}' training is not available; the network is trained by the forward model alone"
