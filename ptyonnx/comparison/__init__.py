"""Compare two bundles, two engines, or two images.

:func:`compare` compares on four levels: `identity`, `weights`, `activations` and images (`stitched`; single patches in
`patches`). `alignment`, `images`, `ring_correlation` and `similarity` compare images of any origin.
"""

from ptyonnx.comparison.activations import Activations, LayerDifference
from ptyonnx.comparison.alignment import Alignment, align
from ptyonnx.comparison.comparison import TOLERANCE, Comparison, compare
from ptyonnx.comparison.identity import GraphComparison, Identity, ManifestDifference, compare_graphs, compare_manifests
from ptyonnx.comparison.images import Difference, aligned, difference, global_factor, on_canvas, phase_correlation
from ptyonnx.comparison.implementation import Implementation, open_implementation
from ptyonnx.comparison.patches import PatchComparison
from ptyonnx.comparison.ring_correlation import RingCorrelation, ring_correlation
from ptyonnx.comparison.similarity import Similarity
from ptyonnx.comparison.stitched import ImageComparison, Images, compare_objects
from ptyonnx.comparison.weights import WeightDifference, Weights, compare_weights

__all__ = [
    "TOLERANCE",
    "Activations",
    "Alignment",
    "Comparison",
    "Difference",
    "GraphComparison",
    "Identity",
    "ImageComparison",
    "Images",
    "Implementation",
    "LayerDifference",
    "ManifestDifference",
    "PatchComparison",
    "RingCorrelation",
    "Similarity",
    "WeightDifference",
    "Weights",
    "align",
    "aligned",
    "compare",
    "compare_graphs",
    "compare_manifests",
    "compare_objects",
    "compare_weights",
    "difference",
    "global_factor",
    "on_canvas",
    "open_implementation",
    "phase_correlation",
    "ring_correlation",
]
