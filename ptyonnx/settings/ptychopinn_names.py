"""PtychoPINN's names for settings, and what they are called here.

Names with an equivalent are renamed; for every other one there is a sentence that says what
replaces it, so that nothing is ignored in silence. Facts about PtychoPINN: its `TrainingConfig`
and the flags of `ptycho_train`.
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
_PROBE = "the probe of the scan is used as it is (probe_photons, train_probe)"
_ADAM = "training uses Adam"
_RATE = "the rate follows one cycle (rate, warmup)"
_SCREEN = "progress and errors alone are shown"
_CHECKPOINTS = "the best and the last checkpoint are always kept"

REPLACED = {
    "accumulate_grad_batches": "set batch_size, the number of regions per step",
    "amp_activation": "the amplitude is always 1.5 sigmoid",
    "architecture": "there is one network, PtychoPINN's CNN",
    "console_level": _SCREEN,
    "deterministic": "the order of batches and the initial weights follow from seed",
    "do_stitching": "'ptyonnx reconstruct' stitches",
    "enable_checkpointing": _CHECKPOINTS,
    "enable_oversampling": "n_groups may exceed the number of patterns",
    "gaussian_smoothing_sigma": _PROBE,
    "gradient_clip_algorithm": "the global norm of the gradient is clipped (clip)",
    "intensity_scale_trainable": "the scale of the input is measured once and kept in the graph",
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
    "realspace_mae_weight": "set loss; no true object takes part in training",
    "realspace_weight": "set loss; no true object takes part in training",
    "scheduler": _RATE,
    "sequential_sampling": "n_subsample draws patterns at random; cut the file to take the first ones",
    "torch_accumulate_grad_batches": "set batch_size, the number of regions per step",
    "torch_checkpoint_save_top_k": _CHECKPOINTS,
    "torch_deterministic": "the order of batches and the initial weights follow from seed",
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
    "batch_size counts regions of region_size overlapping patterns here, not single groups: "
    "1 is a good value; region_size=1 gives it PtychoPINN's meaning"
)
LOSS_WEIGHTS = {"nll_weight": "poisson", "mae_weight": "amplitude_mae"}
KNOWN = frozenset({*RENAMED, *REPLACED, *LOSS_WEIGHTS, MODEL_TYPE})
OPTIONAL_VALUE = frozenset({*REPLACED, "probe_trainable"})
"""As flags they may stand alone, which means true."""

_PREFIXED_BLOCKS = {"gradient_clip": "gradient_clip_"}
BLOCKS = frozenset({"model", "data", "sampling", "loss", "tf_loss", *_PREFIXED_BLOCKS})
"""Keys whose values may be mappings of settings."""


class Translation(NamedTuple):
    """What becomes of a name: its name and value here, and a sentence to say aloud."""

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
        As it was written.

    Returns
    -------
    Translation or None
        None where the name is not one of PtychoPINN's alone.
    """
    if name == "gradient_clip_val" and value in (0, None):
        return Translation(None, note="gradient_clip_val: the gradient is always clipped; a large clip switches it off")
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
    """Find the loss that PtychoPINN's weights choose, None where they mix several or choose none.

    A weight that is not given has PtychoPINN's default: 1 for `nll_weight`, 0 for `mae_weight`.
    """
    complete = {"nll_weight": 1.0, "mae_weight": 0.0, **weights}
    chosen = [loss for name, loss in LOSS_WEIGHTS.items() if complete[name] not in (0, 0.0)]
    return chosen[0] if len(chosen) == 1 else None


def flatten(content: Mapping[object, object]) -> Iterator[tuple[object, object]]:
    """Keys and values with PtychoPINN's blocks (``model:``, ``sampling:`` …) opened."""
    for key, value in content.items():
        if isinstance(value, Mapping) and key in BLOCKS:
            prefix = _PREFIXED_BLOCKS.get(str(key), "")
            yield from ((f"{prefix}{inner}", content) for inner, content in value.items())
        else:
            yield key, value


def _note_on_model_type(value: object) -> str:
    if value == "pinn":
        return ""
    return f"model_type: there is no '{value}' training here; the network learns from the physics alone"
