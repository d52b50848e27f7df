"""Stitch patches on one canvas: positions, phases and weights of patches, and the residual of the object."""
