"""All modules that import torch. Importing any of them first prepares the environment."""

from ptyonnx.backends.environment import prepare_for

prepare_for("torch")
