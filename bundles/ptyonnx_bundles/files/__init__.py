"""Files and folders: atomic writes, locks, temporary folders, and bounded readers of NPY and ZIP."""
