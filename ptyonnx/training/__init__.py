"""Training, framework by framework but by the same rules: data, objective, journal, run."""

from ptyonnx.training.observer import Observer, Unobserved
from ptyonnx.training.train import train

__all__ = ["Observer", "Unobserved", "train"]
