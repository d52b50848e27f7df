"""A bundle's object has all bits of float32 on a GPU, too: onnxruntime is told so."""

from typing import Any

import onnxruntime
import pytest

from ptyonnx_bundles.errors import ProviderError
from ptyonnx_runtime.inference.onnx_session import PROVIDERS
from ptyonnx_runtime.inference.session import Session


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_session_on_a_gpu_convolves_without_tf32(bundles: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, asked = bundles(), list[Any]()

    def refusing(model: bytes, options: Any, *, providers: list[Any], **_: Any) -> Any:
        del model, options
        asked.extend(providers)
        raise RuntimeError("no driver")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", refusing)
    with pytest.raises(ProviderError):
        Session(bundle, name)
    assert (PROVIDERS["cuda"], {"use_tf32": "0"}) in asked
    assert asked[0][0] == PROVIDERS[name]
