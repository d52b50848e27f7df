"""Reconstructions that can be saved and drawn, and their pictures."""
