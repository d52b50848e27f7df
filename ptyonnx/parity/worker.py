"""What a child process does: look at one implementation, write down what it computes, and end.

`main` is given two words on the command line: a folder that holds the inputs, and pytorch, tensorflow
or onnxruntime. On stdout the child says line by line what it is at; what it found
ends in `computed_values.npz`. Threads are fixed by the parent, in the environment.
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

COMPUTED = "computed_values.npz"  # what was found

MODEL = "model.onnx"  # what onnxruntime is to run
STAGE = "stage: "  # begins a line of progress
REFUSED = "refused: "  # begins the line of an error that the user can mend
_EXIT_REFUSED = 2
_LONGEST_REFUSAL = 500  # characters


def main() -> int:
    """Examine one implementation."""
    folder, implementation = Path(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        look = _look_at_onnxruntime if implementation == "onnxruntime" else _look_at_framework
        look(SharedInputs.read(folder), implementation, folder).write(folder / COMPUTED)
    except PtyonnxError as error:
        _say(f"{REFUSED}{error}")
        return _EXIT_REFUSED
    return 0


def _look_at_framework(inputs: SharedInputs, name: str, folder: Path) -> ComputedValues:
    """Weights, values, physics, gradients, training and export of PyTorch or TensorFlow."""
    del folder
    _say(f"{STAGE}loading")
    engine = backends.load(name)
    engine.check(inputs.settings)
    introspection = import_module(f"ptyonnx.backends.{name}.introspection").Introspection(inputs.task)
    batch = inputs.batches[0]
    _say(f"{STAGE}forward pass")
    found = ComputedValues(
        name,
        versions=engine.versions(),
        weights=introspection.weights(),
        activations=in_recipe_order(inputs.recipe, introspection.values(inputs.patterns)),
        object=introspection.object(inputs.patterns),
    )
    _say(f"{STAGE}physics")
    found = replace(found, intensity=introspection.intensity(inputs.patch, batch.offset_px))
    _say(f"{STAGE}gradients")
    branches = branches_of(inputs.recipe, introspection.values(batch.diffraction))
    found = replace(found, gradients=introspection.gradients(batch), branches=branches)
    _say(f"{STAGE}training")
    found = replace(found, losses=_train(engine, inputs))
    _say(f"{STAGE}export")
    try:
        return replace(found, model=engine.convert(inputs.recipe, inputs.weights)[0])
    except Exception as error:  # noqa: BLE001 - whatever an exporter raises is what is wrong with it
        return replace(found, refusal=" ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REFUSAL])


def _train(engine: backends.Backend, inputs: SharedInputs) -> NDArray[np.float64]:
    """Losses of the first steps of training as users have it: batches, rates, clipping, Adam.

    NaN from where training failed.
    """
    losses: list[float] = []

    class Observer(Unobserved):
        def step(self, loss: float, r_factor: float) -> None:
            del r_factor
            losses.append(loss)
            if len(losses) == inputs.steps:
                raise KeyboardInterrupt  # as a user would end it

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt, TrainingError):
        engine.fit(inputs.task, Journal(Path(folder), inputs.settings, Observer()))
    return np.array([*losses, *[np.nan] * (inputs.steps - len(losses))])


def _look_at_onnxruntime(inputs: SharedInputs, name: str, folder: Path) -> ComputedValues:
    """What onnxruntime makes of an exported model: its output as users get it, and every value on the way."""
    from ptyonnx_runtime.inference.activations import value_names, with_every_value
    from ptyonnx_runtime.inference.installation import require_onnxruntime

    _say(f"{STAGE}loading")
    onnxruntime = require_onnxruntime()
    model = (folder / MODEL).read_bytes()
    graph = read_onnx(model)
    names = value_names(graph)
    _say(f"{STAGE}forward pass")
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


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """End when the parent does, however it ends: it never writes, so that reading ends with it."""
    os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock the interpreter wants when it ends
    os._exit(1)
