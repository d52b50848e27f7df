"""One set of weights in every implementation, each compared with float64 and with the others.

`examination` starts the implementations, each in a process of its own (`children`, `worker`),
on one `trial`. `arbiter` computes everything in float64 NumPy (`network`, `layers`,
`physics`). `tolerances` says how far float32 may be from that, `judge` compares, `result` is
what comes out.
"""

from ptyonnx.parity.examination import STEPS, TIMEOUT_s, check_parity
from ptyonnx.parity.result import STAGES, Agreement, Parity, Row, Verdict

__all__ = ["STAGES", "STEPS", "Agreement", "Parity", "Row", "TIMEOUT_s", "Verdict", "check_parity"]
