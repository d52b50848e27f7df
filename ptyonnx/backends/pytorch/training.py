"""Train with PyTorch: a LightningModule, its data, and the Trainer. Twin of the TensorFlow file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ptyonnx.backends.pytorch.checkpoint import InMemoryCheckpointIO, from_state, to_state
from ptyonnx.backends.pytorch.data_parallel import Parts, data_parallel
from ptyonnx.backends.pytorch.device import full_float32, set_threads, translate_device_errors, use_gpu
from ptyonnx.backends.pytorch.network import Network
from ptyonnx.backends.pytorch.workarounds import interruptible, quiet, without_denormals
from ptyonnx.runs.checkpoints import Snapshot, State, resume_error
from ptyonnx.settings import Settings
from ptyonnx.training.health import HeadSpread, head_spread
from ptyonnx.training.journal import Journal, Metrics
from ptyonnx.training.objective import ObjectiveConstants, expected_intensity, loss_terms
from ptyonnx.training.regions import Regions
from ptyonnx.training.task import Task
from ptyonnx_bundles import Recipe
from ptyonnx_converters import from_pytorch
from ptyonnx_converters.exporters import require
from ptyonnx_runtime.physics import Pair

__all__ = [
    "OPERATORS",
    "Reconstructor",
    "check",
    "constants_as_tensors",
    "convert",
    "fit",
    "from_older_version",
    "versions",
]

# PyTorch and TensorFlow add epsilon at different places; it is so small that this does not matter.
_ADAM = {"betas": (0.9, 0.999), "eps": 1e-10}
# The framework's functions for the objective.
OPERATORS = {"add": partial(torch.sum, dim=1), "transpose": partial(torch.transpose, dim0=-2, dim1=-1)}
_REMEDY = 'continue with resume=True where there is more memory, or start with a smaller batch_size or device="cpu"'
_CHECKPOINT_NAME = "in memory"  # Lightning requires a name for every checkpoint
# Raised by PyTorch, Lightning and our own reading if a state does not belong to this network.
_BAD_STATE = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError)
TensorBatch = tuple[torch.Tensor, torch.Tensor]  # of a `regions.Batch`


class Reconstructor(lightning.LightningModule):
    """The network followed by the forward model. The loss compares expected with measured patterns."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.network = Network(task.recipe)
        self.network.set_weights_by_name(task.initial_weights)
        shape = task.probe.shape
        self.probe_shift = torch.nn.ParameterList(
            [torch.nn.Parameter(torch.zeros(shape), requires_grad=task.settings.train_probe) for _ in range(2)]
        )
        self._constants: dict[int, ObjectiveConstants] = {}
        for name, part in zip(task.probe_pair._fields, task.probe_pair, strict=True):
            self.register_buffer(f"probe_{name}", torch.from_numpy(part), persistent=False)
        self.validation: list[torch.Tensor] = []
        self.real_and_imag: Callable[[torch.Tensor], Parts] = self.network.real_and_imag

    def probe(self) -> Pair:
        """The probe, including its refinement if it is trained."""
        fixed = Pair(self.probe_real, self.probe_imag)
        if not self.task.settings.train_probe:
            return fixed
        step = self.task.probe_step
        return Pair(fixed.real + step * self.probe_shift[0], fixed.imag + step * self.probe_shift[1])

    def objective_constants(self, canvas: int) -> ObjectiveConstants:
        """Constants of the objective on this device."""
        if canvas not in self._constants:
            self._constants[canvas] = constants_as_tensors(self.task.objective_constants(canvas), self.device)
        return self._constants[canvas]

    def loss_and_r(self, batch: TensorBatch, canvas: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and R-factor of a batch."""
        diffraction, offset_px = batch
        real, imag = self.real_and_imag(diffraction)
        with torch.autocast(diffraction.device.type, enabled=False):
            shape = (*offset_px.shape[:2], *diffraction.shape[-2:])
            patch = Pair(real.float().reshape(shape), imag.float().reshape(shape))
            expected = expected_intensity(patch, offset_px, self.probe(), self.objective_constants(canvas), **OPERATORS)
            amplitude = diffraction.reshape(shape)
            terms = loss_terms(self.task.settings.loss, expected, amplitude, self.task.mean_counts, torch.log)
            with torch.no_grad():
                residual = torch.sqrt(expected) - amplitude
                r_factor = torch.sqrt(torch.sum(residual * residual) / torch.sum(amplitude * amplitude))
            return torch.mean(terms), r_factor

    def training_step(self, batch: TensorBatch, _index: int) -> dict[str, torch.Tensor]:
        """Loss and R-factor of one batch of regions."""
        loss, r_factor = self.loss_and_r(batch, self.task.training.canvas)
        return {"loss": loss, "r_factor": r_factor}

    def validation_step(self, batch: TensorBatch, _index: int) -> None:
        """Loss and R-factor of one batch of held-out regions."""
        self.validation.append(torch.stack(self.loss_and_r(batch, self.task.validation.canvas)))

    def configure_optimizers(self) -> Any:
        """Adam, with the task's learning rates."""
        rates = self.task.rates
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=1.0, **_ADAM)  # type: ignore[arg-type]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(rates[min(step, len(rates) - 1)]))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def spread(self) -> HeadSpread:
        """Spread of both heads over the monitored patterns."""
        with torch.no_grad():
            heads = self.network.amplitude_and_phase(torch.from_numpy(self.task.monitored_patterns).to(self.device))
        amplitude, phase_rad = (head.float().cpu().numpy() for head in heads)
        return head_spread(amplitude, phase_rad, self.task.overlap_weight)

    def snapshot(self, checkpoint: dict[str, Any]) -> Snapshot:
        """The network as it is now, and the state that Lightning needs to resume."""
        real, imag = (part.detach().cpu().numpy() for part in self.probe())
        return Snapshot(self.network.weights_by_name(), real + 1j * imag, to_state(checkpoint))


class _Batches(Dataset[TensorBatch]):
    def __init__(self, regions: Regions, members: Sequence[NDArray[np.int64]]) -> None:
        self.regions = regions
        self.members = members

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> TensorBatch:
        diffraction, offset_px = self.regions.batch(self.members[index])
        return torch.from_numpy(diffraction), torch.from_numpy(offset_px)


class _Data(lightning.LightningDataModule):
    """Batches in the task's order, new for every epoch."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def train_dataloader(self) -> DataLoader[TensorBatch]:
        epoch = self.trainer.current_epoch if self.trainer else 0
        return DataLoader(_Batches(self.task.training, self.task.epoch(epoch)), batch_size=None)

    def val_dataloader(self) -> DataLoader[TensorBatch]:
        return DataLoader(_Batches(self.task.validation, self.task.validation_members), batch_size=None)


class _JournalCallback(lightning.Callback):
    """Reports steps and epochs to the journal."""

    def __init__(self, journal: Journal, checkpoint_io: InMemoryCheckpointIO) -> None:
        self.journal = journal
        self.checkpoint_io = checkpoint_io
        self.begun = False
        self.interrupted = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Reconstructor)
        if trainer.current_epoch != self.journal.epochs_done:
            raise ValueError(f"the state after {trainer.current_epoch} epochs, not {self.journal.epochs_done}")
        self.begun = True
        self.journal.begin(pl_module.task.training.steps_per_epoch)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, *_: Any
    ) -> None:
        del trainer, pl_module
        self.journal.step(float(outputs["loss"]), float(outputs["r_factor"]))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Reconstructor)
        validation = torch.stack(pl_module.validation).mean(dim=0)
        pl_module.validation.clear()
        rate = float(pl_module.task.rates[min(trainer.global_step, len(pl_module.task.rates)) - 1])
        trainer.save_checkpoint(_CHECKPOINT_NAME)
        trainer.should_stop = self.journal.epoch(
            Metrics(float(validation[0]), float(validation[1])),
            rate,
            pl_module.spread(),
            pl_module.snapshot(self.checkpoint_io.checkpoint),
        )

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        del trainer, pl_module
        self.interrupted = isinstance(exception, KeyboardInterrupt)


def constants_as_tensors(constants: ObjectiveConstants, device: torch.device | None = None) -> ObjectiveConstants:
    """Constants of the objective as tensors."""
    weight, lattice, real, imag = (torch.from_numpy(array).to(device) for array in (*constants[:2], *constants.dft))
    return ObjectiveConstants(weight, lattice, Pair(real, imag))


def check(settings: Settings) -> None:
    """Refuse settings that this machine cannot satisfy, before anything is written.

    Raises
    ------
    ProviderError, MissingDependencyError
    """
    use_gpu(settings.device)
    require("torch", "onnx", "onnxscript", "onnxruntime")


def fit(task: Task, journal: Journal, earlier: State | None = None, logs: Path | None = None) -> None:
    """Train a network.

    Parameters
    ----------
    task : Task
    journal : Journal
        Receives every step, and saves every epoch.
    earlier : State, optional
        State after the journal's epochs, to resume from.
    logs : Path, optional
        Directory for TensorBoard.

    Raises
    ------
    CollapseError, DivergenceError, ProviderError, OutputError
    RunError
        The earlier state does not belong to this training.
    KeyboardInterrupt
        Stopped by the user. The journal has saved the last complete epoch.
    """
    settings = task.settings
    set_threads(settings.threads)
    gpu = use_gpu(settings.device)
    try:
        checkpoint_io = InMemoryCheckpointIO(from_state(earlier) if earlier else None)
    except _BAD_STATE as error:
        raise resume_error(journal.directory, error) from None
    report = _JournalCallback(journal, checkpoint_io)
    with quiet(), interruptible(lambda: report.interrupted), without_denormals(), full_float32():
        trainer = lightning.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=1,
            precision=_precision(settings.precision, gpu=gpu),
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip,
            gradient_clip_algorithm="norm",
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            callbacks=[report],
            plugins=[checkpoint_io],
            logger=_logger(logs) if logs else False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=journal.directory,
        )
        model = Reconstructor(task).to(memory_format=torch.channels_last)
        ckpt_path = _CHECKPOINT_NAME if earlier else None
        try:
            with (
                data_parallel(model.network, 1 if gpu else torch.get_num_threads()) as model.real_and_imag,
                translate_device_errors("the device cannot train this", _REMEDY),
            ):
                trainer.fit(model, datamodule=_Data(task), ckpt_path=ckpt_path, weights_only=True)
        except _BAD_STATE as error:
            if earlier is None or report.begun:
                raise
            raise resume_error(journal.directory, error) from None


def from_older_version(task: Task, checkpoints: Path) -> tuple[int, Snapshot] | None:
    """Read a checkpoint of an older version, which Lightning wrote.

    Parameters
    ----------
    task : Task
    checkpoints : Path
        Directory of ``last.ckpt``.

    Returns
    -------
    tuple of int and Snapshot, or None
        Number of completed epochs, and the network after them; None if there is no such file.

    Raises
    ------
    RunError
        Damaged.
    """
    path = checkpoints / "last.ckpt"
    if not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        model = Reconstructor(task)
        model.load_state_dict(checkpoint["state_dict"])
        return int(checkpoint["global_step"]) // task.training.steps_per_epoch, model.snapshot(checkpoint)
    except (*_BAD_STATE, OSError, EOFError, UnpicklingError) as error:
        raise resume_error(checkpoints.parent, error, path) from None


def convert(
    recipe: Recipe, weights: Mapping[str, NDArray[Any]]
) -> tuple[bytes, Callable[[NDArray[np.float32]], NDArray[np.complex64]]]:
    """Convert weights to the canonical ONNX model; also return the native network, for comparison."""
    network = Network(recipe)
    network.set_weights_by_name(weights)
    network.eval()

    def native(diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        with torch.no_grad():
            output: NDArray[np.float32] = network(torch.from_numpy(diffraction)).numpy()
        return np.ascontiguousarray(output).view(np.complex64)[..., 0]

    return from_pytorch.convert(network, recipe), native


def versions() -> dict[str, str]:
    """Versions of the packages involved."""
    return {name: version(name) for name in ("torch", "lightning", "onnx", "onnxscript")}


def _precision(precision: str, *, gpu: bool) -> Any:
    """Lightning's name of the precision: 16 bits only on a GPU, and bfloat16 if possible, which needs no loss scaling."""
    if precision == "float32" or not gpu:
        return "32-true"
    if torch.cuda.is_available() and torch.cuda.is_bf16_supported():
        return "bf16-mixed"
    return "16-mixed" if precision == "mixed" else "32-true"


def _logger(logs: Path) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=logs.parent, name="", version=logs.name)
