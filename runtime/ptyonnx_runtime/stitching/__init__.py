"""Patches on one canvas: where they lie, their phases and weights, and how well the object explains the patterns."""
