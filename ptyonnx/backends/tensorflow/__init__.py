"""Everything that imports tensorflow: whichever module is imported first, the environment is prepared before."""

from ptyonnx.backends.environment import prepare_for

prepare_for("tensorflow")
