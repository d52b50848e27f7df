"""The run directory: its record, its history, its checkpoints, and its lock."""
