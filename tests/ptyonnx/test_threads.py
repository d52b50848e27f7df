"""Threads of both frameworks follow what a process may use; PyTorch's share the patterns of a batch."""

import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch
from float32_bounds import of_losses
from small_training import SMALL, Losses, simulated_scan

from ptyonnx import Settings, train
from ptyonnx.backends.pytorch import device as pytorch
from ptyonnx.backends.pytorch.data_parallel import Parts, data_parallel
from ptyonnx.backends.tensorflow import device as tensorflow


class Smooth(torch.nn.Module):
    """A network without branches, so that shares differ from the whole by rounding alone."""

    def __init__(self) -> None:
        super().__init__()
        self.frequency = torch.nn.Parameter(torch.linspace(0.5, 1.5, 4, dtype=torch.float64))
        self.height = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        self.seen: list[tuple[int, int, int]] = []

    def real_and_imag(self, diffraction: torch.Tensor) -> Parts:
        if len(diffraction) and diffraction[0, 0, 0, 0] < 0:
            raise ValueError("negative")
        self.seen.append((threading.get_ident(), len(diffraction), torch.get_num_threads()))
        wave = torch.sin(diffraction * self.frequency)
        return wave * self.height, torch.cos(wave)


def _batch(patterns: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((patterns, 1, 4, 4)))


def _gradients(network: Smooth, parts: Parts) -> list[torch.Tensor]:
    real, imag = parts
    return list(torch.autograd.grad((real * real * imag).sum(), list(network.parameters())))


@pytest.mark.numerical
@pytest.mark.parametrize("threads", [2, 3, 8])
def test_shares_give_the_values_and_gradients_of_the_whole(threads: int) -> None:
    network, batch = Smooth(), _batch()
    whole = network.real_and_imag(batch)
    expected = _gradients(network, whole)
    with data_parallel(network, threads) as shared:  # type: ignore[arg-type]  # as much of a network as it takes
        parts = shared(batch)
        found = _gradients(network, parts)
        with torch.no_grad():
            looked_at = shared(batch)
    for one, other in zip((*whole, *whole), (*parts, *looked_at), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=0)  # float64 sums of 80 terms, in another order


def test_every_share_has_a_thread_of_its_own_that_ends() -> None:
    network, before = Smooth(), threading.active_count()
    threads_per_operator = torch.get_num_threads()
    with data_parallel(network, 3) as shared:  # type: ignore[arg-type]
        shared(_batch(7))
        identities, sizes, per_operator = zip(*network.seen, strict=True)
        assert len(set(identities)) > 1
        assert sorted(sizes) == [2, 2, 3]
        assert set(per_operator) == {1}
    assert threading.active_count() == before
    assert torch.get_num_threads() == threads_per_operator


def test_an_error_in_a_share_is_raised() -> None:
    batch = _batch(4)
    batch[-1] = batch[-2] = -1
    with data_parallel(Smooth(), 2) as shared, pytest.raises(ValueError, match="negative"):  # type: ignore[arg-type]
        shared(batch)


@pytest.mark.numerical
def test_training_with_two_threads_repeats_its_bits_and_begins_like_one_thread(tmp_path: Path) -> None:
    scan = simulated_scan()
    found, losses = [], []
    for name, threads in (("one", 1), ("two", 2), ("again", 2)):
        observer = Losses()
        settings = Settings(**{**SMALL, "epochs": 1, "threads": threads})  # type: ignore[arg-type]
        run = train("pytorch", scan, settings, tmp_path / name, observer=observer)
        found.append(run.weights())
        losses.append(observer.losses)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=of_losses(16 * 32 * 32))
    assert losses[1] == losses[2]
    for name, array in found[1].items():
        assert array.tobytes() == found[2][name].tobytes(), name


def test_pytorch_has_no_more_threads_than_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(pytorch, "cores", lambda: 1)
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        pytorch.set_threads(0)
        assert torch.get_num_threads() == 2, "what the user has decided"
        monkeypatch.delenv("OMP_NUM_THREADS")
        pytorch.set_threads(0)
        assert torch.get_num_threads() == 1
        pytorch.set_threads(2)
        assert torch.get_num_threads() == 2, "what is asked for"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "threads, environment, already, expected",
    [
        (0, {}, 0, {"intra_op": 3, "inter_op": 3}),
        (2, {}, 0, {"intra_op": 2, "inter_op": 2}),
        (0, {"TF_NUM_INTRAOP_THREADS": "5"}, 0, {"inter_op": 3}),
        (0, {}, 4, {}),
    ],
)
def test_tensorflow_has_no_more_threads_than_the_process_may_use(
    threads: int, environment: dict[str, str], already: int, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, int] = {}
    for name in ("intra_op", "inter_op"):
        monkeypatch.delenv(f"TF_NUM_{name.replace('_', '').upper()}_THREADS", raising=False)
        monkeypatch.setattr(tf.config.threading, f"get_{name}_parallelism_threads", lambda: already)
        setter = f"set_{name}_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, setter, lambda number, name=name: found.update({name: number}))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tensorflow, "cores", lambda: 3)
    tensorflow.set_threads(threads)
    assert found == expected
