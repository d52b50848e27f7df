"""What can be set about training, frozen once read. Where settings come from: `configuration`."""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptyonnx.settings.ptychopinn_names import RENAMED
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import SettingsError

__all__ = ["MOST_EPOCHS", "Loss", "Settings", "shown"]

MOST_EPOCHS = 200_000  # whose history can be read
Loss = Literal["poisson", "amplitude_mse", "amplitude_mae"]
_LARGEST = 2**32 - 1  # seed that both frameworks take; more of anything else does not end


class Settings(BaseModel):
    """Settings of one training: ``Settings(epochs=20, gridsize=2)``; unknown names and unusable values are refused.

    ``ptyonnx train --help`` and docs/settings.md say what each means: field descriptions are the help of the
    command line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    # the network
    gridsize: int = Field(1, ge=1, le=4, description="gridsize^2 neighbouring patterns enter together")
    filters_scale: float = Field(0.5, gt=0, le=8, description="factor on the number of filters")
    depth: int | None = Field(None, ge=1, le=6, description="number of poolings; by default from N")

    # the data
    n_subsample: int | None = Field(None, ge=1, le=_LARGEST, description="use only this many patterns, drawn at random")
    subsample_seed: int = Field(0, ge=0, le=_LARGEST, description="seed of that drawing")
    n_groups: int | None = Field(None, ge=1, le=_LARGEST, description="groups per epoch; by default every pattern once")
    neighbor_count: int | None = Field(
        None,
        ge=1,
        le=_LARGEST,
        description="gridsize > 1: members of a group come from this many nearest; by default max(7, 2 gridsize^2)",
    )
    validation_fraction: float = Field(0.05, ge=0, lt=0.5, description="patterns held out for validation")
    probe_photons: Literal["auto", "patterns", "as-is"] = Field(
        "auto", description="scale the probe to the patterns' photons; auto: only where they differ by more than 2x"
    )

    # the optimisation
    epochs: int = Field(60, ge=1, le=MOST_EPOCHS, description="passes over the training patterns")
    region_size: int = Field(
        16, ge=1, le=_LARGEST, description="patterns near each other that must agree on the object"
    )
    batch_size: int = Field(1, ge=1, le=_LARGEST, description="regions per optimiser step")
    loss: Loss = Field("poisson", description="what is minimised")
    rate: float = Field(1e-3, gt=0, description="peak of the one-cycle learning rate (Adam)")
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of the steps in which the rate rises")
    clip: float = Field(0.2, gt=0, description="largest global norm of the gradient")
    seed: int = Field(0, ge=0, le=_LARGEST, description="seed of initial weights and of the order of batches")
    patience: int | None = Field(
        None,
        ge=1,
        le=_LARGEST,
        description="stop early after this many epochs without a better validation loss; by default never",
    )
    train_probe: bool = Field(False, description="refine the probe together with the network")
    probe_rate: float = Field(0.1, gt=0, le=1, description="step of the probe relative to that of the weights")

    # the machine
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to train")
    precision: Literal["auto", "float32", "mixed"] = Field("auto", description="mixed: 16 bit on a GPU")
    threads: int = Field(0, ge=0, le=4096, description="CPU threads; 0: as many as cores")
    tensorboard: bool = Field(False, description="also write TensorBoard logs (needs tensorboard)")

    def recipe(self, N: int, file: str | None = None) -> Recipe:
        """Give the recipe of these settings for patterns of N x N pixels; `file` is named in errors.

        Raises
        ------
        SettingsError
            There is no such network: N or the depth does not fit.
        """
        try:
            return Recipe(N=N, gridsize=self.gridsize, filters_scale=self.filters_scale, depth=self.depth or 0)
        except ValidationError as error:
            raise SettingsError.from_validation(error, file=file, key="diffraction") from None

    def __init__(self, **values: Any) -> None:
        """Check every value.

        Raises
        ------
        SettingsError
            No such setting, with the nearest that there is, or an unusable value.
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
        """Groups whose patterns together make up one region."""
        return max(1, self.region_size // self.channels)


def shown(value: object) -> str:
    """A value as an error shows it, whole numbers of any length included."""
    try:
        return repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"


def _as_settings_error(error: ValidationError) -> SettingsError:
    """Say the first complaint, and which name is near one that does not exist."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        known = {**{field: field for field in Settings.model_fields}, **RENAMED}
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{known[near[0]]}'?" if near else f"there are {', '.join(Settings.model_fields)}"
        return SettingsError("no such setting", key=name, remedy=hint)
    return SettingsError(
        "unusable value", key=name, found=shown(first["input"]), expected=first["msg"].removeprefix("Input should be ")
    )
