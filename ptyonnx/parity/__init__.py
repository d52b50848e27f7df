"""Compare every implementation of one network with a float64 reference and with the others.

:mod:`~ptyonnx.parity.check` runs each implementation in a process of its own (`worker_process`, `worker`) on the
same weights and patterns (`shared_inputs`) and collects what it computed (`computed_values`). `float64_reference`
computes the same in float64 NumPy; `monte_carlo_tolerances` derives how far float32 may be from it. `verdicts`
compares the two, and `result` holds the outcome.
"""

from ptyonnx.parity.check import STEPS, TIMEOUT_s, check_parity
from ptyonnx.parity.result import STAGES, Agreement, ImplementationVerdict, Parity, Row

__all__ = ["STAGES", "STEPS", "Agreement", "ImplementationVerdict", "Parity", "Row", "TIMEOUT_s", "check_parity"]
