"""A bundle's object has all bits of float32 on a GPU, too: onnxruntime's CUDA provider is told so."""

from typing import Any

import onnxruntime
import pytest

from ptyonnx_bundles.errors import ProviderError
from ptyonnx_runtime.inference.onnx_session import PROVIDERS
from ptyonnx_runtime.inference.session import Session

CUDA = (PROVIDERS["cuda"], {"use_tf32": "0"})


@pytest.mark.parametrize("name, given", [("cuda", [CUDA]), ("tensorrt", [(PROVIDERS["tensorrt"], {}), CUDA])])
def test_cuda_computes_without_tf32_also_what_tensorrt_leaves_to_it(
    bundles: Any, name: str, given: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT itself takes no such option: it decides on the precision of its convolutions."""
    bundle, seen = bundles(), list[Any]()

    def refusing(model: bytes, options: Any, *, providers: list[Any], **_: Any) -> Any:
        del model, options
        seen.extend(providers)
        raise RuntimeError("no driver")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", refusing)
    with pytest.raises(ProviderError):
        Session(bundle, name)
    assert seen == given
