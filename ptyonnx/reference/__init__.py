"""The float64 reference of comparison and parity: network and physics in NumPy, and models of float32 rounding."""
