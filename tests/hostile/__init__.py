"""Damaged and hostile bundles, each made from a sample, with what a reader must say about it.

`python -m hostile FOLDER`, started in `tests/`, writes them as files, for people who write a
reader in another language.
"""

from hostile import arrays, foreign, metadata, models, raw_bytes
from hostile.cases import CASES, FOREIGN_CASES, FOREIGN_SAMPLE, SAMPLE

__all__ = ["CASES", "FOREIGN_CASES", "FOREIGN_SAMPLE", "SAMPLE", "arrays", "foreign", "metadata", "models", "raw_bytes"]
