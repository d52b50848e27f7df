"""Training, framework by framework but by the same rules: data, objective, schedule, journal."""

from ptyonnx.training.observer import Observer, Unobserved

__all__ = ["Observer", "Unobserved"]
