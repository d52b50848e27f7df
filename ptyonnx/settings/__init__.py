"""Settings of a training: read from YAML and the command line, and validated."""

from ptyonnx.settings.settings import MOST_EPOCHS, Loss, Settings, format_for_error

__all__ = ["MOST_EPOCHS", "Loss", "Settings", "format_for_error"]
