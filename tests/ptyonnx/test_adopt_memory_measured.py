"""The estimated memory of a graph compared with that of onnxruntime: never less, and not many times more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from memory_networks import NETWORKS

from ptyonnx_bundles.errors import ConversionError
from ptyonnx_converters.foreign import memory
from ptyonnx_converters.foreign.memory import check_memory

MiB = 2**20
BATCH = 16
SLACK = 4 * MiB  # of the allocator, which uses again what another session freed, and of the session itself
ARENA = 1.25  # onnxruntime's arena keeps freed blocks that fit nothing that comes later
MOST = 3.0
SPARSE = {"one channel": 16.0}  # is computed in blocks of 16 channels, of 8, or in none, as the processor has them
# Each network in a forked process: its highest resident memory above what the parent has.
MEASURE = """
import json, os, re, sys
import numpy as np, onnxruntime
from memory_networks import NETWORKS

def kilobytes(key):
    with open("/proc/self/status") as stream:
        return int(re.search(key + r":\\s+(\\d+)", stream.read())[1])

def run(content, values, arena):
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": values})
    return session

small = NETWORKS["convolutions"](1).SerializeToString()
for name, make in NETWORKS.items():
    model = make(int(sys.argv[1]))
    content = model.SerializeToString()
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    values = np.ones(shape, np.float32)
    for arena in (False, True):
        sys.stdout.flush()
        if os.fork() == 0:
            run(small, np.ones((1, 1, 64, 64), np.float32), False)  # what the first session of a process takes
            before = kilobytes("VmRSS")
            session = run(content, values, arena)
            print(json.dumps([name, arena, (kilobytes("VmHWM") - before) * 1024, len(content)]), flush=True)
            os._exit(0)
        assert os.wait()[1] == 0
"""


def estimated(name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The smallest bound, to a hundredth, that lets a network pass."""
    model = NETWORKS[name](BATCH)
    N = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    low, high = 1, 2**40
    monkeypatch.setattr(memory, "_LARGEST_PER_PATTERN", 2**50)
    while high > 1.01 * low:
        middle = (low + high) // 2 if low > 1 and high < 2 * low else int((low * high) ** 0.5)
        monkeypatch.setattr(memory, "_LARGEST", middle)
        try:
            check_memory(model, {"x": (BATCH, 1, N, N)}, N, BATCH, None)
            high = middle
        except ConversionError:
            low = middle
    return high


def test_no_network_takes_more_than_was_said_and_none_much_less(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = Path(__file__).parents[1]
    outcome = subprocess.run(
        [sys.executable, "-c", MEASURE, str(BATCH)], cwd=tests, capture_output=True, text=True, check=True, timeout=300
    )
    measured = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert len(measured) == 2 * len(NETWORKS)
    wrong = []
    for name, arena, taken, file in measured:
        said = estimated(name, monkeypatch)
        weights = 5 * file  # read, decoded, transposed and packed
        if not taken <= said * (ARENA if arena else 1) + weights + SLACK or (
            not arena and said > SPARSE.get(name, MOST) * (taken + SLACK)
        ):
            wrong.append(f"{name}{', arena' if arena else ''}: {taken / MiB:.1f} MiB taken, {said / MiB:.1f} said")
    assert wrong == []


@pytest.mark.parametrize("batch", [1, 4])
def test_a_unet_with_transposed_convolutions_is_not_refused(batch: int) -> None:
    """Input channels and batch were counted once too often: 521 and 2084 MiB instead of 25 and 97."""
    model = NETWORKS["transposed, many channels"](batch)
    check_memory(model, {"x": (batch, 1, 64, 64)}, 64, batch, None)


def test_what_a_transposed_convolution_takes_grows_with_its_kernel_not_with_its_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of "transposed by 1": 64 x 64 pixels x 16 channels x 25 elements, 6.25 MiB in float32 for every batch."""
    one, many = (estimated_for("transposed by 1", batch, monkeypatch) for batch in (1, 9))
    per_pattern = (many - one) / 8
    assert one - per_pattern == pytest.approx(64 * 64 * 16 * 25 * 4, rel=0.1)


def estimated_for(name: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys.modules[__name__], "BATCH", batch)
    return estimated(name, monkeypatch)
