"""A bound on the memory that a stranger's graph takes while it runs, whatever it computes.

A native graph is prescribed by its recipe, so its memory is known. A foreign one may multiply what
it is given (`Expand`, `Resize`, `Pad`) by numbers that only show when it runs, and an operating
system that lends memory it does not have ends the process, or another one, when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["LARGEST_FOREIGN_BYTES", "NOT_BOUNDED", "bound_memory"]

LARGEST_FOREIGN_BYTES = 2**32  # of one session; as much as `adopt` allows a whole batch
# What is constant is computed while a graph is opened, before any bound holds, and kept.
NOT_BOUNDED = ("ConstantFolding",)
_SAME_AS_REQUESTED = 1  # the arena grows by what is asked for, not to the next power of two
_DEFAULT = -1


def bound_memory(options: onnxruntime.SessionOptions) -> None:
    """Let a session on the CPU take its memory from an arena that refuses to grow beyond a limit.

    The session has to be opened without the optimisers in :data:`NOT_BOUNDED`. Releases of
    onnxruntime that keep the first arena of a process share it, and its limit, among these sessions.

    Parameters
    ----------
    options : SessionOptions
        Changed.
    """
    import onnxruntime as ort
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    limits = ort.OrtArenaCfg(LARGEST_FOREIGN_BYTES, _SAME_AS_REQUESTED, _DEFAULT, _DEFAULT)
    try:
        ort.create_and_register_allocator(place, limits)
    except InvalidArgument as error:
        if "already been registered" not in str(error):
            raise
    options.add_session_config_entry("session.use_env_allocators", "1")
