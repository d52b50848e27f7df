"""A limit on onnxruntime's arena, from which most operators allocate their outputs.

The recipe of a native graph determines its memory. A foreign graph may enlarge its input (`Expand`, `Resize`, `Pad`) by
factors that are known only at run time. The limited arena names the operator that needs too much. Some operators allocate
outside of the arena; the memory limit of the child process (`foreign_process`) covers those too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["UNBOUNDED_OPTIMIZERS", "bound_memory"]

# Constant folding runs while a graph is opened, before the limit applies, and its results stay in memory.
UNBOUNDED_OPTIMIZERS = ("ConstantFolding",)
_SAME_AS_REQUESTED = 1  # the arena grows by the requested size, not to the next power of two
_DEFAULT = -1


def bound_memory(options: onnxruntime.SessionOptions, largest_bytes: int) -> None:
    """Let a session on the CPU allocate from an arena that does not grow beyond a limit.

    The session has to be opened without the optimisers in :data:`UNBOUNDED_OPTIMIZERS`. Some releases of onnxruntime keep the
    first arena of a process; sessions then share it and its limit.

    Parameters
    ----------
    options : SessionOptions
        Changed.
    largest_bytes : int
    """
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    limits = ort.OrtArenaCfg(largest_bytes, _SAME_AS_REQUESTED, _DEFAULT, _DEFAULT)
    try:
        ort.create_and_register_allocator(place, limits)
    except InvalidArgument as error:
        if "already been registered" not in str(error):
            raise
    options.add_session_config_entry("session.use_env_allocators", "1")
