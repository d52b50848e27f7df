"""A bundle proves on arrival that it computes what it computed at home."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ptyonnx_runtime.inference.verify import verify

pytestmark = pytest.mark.numerical


def test_a_bundle_as_it_was_made_passes(bundles: Any) -> None:
    found = verify(bundles(2), "cpu")
    assert found.passed
    assert found.provider == "cpu"
    assert 0 <= found.difference <= found.tolerance == pytest.approx(5e-5)


@pytest.mark.parametrize("wrong", [6e-5, np.nan])
def test_another_output_than_at_home_fails(bundles: Any, wrong: float) -> None:
    bundle = bundles()
    expected = bundle.selftest.object.copy()
    expected[1, 0, 5, 5] += wrong
    found = verify(replace(bundle, selftest=replace(bundle.selftest, object=expected)), "cpu")
    assert not found.passed
    assert found.difference >= 5e-5
