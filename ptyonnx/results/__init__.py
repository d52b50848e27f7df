"""Reconstructions as users meet them: objects that can be saved and drawn, and their pictures."""
