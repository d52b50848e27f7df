"""Run a stranger's graph in a process of its own, with limits on memory and time.

Three things that a valid graph can do are out of reach of anything in the same process: divide the
smallest int64 by -1, which ends the process with SIGFPE; allocate outside of onnxruntime's arena; and
compute for hours in one operator, which no flag interrupts. A process of its own survives all three
for its parent.

`process` is the parent's side and `service` the child's; `channel` carries arrays between them.
What a graph is run with is for runtime and converters to say: nothing here knows onnxruntime.
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
