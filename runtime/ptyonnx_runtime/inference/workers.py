"""Process a sequence with several threads, in order and with bounded memory.

onnxruntime and NumPy's inner loops release the interpreter lock, so that threads use all cores. Results are returned in
order, so that sums over them are reproducible.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ptyonnx_bundles.cores import cores
from ptyonnx_bundles.errors import SettingsError

__all__ = ["in_order", "worker_count"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count(threads: int) -> int:
    """Number of threads to use.

    Parameters
    ----------
    threads : int
        0: as many as there are cores.

    Raises
    ------
    SettingsError
        It is negative.
    """
    if threads < 0:
        raise SettingsError("must not be negative", key="threads", found=threads)
    return threads or cores()


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    abandon: Callable[[], None] | None = None,
) -> Generator[Result]:
    """Yield results of `function` in the order of `items`; at most ``2 * workers`` results wait.

    All threads have ended when the generator ends. A caller that may stop early has to close it
    (`contextlib.closing`), as an exception in the caller's loop does not.

    Parameters
    ----------
    function : callable
        Called in worker threads.
    items : iterable
    workers : int
        Number of threads.
    abandon : callable, optional
        Called after an error or an interruption. It should end what `function` is waiting for, so that the threads
        end soon.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ptyonnx") as executor:
        try:
            for item in items:
                waiting.append(executor.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # an error or an interruption: the remaining results are not needed
            executor.shutdown(wait=False, cancel_futures=True)
            if abandon is not None:
                abandon()
            raise
