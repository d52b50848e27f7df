"""How the network is run over a scan: the options that `reconstruct`, `predict` and `patches` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from ptyonnx_bundles.errors import SettingsError
from ptyonnx_runtime.flux import FLUX_CHOICES, FluxChoice
from ptyonnx_runtime.inference.workers import worker_count

__all__ = ["Options", "PhaseChoice", "Progress", "StageProgress"]

PhaseChoice = Literal["auto", "overlap", "network"]
Progress = Callable[[int, int], None]
StageProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a scan is reconstructed. The engine has its own options: where it computes, and with how many threads.

    Attributes
    ----------
    threads : int
        Threads that compute the residual; 0: as many as there are cores. As many patches are computed and stitched at
        a time as the engine's concurrency allows.
    batch_size : int, optional
        Groups of patterns in a batch; by default chosen from N and the engine. It does not change the result.
    flux : {"match", "as-is"}
        Whether amplitudes are scaled where scan and bundle differ by more than
        :data:`ptyonnx_runtime.flux.TOLERANCE` in photons.
    phases : {"auto", "overlap", "network"}
        How the global phase of each patch, which its pattern does not determine, is chosen. ``"overlap"``: estimated
        from the overlaps of the patches (see :mod:`ptyonnx_runtime.stitching.phasing`), which wait in a temporary
        file. ``"network"``: as the network predicts it. ``"auto"``: ``"network"`` for foreign bundles, as their own
        software does, otherwise ``"overlap"``.
    progress : callable, optional
        Called with the number of groups that have been computed, and the number of all groups.
    stages : callable, optional
        Called with the stage of a reconstruction, and how much of it is done, of how much: ``"network"``, in groups;
        ``"stitching"``, in patches, where patches wait for their phases; ``"residual"``, in patterns.
    abandon : callable, optional
        Called after an error or an interruption, to end runs in progress whose results are no longer wanted:
        :meth:`Engine.close` of an engine that nobody else uses.

    Raises
    ------
    SettingsError
        A value is not allowed; the error's ``key`` names it.
    """

    threads: int = 0
    batch_size: int | None = None
    flux: FluxChoice = "match"
    phases: PhaseChoice = "auto"
    progress: Progress | None = None
    stages: StageProgress | None = None
    abandon: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        worker_count(self.threads)
        if self.batch_size is not None and self.batch_size < 1:
            raise SettingsError("must be positive", key="batch_size", found=self.batch_size)
        for key, choices in (("flux", FLUX_CHOICES), ("phases", get_args(PhaseChoice))):
            if getattr(self, key) not in choices:
                *most, last = choices
                raise SettingsError(
                    "no such choice", key=key, found=getattr(self, key), expected=f"{', '.join(most)} or {last}"
                )
