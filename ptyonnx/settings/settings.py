"""Settings of a training, immutable. `configuration` reads them from files and flags."""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptyonnx.settings.ptychopinn_names import RENAMED
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import SettingsError

__all__ = ["MOST_EPOCHS", "Loss", "Settings", "format_for_error"]

MOST_EPOCHS = 200_000  # a longer history cannot be read
Loss = Literal["poisson", "amplitude_mse", "amplitude_mae"]
_LARGEST = 2**32 - 1  # largest seed of both frameworks; larger counts would never finish


class Settings(BaseModel):
    """Settings of one training: ``Settings(epochs=20, gridsize=2)``; unknown names and invalid values are refused.

    ``ptyonnx train --help`` and docs/settings.md explain each setting; the help shows the field descriptions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    # the network
    gridsize: int = Field(1, ge=1, le=4, description="the network takes groups of gridsize^2 neighbouring patterns")
    filters_scale: float = Field(0.5, gt=0, le=8, description="factor for the number of filters")
    depth: int | None = Field(None, ge=1, le=6, description="number of pooling levels; by default determined by N")

    # the data
    n_subsample: int | None = Field(
        None, ge=1, le=_LARGEST, description="number of patterns to use, drawn at random; by default all"
    )
    subsample_seed: int = Field(0, ge=0, le=_LARGEST, description="seed of the random choice of n_subsample patterns")
    n_groups: int | None = Field(
        None, ge=1, le=_LARGEST, description="groups per epoch; by default each pattern is used once"
    )
    neighbor_count: int | None = Field(
        None,
        ge=1,
        le=_LARGEST,
        description="for gridsize > 1: number of nearest neighbours from which a group is drawn; by default max(7, 2 gridsize^2)",
    )
    validation_fraction: float = Field(
        0.05, ge=0, lt=0.5, description="fraction of the patterns held out for validation"
    )
    probe_photons: Literal["auto", "patterns", "as-is"] = Field(
        "auto",
        description="patterns: scale the probe to the mean photons of the patterns; as-is: do not; auto: only if they differ by more than a factor of 2",
    )

    # the optimisation
    epochs: int = Field(60, ge=1, le=MOST_EPOCHS, description="passes over the training patterns")
    region_size: int = Field(
        16, ge=1, le=_LARGEST, description="number of neighbouring patterns that share one object in the loss"
    )
    batch_size: int = Field(1, ge=1, le=_LARGEST, description="regions per optimiser step")
    loss: Loss = Field("poisson", description="loss function")
    rate: float = Field(1e-3, gt=0, description="peak of the one-cycle learning rate (Adam)")
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of the steps during which the learning rate increases")
    clip: float = Field(0.2, gt=0, description="maximum global norm of the gradient")
    seed: int = Field(0, ge=0, le=_LARGEST, description="seed of the initial weights and of the order of batches")
    patience: int | None = Field(
        None,
        ge=1,
        le=_LARGEST,
        description="stop after this many epochs without a lower validation loss; by default never",
    )
    train_probe: bool = Field(False, description="optimise the probe together with the network")
    probe_rate: float = Field(0.1, gt=0, le=1, description="learning rate of the probe relative to that of the weights")

    # the machine
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="device for the training")
    precision: Literal["auto", "float32", "mixed"] = Field("auto", description="mixed: 16-bit arithmetic on a GPU")
    threads: int = Field(0, ge=0, le=4096, description="CPU threads; 0: one per core")
    tensorboard: bool = Field(False, description="also write TensorBoard logs (needs tensorboard)")

    def recipe(self, N: int, file: str | None = None) -> Recipe:
        """The network's recipe for patterns of N x N pixels; `file` is named in errors.

        Raises
        ------
        SettingsError
            No network exists for this N and depth.
        """
        try:
            return Recipe(N=N, gridsize=self.gridsize, filters_scale=self.filters_scale, depth=self.depth or 0)
        except ValidationError as error:
            raise SettingsError.from_validation(error, file=file, key="diffraction") from None

    def __init__(self, **values: Any) -> None:
        """Validate all values.

        Raises
        ------
        SettingsError
            Unknown setting, with the most similar name as remedy, or invalid value.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _as_settings_error(error) from None

    @property
    def channels(self) -> int:
        """Patterns per group, C = gridsize squared."""
        return self.gridsize**2

    @property
    def groups_per_region(self) -> int:
        """Number of groups in a region."""
        return max(1, self.region_size // self.channels)


def format_for_error(value: object) -> str:
    """Format a value for an error message; integers may have any number of digits."""
    try:
        return repr(value)
    except ValueError:  # Python refuses to format so many digits
        return "an integer of thousands of digits"


def _as_settings_error(error: ValidationError) -> SettingsError:
    """Report the first problem, and the most similar name for an unknown one."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        known = {**{field: field for field in Settings.model_fields}, **RENAMED}
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{known[near[0]]}'?" if near else f"choose from {', '.join(Settings.model_fields)}"
        return SettingsError("no such setting", key=name, remedy=hint)
    return SettingsError(
        "invalid value",
        key=name,
        found=format_for_error(first["input"]),
        expected=first["msg"].removeprefix("Input should be "),
    )
