"""Training, apart from the frameworks: data, objective, schedule and journal."""

from ptyonnx.training.observer import Observer, Unobserved

__all__ = ["Observer", "Unobserved"]
