"""A bound on onnxruntime's arena, from which most operators take the memory of their results.

A native graph is prescribed by its recipe, so its memory is known. A foreign one may multiply what
it is given (`Expand`, `Resize`, `Pad`) by numbers that only show when it runs. The arena says which
operator asks for too much. Some operators allocate outside of it: what bounds all is the process
that a foreign graph runs in (`foreign_process`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["NOT_BOUNDED", "bound_memory"]

# What is constant is computed while a graph is opened, before any bound holds, and kept.
NOT_BOUNDED = ("ConstantFolding",)
_SAME_AS_REQUESTED = 1  # the arena grows by what is asked for, not to the next power of two
_DEFAULT = -1


def bound_memory(options: onnxruntime.SessionOptions, largest_bytes: int) -> None:
    """Let a session on the CPU take its memory from an arena that refuses to grow beyond a limit.

    The session has to be opened without the optimisers in :data:`NOT_BOUNDED`. Releases of
    onnxruntime that keep the first arena of a process share it, and its limit, among these sessions.

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
