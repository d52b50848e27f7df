"""The child process of a parity check: compute every quantity with one implementation and write it to a file.

`main` reads two arguments: the folder of the shared inputs, and ``pytorch``, ``tensorflow`` or ``onnxruntime``. It
prints its progress on stdout and writes the values to `computed_values.npz`. The parent sets the number of threads in
the environment.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx import backends
from ptyonnx.backends.weights import in_recipe_order
from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.shared_inputs import SharedInputs
from ptyonnx.reference.network import branches_of
from ptyonnx.training.journal import Journal
from ptyonnx.training.observer import Unobserved
from ptyonnx_bundles import OnnxFile, Recipe, read_onnx
from ptyonnx_bundles.errors import PtyonnxError, TrainingError

__all__ = ["COMPUTED", "MODEL", "REFUSED", "STAGE", "main"]

COMPUTED = "computed_values.npz"  # file of the computed values

MODEL = "model.onnx"  # file of the model that onnxruntime runs
STAGE = "stage: "  # prefix of a progress line
REFUSED = "refused: "  # prefix of an error that the user can fix
_EXIT_REFUSED = 2
_LONGEST_REFUSAL = 500  # characters


def main() -> int:
    """Compute every quantity with one implementation."""
    folder, implementation = Path(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run = _run_onnxruntime if implementation == "onnxruntime" else _run_framework
        run(SharedInputs.read(folder), implementation, folder).write(folder / COMPUTED)
    except PtyonnxError as error:
        _print(f"{REFUSED}{error}")
        return _EXIT_REFUSED
    return 0


def _run_framework(inputs: SharedInputs, name: str, folder: Path) -> ComputedValues:
    """Weights, activations, physics, gradients, training and export of PyTorch or TensorFlow."""
    del folder
    _print(f"{STAGE}loading")
    engine = backends.load(name)
    engine.check(inputs.settings)
    introspection = import_module(f"ptyonnx.backends.{name}.introspection").Introspection(inputs.task)
    batch = inputs.batches[0]
    _print(f"{STAGE}forward pass")
    found = ComputedValues(
        name,
        versions=engine.versions(),
        weights=introspection.weights(),
        activations=in_recipe_order(inputs.recipe, introspection.values(inputs.patterns)),
        object=introspection.object(inputs.patterns),
    )
    _print(f"{STAGE}physics")
    found = replace(found, intensity=introspection.intensity(inputs.patch, batch.offset_px))
    _print(f"{STAGE}gradients")
    branches = branches_of(inputs.recipe, introspection.values(batch.diffraction))
    found = replace(found, gradients=introspection.gradients(batch), branches=branches)
    _print(f"{STAGE}training")
    found = replace(found, losses=_train(engine, inputs))
    _print(f"{STAGE}export")
    try:
        return replace(found, model=engine.convert(inputs.recipe, inputs.weights)[0])
    except Exception as error:  # noqa: BLE001 - any exception of an exporter is part of the result
        return replace(found, refusal=" ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REFUSAL])


def _train(engine: backends.Backend, inputs: SharedInputs) -> NDArray[np.float64]:
    """Losses of the first steps of the training that users run: batches, rates, clipping, Adam.

    NaN after training has failed.
    """
    losses: list[float] = []

    class Observer(Unobserved):
        def step(self, loss: float, r_factor: float) -> None:
            del r_factor
            losses.append(loss)
            if len(losses) == inputs.steps:
                raise KeyboardInterrupt  # ends the training as Ctrl-C does

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt, TrainingError):
        engine.fit(inputs.task, Journal(Path(folder), inputs.settings, Observer()))
    return np.array([*losses, *[np.nan] * (inputs.steps - len(losses))])


def _run_onnxruntime(inputs: SharedInputs, name: str, folder: Path) -> ComputedValues:
    """Output and activations of an exported model in onnxruntime."""
    from ptyonnx_runtime.inference.activations import value_names, with_every_value
    from ptyonnx_runtime.inference.installation import require_onnxruntime

    _print(f"{STAGE}loading")
    onnxruntime = require_onnxruntime()
    model = (folder / MODEL).read_bytes()
    graph = read_onnx(model)
    names = value_names(graph)
    _print(f"{STAGE}forward pass")
    levels = onnxruntime.GraphOptimizationLevel
    (output,) = _session(onnxruntime, model, levels.ORT_ENABLE_ALL, inputs.threads).run(
        ["object"], {"diffraction": inputs.patterns}
    )
    values = _session(onnxruntime, with_every_value(model, graph), levels.ORT_DISABLE_ALL, inputs.threads).run(
        names, {"diffraction": inputs.patterns}
    )
    return ComputedValues(
        name,
        versions={"onnxruntime": onnxruntime.__version__},
        weights=_initializers(graph, inputs.recipe),
        activations=dict(zip(names, values, strict=True)),
        object=output.view(np.complex64)[..., 0],
    )


def _session(onnxruntime: Any, model: bytes, level: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _initializers(graph: OnnxFile, recipe: Recipe) -> dict[str, NDArray[Any]]:
    found = graph.initializers
    return {name: found[name] for name in {**recipe.weight_shapes(), **recipe.constant_shapes()} if name in found}


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """Exit when the parent exits: it never writes to this pipe, so that reading returns only at its end."""
    os.read(sys.stdin.fileno(), 1)  # unbuffered: the interpreter needs the lock of the buffer when it exits
    os._exit(1)
