"""The reference that comparison and parity share: networks and physics in float64, and models of float32 rounding."""
