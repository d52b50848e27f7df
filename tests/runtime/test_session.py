"""A bundle runs on the provider that was asked for, or on none."""

import sys
from typing import Any

import numpy as np
import onnxruntime
import pytest
from bundle_factory import run_model

from ptyonnx_bundles.errors import MissingDependencyError, ProviderError
from ptyonnx_runtime.inference import installation
from ptyonnx_runtime.inference.onnx_session import PROVIDERS, providers
from ptyonnx_runtime.inference.session import Session

CPU = PROVIDERS["cpu"]


def test_this_machine_has_the_cpu() -> None:
    assert "cpu" in providers()


def test_the_names_are_those_of_onnxruntime() -> None:
    assert set(PROVIDERS.values()) <= set(onnxruntime.get_all_providers())


def test_the_session_computes_what_onnxruntime_alone_computes(bundles: Any) -> None:
    bundle = bundles(2)
    diffraction = np.random.default_rng(0).uniform(0, 20, (3, 4, 64, 64)).astype(np.float32)
    found = Session(bundle, "cpu", threads=1).run(diffraction)
    assert (found.shape, found.dtype) == ((3, 4, 64, 64), np.complex64)
    np.testing.assert_array_equal(found, run_model(bundle.model, diffraction))


def test_auto_takes_the_cpu_where_nothing_else_is(bundles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    assert Session(bundles(), "auto").provider == "cpu"


def test_auto_goes_on_and_says_so_where_a_provider_lacks_its_driver(
    bundles: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    claim_cuda(monkeypatch)
    assert Session(bundles(), "auto").provider == "cpu"
    assert "cuda cannot be used here" in caplog.text


def test_a_chosen_provider_that_fails_is_an_error_and_not_a_run_on_the_cpu(
    bundles: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    claim_cuda(monkeypatch)
    with pytest.raises(ProviderError, match=r"'cuda' is not available .*this machine has cuda, cpu"):
        Session(bundles(), "cuda")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["tensorrt", "coreml", "directml", "openvino"])
def test_a_provider_that_is_not_built_in_is_refused_with_what_there_is(
    bundles: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(ProviderError, match=f"'{name}' is not available .*found this machine has cpu") as caught:
        Session(bundles(), name)
    assert "\n" not in str(caught.value)


def test_an_unknown_provider_is_refused_with_all_names(bundles: Any) -> None:
    with pytest.raises(ProviderError, match="unknown provider 'gpu', expected auto, cpu, cuda, tensorrt"):
        Session(bundles(), "gpu")


def test_without_onnxruntime_the_command_to_type_is_named(bundles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'ptyonnx\[cpu\]'"):
        Session(bundles())


def test_two_builds_of_onnxruntime_beside_each_other_are_named(bundles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_installed", lambda: ("onnxruntime", "onnxruntime-gpu"))
    with pytest.raises(ProviderError, match="both installed and overwrite each other; pip uninstall"):
        Session(bundles(), "cuda")


def test_a_batch_that_cannot_be_computed_is_one_line(bundles: Any) -> None:
    with pytest.raises(ProviderError, match="could not compute a batch of 1 on cpu") as caught:
        Session(bundles(), "cpu").run(np.ones((1, 1, 64, 63), np.float32))
    assert "\n" not in str(caught.value)


def claim_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What onnxruntime-gpu without a driver does: CUDA is built in, and the session ends up on the CPU."""
    real = onnxruntime.InferenceSession

    def on_the_cpu(model: bytes, options: Any, **others: Any) -> Any:
        assert others["enable_fallback"] == 0
        return real(model, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS["cuda"], CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu)
