"""Numbers that say how far two things are apart: one file for each kind of thing."""

from ptyonnx.comparison.compare import TOLERANCE, Comparison, ImageComparison, compare
from ptyonnx.comparison.images import Difference, aligned, difference, global_factor, on_canvas, phase_correlation
from ptyonnx.comparison.manifests import GraphComparison, ManifestDifference, compare_graphs, compare_manifests
from ptyonnx.comparison.patches import PatchComparison, compare_patches
from ptyonnx.comparison.weights import WeightDifference, compare_weights

__all__ = [
    "TOLERANCE",
    "Comparison",
    "Difference",
    "GraphComparison",
    "ImageComparison",
    "ManifestDifference",
    "PatchComparison",
    "WeightDifference",
    "aligned",
    "compare",
    "compare_graphs",
    "compare_manifests",
    "compare_patches",
    "compare_weights",
    "difference",
    "global_factor",
    "on_canvas",
    "phase_correlation",
]
