"""Train with TensorFlow: a Keras model with its own train step. Twin of the PyTorch file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptyonnx.backends.tensorflow.checkpoint import restore, to_state
from ptyonnx.backends.tensorflow.device import full_float32, set_threads, translate_device_errors, use_gpu
from ptyonnx.backends.tensorflow.network import Network
from ptyonnx.backends.tensorflow.workarounds import without_remapper
from ptyonnx.runs.checkpoints import Snapshot, State, resume_error
from ptyonnx.settings import Settings
from ptyonnx.training.health import HeadSpread, head_spread
from ptyonnx.training.journal import Journal, Metrics
from ptyonnx.training.objective import ObjectiveConstants, expected_intensity, loss_terms
from ptyonnx.training.regions import Batch, Regions
from ptyonnx.training.task import Task
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import SettingsError
from ptyonnx_converters import from_tensorflow
from ptyonnx_converters.exporters import require
from ptyonnx_runtime.physics import Pair

__all__ = [
    "OPERATORS",
    "Reconstructor",
    "check",
    "constants_as_tensors",
    "constants_for_regions",
    "convert",
    "fit",
    "from_older_version",
    "versions",
]

_REMEDY = 'continue with resume=True where there is more memory, or start with a smaller batch_size or device="cpu"'
# PyTorch and TensorFlow add epsilon at different places; it is so small that this does not matter.
_ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-10}
# The framework's functions for the objective.
OPERATORS = {"add": partial(tf.reduce_sum, axis=1), "transpose": tf.linalg.matrix_transpose}


class Reconstructor(keras.Model):  # type: ignore[misc]
    """The network followed by the forward model. The loss compares expected with measured patterns."""

    def __init__(self, task: Task, policy: str = "float32") -> None:
        super().__init__()
        self.task = task
        self.network = Network(task.recipe, policy)
        self.network.set_weights_by_name(task.initial_weights)
        self.probe_shift = [
            self.add_weight(shape=task.probe.shape, initializer="zeros", trainable=task.settings.train_probe, name=name)
            for name in ("probe_shift_real", "probe_shift_imag")
        ]
        self._heads = tf.function(self.network.amplitude_and_phase)
        self.network.built = self.built = True  # otherwise Keras would consume the first batch to build

    def probe(self) -> Pair:
        """The probe, including its refinement if it is trained."""
        fixed = Pair(*map(tf.constant, self.task.probe_pair))
        if not self.task.settings.train_probe:
            return fixed
        step = self.task.probe_step
        return Pair(fixed.real + step * self.probe_shift[0], fixed.imag + step * self.probe_shift[1])

    def objective_constants(self, canvas: int) -> ObjectiveConstants:
        """Constants of the objective."""
        return constants_as_tensors(self.task.objective_constants(canvas))

    def loss_and_r(self, batch: Batch, canvas: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss and R-factor of a batch."""
        diffraction, offset_px = batch
        real, imag = self.network.real_and_imag(diffraction)
        N = self.task.recipe.N
        shape = (-1, offset_px.shape[1], N, N)
        patch = Pair(*(tf.reshape(tf.cast(part, tf.float32), shape) for part in (real, imag)))
        constants = constants_for_regions(self.objective_constants(canvas), offset_px)
        expected = expected_intensity(patch, offset_px, self.probe(), constants, **OPERATORS)
        amplitude = tf.reshape(diffraction, shape)
        terms = loss_terms(self.task.settings.loss, expected, amplitude, self.task.mean_counts, tf.math.log)
        residual = tf.stop_gradient(tf.sqrt(expected)) - amplitude
        r_factor = tf.sqrt(tf.reduce_sum(residual * residual) / tf.reduce_sum(amplitude * amplitude))
        return tf.reduce_mean(terms), r_factor

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Loss and R-factor of one batch of regions."""
        with tf.GradientTape() as tape:
            loss, r_factor = self.loss_and_r(Batch(*data), self.task.training.canvas)
            scaled = self.optimizer.scale_loss(loss)
        trained = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, trained), trained, strict=True))
        return {"loss": loss, "r_factor": r_factor}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Loss and R-factor of one batch of held-out regions."""
        loss, r_factor = self.loss_and_r(Batch(*data), self.task.validation.canvas)
        return {"loss": loss, "r_factor": r_factor}

    def spread(self) -> HeadSpread:
        """Spread of both heads over the monitored patterns."""
        heads = self._heads(tf.constant(self.task.monitored_patterns))
        amplitude, phase_rad = (tf.cast(head, tf.float32).numpy() for head in heads)
        return head_spread(amplitude, phase_rad, self.task.overlap_weight)

    def snapshot(self) -> Snapshot:
        """The network as it is now, and the state that Keras needs to resume."""
        real, imag = (part.numpy() for part in self.probe())
        return Snapshot(self.network.weights_by_name(), real + 1j * imag, to_state(self.trained()))

    def trained(self) -> dict[str, list[Any]]:
        """All variables that a step may change."""
        return {"weights": self.network.variables + self.probe_shift, "optimizer": self.optimizer.variables}


class _Rates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The task's learning rates."""

    def __init__(self, rates: NDArray[np.float32]) -> None:
        self.rates = rates

    def __call__(self, step: Any) -> tf.Tensor:
        return tf.gather(tf.constant(self.rates), tf.minimum(tf.cast(step, tf.int64), len(self.rates) - 1))

    def get_config(self) -> dict[str, Any]:
        return {"rates": self.rates.tolist()}


def _batches(
    regions: Regions,
    epochs: Callable[[], Iterable[list[NDArray[np.int64]]]],
    length: int = tf.data.INFINITE_CARDINALITY,
) -> tf.data.Dataset:
    """Batches in the task's order, epoch by epoch."""
    C, N, patterns = regions.settings.channels, regions.N, regions.groups_per_region * regions.settings.channels
    signature = (
        tf.TensorSpec((regions.batch_size * regions.groups_per_region, C, N, N), tf.float32),
        tf.TensorSpec((regions.batch_size, patterns, 2), tf.float32),
    )

    def generate() -> Iterator[Batch]:
        for members in chain.from_iterable(epochs()):
            yield regions.batch(members)

    batches = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return batches.apply(tf.data.experimental.assert_cardinality(length)).prefetch(1)


class _JournalCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports steps and epochs to the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self.journal = journal
        self.validation: list[Metrics] = []

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report a step."""
        del batch
        assert logs is not None
        self.journal.step(float(logs["loss"]), float(logs["r_factor"]))

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Collect the metrics of every batch, as Keras reports those of the last one only."""
        del batch
        assert logs is not None
        self.validation.append(Metrics(float(logs["loss"]), float(logs["r_factor"])))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report an epoch."""
        del epoch, logs
        figures = np.array(self.validation, np.float64).mean(axis=0)
        validation = Metrics(float(figures[0]), float(figures[1]))
        self.validation.clear()
        rates = self.model.task.rates
        rate = float(rates[min(int(self.model.optimizer.iterations), len(rates)) - 1])
        self.model.stop_training = self.journal.epoch(validation, rate, self.model.spread(), self.model.snapshot())


def constants_as_tensors(constants: ObjectiveConstants) -> ObjectiveConstants:
    """Constants of the objective as tensors."""
    weight, lattice, real, imag = map(tf.constant, (*constants[:2], *constants.dft))
    return ObjectiveConstants(weight, lattice, Pair(real, imag))


def constants_for_regions(constants: ObjectiveConstants, offset_px: tf.Tensor) -> ObjectiveConstants:
    """The constants in shapes that can be multiplied with these regions.

    With one pattern per region, oneDNN in TensorFlow 2.21 corrupts memory in products of
    (region, 1, N, N) and (N, N) [github.com/tensorflow/tensorflow/issues/117700]; every region then gets
    matrices of its own.
    """
    if offset_px.shape[1] > 1:
        return constants
    weight, real, imag = (
        tf.broadcast_to(matrix, (*tf.unstack(tf.shape(offset_px)[:2]), *matrix.shape))
        for matrix in (constants.weight, *constants.dft)
    )
    return constants._replace(weight=weight, dft=Pair(real, imag))


def check(settings: Settings) -> None:
    """Refuse settings that this machine cannot satisfy, before anything is written.

    Raises
    ------
    ProviderError, MissingDependencyError, SettingsError
    """
    use_gpu(settings.device)
    require("tensorflow", "onnx", "tf2onnx", "onnxruntime")
    if keras.backend.backend() != "tensorflow":
        raise SettingsError(
            "Keras runs on another framework", key="KERAS_BACKEND", found=keras.backend.backend(),
            expected="tensorflow", remedy="unset KERAS_BACKEND",
        )  # fmt: skip


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
    epochs_done = journal.epochs_done
    failing = translate_device_errors("the device cannot train this", _REMEDY)
    with failing, tf.device("/GPU:0" if gpu else "/CPU:0"), without_remapper(), full_float32():
        model = _compiled(task, _precision(settings.precision, gpu=gpu))
        if earlier is not None:
            try:
                restore(model.trained(), earlier)
            except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
                raise resume_error(journal.directory, error) from None
        callbacks: list[keras.callbacks.Callback] = [_JournalCallback(journal)]
        if logs is not None:
            callbacks.append(keras.callbacks.TensorBoard(str(logs)))
        held_out = task.validation_members
        journal.begin(task.training.steps_per_epoch)
        model.fit(
            _batches(task.training, lambda: map(task.epoch, count(epochs_done))),
            validation_data=_batches(task.validation, lambda: [held_out], len(held_out)).cache(),
            steps_per_epoch=task.training.steps_per_epoch,
            initial_epoch=epochs_done,
            epochs=settings.epochs,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )


def from_older_version(task: Task, checkpoints: Path) -> tuple[int, Snapshot] | None:
    """Read a checkpoint of an older version, which TensorFlow wrote.

    Parameters
    ----------
    task : Task
    checkpoints : Path
        Directory of the folder ``last``.

    Returns
    -------
    tuple of int and Snapshot, or None
        Number of completed epochs, and the network after them; None if there is no such file.

    Raises
    ------
    RunError
        Damaged.
    """
    folder = checkpoints / "last"
    latest = tf.train.latest_checkpoint(str(folder))
    if latest is None:
        return None
    model = _compiled(task)
    checkpoint = tf.train.Checkpoint(**model.trained())
    try:
        checkpoint.restore(latest).assert_consumed()
        return int(latest.rsplit("-", 1)[1]), model.snapshot()
    except (ValueError, AssertionError, IndexError, tf.errors.OpError) as error:
        raise resume_error(checkpoints.parent, error, folder) from None


def convert(
    recipe: Recipe, weights: Mapping[str, NDArray[Any]]
) -> tuple[bytes, Callable[[NDArray[np.float32]], NDArray[np.complex64]]]:
    """Convert weights to the canonical ONNX model; also return the native network, for comparison."""
    with tf.device("/CPU:0"):  # TensorFlow would use a GPU by default
        network = Network(recipe)
        network.set_weights_by_name(weights)

    def native(diffraction: NDArray[np.float32]) -> NDArray[np.complex64]:
        with tf.device("/CPU:0"):
            output: NDArray[np.float32] = network(tf.constant(diffraction)).numpy()
        return np.ascontiguousarray(output).view(np.complex64)[..., 0]

    return from_tensorflow.convert(network, recipe), native


def versions() -> dict[str, str]:
    """Versions of the packages involved."""
    return {"tensorflow": tf.__version__, "keras": keras.__version__} | {
        name: version(name) for name in ("onnx", "tf2onnx")
    }


def _compiled(task: Task, policy: str = "float32") -> Reconstructor:
    """Build the network and the variables of its optimiser."""
    model = Reconstructor(task, policy)
    optimizer = keras.optimizers.Adam(_Rates(task.rates), global_clipnorm=task.settings.clip, **_ADAM)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model


def _precision(precision: str, *, gpu: bool) -> str:
    """Keras's name of the precision: 16 bits only on a GPU, as bfloat16, which needs no loss scaling."""
    return "mixed_bfloat16" if gpu and precision != "float32" else "float32"
