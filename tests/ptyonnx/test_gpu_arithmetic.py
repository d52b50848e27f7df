"""What a GPU is told: float32 with all of its bits, and one line where its memory is used up.

None of it needs a GPU: the frameworks keep these switches, and run out of memory, without one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundle_factory import make_bundle
from small_training import SMALL, simulated_scan

from ptyonnx.backends import BACKENDS, load_part
from ptyonnx.backends.engines import open_engine
from ptyonnx.exchange.training import train
from ptyonnx.runs.run import Run
from ptyonnx.settings import Settings
from ptyonnx.training import Unobserved
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import ProviderError

SETTINGS = Settings.model_validate({**SMALL, "epochs": 2})
TOO_MANY = 2**24  # float32 in a square of so many rows: a petabyte


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle.onnx", Recipe(N=32, filters_scale=0.125, depth=2))


def torch_switches() -> tuple[Any, ...]:
    import torch

    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    if newer_settings_of_torch():
        full = cudnn.conv.fp32_precision == "ieee", matmul.fp32_precision == "ieee"
    else:
        full = not cudnn.allow_tf32, not matmul.allow_tf32
    return *full, cudnn.deterministic, cudnn.benchmark


def newer_settings_of_torch() -> bool:
    """Whether PyTorch has `fp32_precision` (since 2.9) beside `allow_tf32`."""
    import torch

    return hasattr(torch.backends.cuda.matmul, "fp32_precision")


def tensorflow_switches() -> tuple[Any, ...]:
    import tensorflow as tf

    return (tf.config.experimental.tensor_float_32_execution_enabled(),)


SWITCHES: dict[str, Callable[[], tuple[Any, ...]]] = {"pytorch": torch_switches, "tensorflow": tensorflow_switches}
FULL = {"pytorch": (True, True, True, False), "tensorflow": (False,)}


def as_they_are() -> None:
    """As a framework has them of itself."""


def high_precision_of_torch() -> None:
    """As Lightning advises."""
    import torch

    torch.set_float32_matmul_precision("high")


def newer_precision_of_torch() -> None:
    import torch

    if newer_settings_of_torch():
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    else:
        torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True


@pytest.fixture(
    params=[
        ("pytorch", as_they_are),
        ("pytorch", high_precision_of_torch),
        ("pytorch", newer_precision_of_torch),
        ("tensorflow", as_they_are),
    ],
    ids=lambda param: f"{param[0]}-{param[1].__name__}",
)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    name, prepare = request.param
    prepare()
    yield name
    if name == "pytorch":
        import torch

        torch.set_float32_matmul_precision("highest")
        if newer_settings_of_torch():
            torch.backends.cuda.matmul.fp32_precision = "none"
            torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.cudnn.benchmark = False


def test_an_engine_computes_with_all_bits_of_float32_and_leaves_the_process_as_it_was(
    backend: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(bundle, backend, provider="cpu", threads=1)
    seen: list[tuple[Any, ...]] = []
    network = load_part(backend, "network").Network
    compute = network.real_and_imag
    monkeypatch.setattr(network, "real_and_imag", lambda *given: (seen.append(SWITCHES[backend]()), compute(*given))[1])
    before = SWITCHES[backend]()
    engine.run(bundle.selftest.diffraction)
    engine.activations(bundle.selftest.diffraction)
    assert seen == [FULL[backend]] * 2
    assert SWITCHES[backend]() == before != FULL[backend]


def test_training_has_all_bits_of_float32_and_leaves_the_process_as_it_was(backend: str, tmp_path: Path) -> None:
    class Watching(Unobserved):
        seen: set[tuple[Any, ...]] = set()  # noqa: RUF012 - of one test

        def step(self, loss: float, r_factor: float) -> None:
            del loss, r_factor
            self.seen.add(SWITCHES[backend]())

    before = SWITCHES[backend]()
    settings = SETTINGS.model_copy(update={"epochs": 1, "precision": "float32"})
    train(backend, simulated_scan(), settings, tmp_path / "run", observer=Watching())
    assert Watching.seen == {FULL[backend]}
    assert SWITCHES[backend]() == before != FULL[backend]


def test_full_float32_of_pytorch_before_2_9(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `fp32_precision`, the older switches forbid TF32 and are restored."""
    import torch

    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    torch.set_float32_matmul_precision("high")
    newer = type(matmul).__getattr__

    def older(self: Any, name: str) -> Any:
        if name == "fp32_precision":
            raise AttributeError(name)
        return newer(self, name)

    monkeypatch.setattr(type(matmul), "__getattr__", older)
    assert not newer_settings_of_torch()
    before = torch_switches()
    try:
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (True, True)
        with load_part("pytorch", "device").full_float32():
            assert (cudnn.allow_tf32, matmul.allow_tf32) == (False, False)
            assert torch.get_float32_matmul_precision() == "highest"
            assert torch_switches() == FULL["pytorch"]
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (True, True)
        assert torch.get_float32_matmul_precision() == "high"
        assert torch_switches() == before
    finally:
        monkeypatch.undo()
        torch.set_float32_matmul_precision("highest")


def without_memory(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that needs more memory than there is: what is said is the framework's own refusal."""
    network = load_part(backend, "network").Network
    compute = network.real_and_imag

    def real_and_imag(*given: Any) -> Any:
        real, imag = compute(*given)
        return real + USED_UP[backend](), imag

    monkeypatch.setattr(network, "real_and_imag", real_and_imag)


def too_much_for_torch() -> Any:
    import torch

    return torch.empty(TOO_MANY, TOO_MANY).sum()


def too_much_for_tensorflow() -> Any:
    """TensorFlow itself would wait ten seconds for memory that others may give back."""
    import tensorflow as tf

    if tf.executing_eagerly():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    def used_up() -> Any:
        raise MemoryError("OOM when allocating")  # becomes TensorFlow's own error, wrapped as errors of graphs are

    total = tf.numpy_function(used_up, [], tf.float32)
    total.set_shape(())
    return total


USED_UP: dict[str, Callable[[], Any]] = {"pytorch": too_much_for_torch, "tensorflow": too_much_for_tensorflow}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_engine_without_memory_says_so_in_one_line(
    backend: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(bundle, backend, provider="cpu", threads=1)
    without_memory(backend, monkeypatch)
    with pytest.raises(ProviderError, match=r"memory|OOM") as caught:
        engine.run(bundle.selftest.diffraction)
    assert caught.value.key == "device"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_without_memory_says_so_in_one_line_and_can_be_gone_on_with(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    with monkeypatch.context() as patched:
        without_memory(backend, patched)
        with pytest.raises(ProviderError, match=r"memory|OOM") as caught:
            train(backend, simulated_scan(), SETTINGS, directory)
    assert caught.value.key == "device"
    assert "\n" not in str(caught.value)
    assert Run.open(directory).record.state == "interrupted"
    run = train(backend, simulated_scan(), SETTINGS, directory, resume=True)
    assert (run.record.state, len(run.history)) == ("complete", SETTINGS.epochs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_errors_are_not_called_failures_of_a_device(backend: str) -> None:
    refusing = load_part(backend, "device").translate_device_errors
    with pytest.raises(RuntimeError, match="the shape of"), refusing("no", "none"):
        raise RuntimeError("the shape of the mask is wrong")
