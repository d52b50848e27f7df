"""Run an untrusted graph in a separate process, with limits on memory and time.

A valid graph can do three things that no code in the same process can prevent: divide the smallest int64
by -1, which ends the process with SIGFPE; allocate outside of onnxruntime's arena; and compute for hours
in one operator, which no flag interrupts. In a child process, the parent survives all three.

`confined_graph` is the parent's side and `child` the child's; `channel` transfers arrays between them.
Runtime and converters choose the library that runs the graph; this package does not depend on it.

The child that reads HDF5 (`ptyonnx_converters.hdf5`) is separate: it is a plain script on pipes that also
works on Windows, where no sockets are passed to children, and it limits every request by itself.
"""

from __future__ import annotations

from ptyonnx_bundles.confinement.child import Opened, limit_memory, serve
from ptyonnx_bundles.confinement.confined_graph import (
    DEFAULT_LIMIT_S,
    LARGEST_FOREIGN_BYTES,
    ConfinedGraph,
    Confinement,
)

__all__ = [
    "DEFAULT_LIMIT_S",
    "LARGEST_FOREIGN_BYTES",
    "ConfinedGraph",
    "Confinement",
    "Opened",
    "limit_memory",
    "serve",
]
