"""Damaged and hostile bundles, each made from the sample, with what a reader must say about it.

`python -m hostile FOLDER`, started in `tests/`, writes them as files, for people who write a
reader in another language.
"""

from hostile import arrays, metadata, models, raw_bytes
from hostile.cases import CASES, SAMPLE

__all__ = ["CASES", "SAMPLE", "arrays", "metadata", "models", "raw_bytes"]
