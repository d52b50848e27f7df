"""All modules that import tensorflow. Importing any of them first prepares the environment."""

from ptyonnx.backends.environment import prepare_for

prepare_for("tensorflow")
