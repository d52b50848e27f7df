"""The run directory: its record, its history, its checkpoints, and who may write to it."""
