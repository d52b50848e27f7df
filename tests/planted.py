"""A child process of `parity` with faults in it.

`main` is given the folder of the shared inputs, and pytorch, tensorflow or onnxruntime.

Each function below plants one fault in the modules that the process has loaded and returns what
undoes it; then the real worker runs. The environment variable `PLANTED` names the faults of every
implementation, in JSON. They are tried one after the other in one process, since loading a
framework takes longer than all else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptyonnx.parity import check, worker, worker_process

Undo = Callable[[], None]

PLANTED = "PLANTED"

FLIPPED = "encoder.1.conv.0.weight"
SWAPPED = "decoder.amplitude.1.conv.1"
BIASED = "encoder.0.conv.1"


def computed_name(fault: str) -> str:
    """File name of what was found with a fault; without a name it is none."""
    return f"computed-{fault or 'as-it-is'}.npz"


def environment(faults: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Environment in which a child finds this module and the faults of its implementation."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, PLANTED: json.dumps(faults)}


@contextmanager
def in_children(**faults: str) -> Iterator[None]:
    """Let the children that `parity` starts here have a fault each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment({name: [fault] for name, fault in faults.items()}).items():
            patch.setenv(name, value)
        patch.setattr(check, "run_worker", partial(worker_process.run_worker, module=__name__))
        yield


def main() -> int:
    """Examine with every fault that is planted in this implementation."""
    folder, implementation = Path(sys.argv[1]), sys.argv[2]
    for fault in json.loads(os.environ[PLANTED]).get(implementation, [""]):
        undo = globals()[fault]() if fault else None
        code = worker.main()
        if code:
            return code
        if undo is not None:
            undo()
        evidence = (folder / worker.COMPUTED).read_bytes()  # parity itself reads the last one
        (folder / computed_name(fault)).write_bytes(evidence)
    return 0


def _patched(place: Any, name: str, value: Any) -> Undo:
    kept = getattr(place, name)
    setattr(place, name, value)
    return lambda: setattr(place, name, kept)


def _network(framework: str) -> Any:
    from importlib import import_module

    return import_module(f"ptyonnx.backends.{framework}.network")


def _computing_with(framework: str, change: Callable[[dict[str, np.ndarray]], None]) -> Undo:
    """Compute with other weights than are read back: nothing but the computation shows the fault."""
    cls = _network(framework).Network
    set_weights, kept = cls.set_weights_by_name, cls.weights_by_name

    def set_changed(self: Any, weights: dict[str, np.ndarray]) -> None:
        self.given = {name: array.copy() for name, array in weights.items()}
        changed = {name: array.copy() for name, array in weights.items()}
        change(changed)
        set_weights(self, changed)

    undo = _patched(cls, "set_weights_by_name", set_changed), _patched(cls, "weights_by_name", lambda self: self.given)
    del kept
    return lambda: [each() for each in undo] and None


def _flip(weights: dict[str, np.ndarray], bit: int) -> None:
    array = weights[FLIPPED]
    largest = np.unravel_index(np.abs(array).argmax(), array.shape)
    array.view(np.uint32)[largest] ^= np.uint32(1 << bit)


def _last_bit(framework: str) -> Undo:
    cls = _network(framework).Network
    set_weights = cls.set_weights_by_name

    def set_changed(self: Any, weights: dict[str, np.ndarray]) -> None:
        changed = {name: array.copy() for name, array in weights.items()}
        _flip(changed, 0)
        set_weights(self, changed)

    return _patched(cls, "set_weights_by_name", set_changed)


def last_bit_tensorflow() -> Undo:
    """The last bit of one weight, as the framework holds it."""
    return _last_bit("tensorflow")


def last_bit_pytorch() -> Undo:
    """The same in PyTorch."""
    return _last_bit("pytorch")


def hidden_bit_tensorflow() -> Undo:
    """A bit of the mantissa of one weight, only where it is computed with."""
    return _computing_with("tensorflow", lambda weights: _flip(weights, 19))


def swapped_filters_tensorflow() -> Undo:
    """The first two filters of one convolution."""

    def swap(weights: dict[str, np.ndarray]) -> None:
        for part in ("weight", "bias"):
            weights[f"{SWAPPED}.{part}"][:2] = weights[f"{SWAPPED}.{part}"][1::-1].copy()

    return _computing_with("tensorflow", swap)


def dropped_bias_tensorflow() -> Undo:
    """One convolution without its bias."""
    return _computing_with("tensorflow", lambda weights: weights[f"{BIASED}.bias"].fill(0))


def half_pixel_upsampling_tensorflow() -> Undo:
    """Nearest pixel of half-pixel coordinates, rounded down: (i + 0.5) / 2 - 0.5."""
    import tensorflow as tf

    def upsample(value: Any) -> Any:
        for axis in (1, 2):
            index = np.floor((np.arange(2 * value.shape[axis]) + 0.5) / 2 - 0.5).clip(0).astype(int)
            value = tf.gather(value, index, axis=axis)
        return value

    return _patched(_network("tensorflow"), "_upsample", upsample)


def padded_pooling_pytorch() -> Undo:
    """Pooling that begins one pixel before the border."""
    import torch

    pool = torch.nn.functional.max_pool2d

    def padded(value: Any, size: int) -> Any:
        return pool(value, size, padding=1)[..., :-1, :-1]

    return _patched(torch.nn.functional, "max_pool2d", padded)


def leaking_gradient_pytorch() -> Undo:
    """A rectifier that is right forwards and lets a little too much through backwards."""
    import torch

    rectify = torch.nn.functional.leaky_relu

    def leaking(value: Any, slope: float) -> Any:
        leak = 1e-2 * torch.clamp(value, max=0)
        return rectify(value, slope) + (leak - leak.detach())

    return _patched(torch.nn.functional, "leaky_relu", leaking)


def shifted_dft() -> Undo:
    """A Fourier transform whose zero frequency lies one pixel beside the middle."""
    from ptyonnx.training import objective
    from ptyonnx_runtime.physics import Pair

    exact = objective.dft_matrix
    return _patched(objective, "dft_matrix", lambda N: Pair(*(np.roll(part, 1, axis=0) for part in exact(N))))


def conjugated_probe_tensorflow() -> Undo:
    """A probe that is refined in the wrong direction: nothing shows before it moves."""
    from ptyonnx.backends.tensorflow.training import Reconstructor
    from ptyonnx_runtime.physics import Pair

    exact = Reconstructor.probe

    def conjugated(self: Any) -> Pair:
        fixed = self.task.probe_pair.imag
        real, imag = exact(self)
        return Pair(real, 2 * fixed - imag)

    return _patched(Reconstructor, "probe", conjugated)


def lifted_logarithm() -> Undo:
    """Another floor under the logarithm of the loss."""
    from ptyonnx.training import objective

    return _patched(objective, "LOG_FLOOR", 1e-2)


def doubled_rate() -> Undo:
    """Twice the learning rate."""
    from ptyonnx.training import task

    exact = task.one_cycle
    return _patched(task, "one_cycle", lambda *arguments: 2 * exact(*arguments))


def lost_after_three_steps() -> Undo:
    """Training that is as it should be for two steps and then leads nowhere."""
    from ptyonnx.training import task

    exact = task.one_cycle

    def rates(*arguments: Any) -> Any:
        rate = np.array(exact(*arguments))
        rate[2:] = np.nan
        return rate

    return _patched(task, "one_cycle", rates)


def no_gradients_pytorch() -> Undo:
    """Gradients that nobody hands over."""
    from ptyonnx.backends.pytorch.introspection import Introspection

    return _patched(Introspection, "gradients", lambda *_: {})


def export_without_bias() -> Undo:
    """An exporter that drops a bias, with nobody behind it to put it back."""
    import onnx

    def drop(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.name == BIASED)
        del node.input[2]
        (bias,) = (each for each in model.graph.initializer if each.name == f"{BIASED}.bias")
        model.graph.initializer.remove(bias)

    return _exporting(drop)


def export_half_pixel() -> Undo:
    """An exporter that writes half-pixel upsampling."""

    def bend(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Resize")
        (mode,) = (each for each in node.attribute if each.name == "coordinate_transformation_mode")
        mode.s = b"half_pixel"

    return _exporting(bend)


def export_renamed_input() -> Undo:
    """An exporter that calls the input something else."""

    def rename(model: Any) -> None:
        model.graph.input[0].name = model.graph.node[0].input[0] = "pattern"

    return _exporting(rename)


def _exporting(change: Callable[[Any], None]) -> Undo:
    import onnx

    from ptyonnx_converters import canonical

    exact = canonical.canonical_model

    def changed(*arguments: Any) -> bytes:
        model = onnx.load_from_string(exact(*arguments))
        change(model)
        return model.SerializeToString()

    return _patched(canonical, "canonical_model", changed)


def death() -> Undo:
    """A process that dies, as one does without memory."""
    sys.stderr.write("something before\nterminate called after throwing std::bad_alloc\n")
    sys.stderr.flush()
    os.abort()


def killed_after_loading_tensorflow() -> Undo:
    """A process that the system ends, when TensorFlow has said what it says of every machine."""
    import tensorflow as tf

    tf.zeros(3)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def silence() -> Undo:
    """A process that hangs, and tells where it can be found."""

    def hang(folder: Path) -> None:
        del folder
        sys.stderr.write("waiting for a lock\n")
        sys.stderr.flush()
        Path(os.environ["PLANTED_PID"]).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(600)

    return _patched(worker.SharedInputs, "read", hang)
