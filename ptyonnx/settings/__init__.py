"""Settings of a training: read from YAML and from the command line, checked once."""

from ptyonnx.settings.settings import MOST_EPOCHS, Loss, Settings, shown

__all__ = ["MOST_EPOCHS", "Loss", "Settings", "shown"]
