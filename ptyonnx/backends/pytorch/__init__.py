"""Everything that imports torch: whichever module is imported first, the environment is prepared before."""

from ptyonnx.backends.environment import prepare_for

prepare_for("torch")
