"""Several threads, one order."""

import threading
import time

import pytest

from ptyonnx_runtime.inference.workers import in_order


def test_results_come_in_order_whoever_is_first() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.002 * (number % 3 == 0))
        return number**2

    assert list(in_order(slow_at_first, range(40), 4)) == [number**2 for number in range(40)]


def test_no_more_than_a_few_results_wait() -> None:
    started = []
    results = in_order(started.append, range(1000), 2)
    next(results)
    assert len(started) <= 6
    results.close()  # type: ignore[attr-defined]


def test_an_error_ends_the_work_and_its_threads() -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        list(in_order(fail, range(1000), 2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ptyonnx")]
