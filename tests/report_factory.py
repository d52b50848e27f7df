"""Reports for tests: flat objects with one square, so that places and colours are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptyonnx.report import Curve, LayerError, Picture, Report, RingCorrelation, Table, Verdict

SHAPE = (120, 160)
SQUARE = (slice(50, 70), slice(80, 100))  # the same in amplitude and phase, of A and B
UNKNOWN_A, UNKNOWN_B = slice(0, 10), slice(110, 120)  # rows
A, B = (0.8, -0.5), (1.2, 0.5)  # amplitude and phase beside the square
INSIDE = (1.0, 0.0)  # in the square
HOSTILE = "</script><script>window.hostile = 1</script><img src=x onerror='window.hostile = 1'>\u202e&amp;{{ 7 * 7 }}"
LAYERS = ("whitening.scaled", "encoder.0.conv.0", "decoder.phase.0.conv.0", "decoder.phase.0.relu.0", "object")


def objects() -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """A and B."""
    images = []
    for amplitude, phase in (A, B):
        image = np.full(SHAPE, amplitude * np.exp(1j * phase), np.complex64)
        image[SQUARE] = INSIDE[0] * np.exp(1j * INSIDE[1])
        images.append(image)
    images[0][UNKNOWN_A], images[1][UNKNOWN_B] = np.nan, np.nan
    return images[0], images[1]


def shown(quantity: str, values: tuple[float, float]) -> float:
    """What the page shows of an amplitude and a phase: the mean phase of A, or of B where A is unknown, is removed."""
    first, second = objects()
    mean = np.where(np.isfinite(first), first, second).astype(complex).mean()
    return values[0] if quantity == "amplitude" else values[1] - float(np.angle(mean))


def make_report(name: str = "b.onnx", **changes: object) -> Report:
    """A report with everything in it.

    Parameters
    ----------
    name : str
        Of the second bundle, wherever it stands.
    changes : object
        Other fields.
    """
    first, second = objects()
    epochs = np.arange(1, 11)
    frequency = np.arange(1, 31) / 60
    errors = (0.0, 2e-6, 3e-3, 4e-3, float("nan"))
    fields: dict[str, object] = {
        "title": f"a.onnx and {name}",
        "subtitle": f"Of {name}",
        "outcome": Verdict("outcome", False, f"{name} is beyond the tolerance"),
        "verdicts": (
            Verdict("identity", None, f"{name} is another function"),
            Verdict("weights", False, "1 of 14 arrays differs: 3.1e-03"),
            Verdict("activations", False, "the two part at decoder.phase.0.conv.0"),
            Verdict("images", True, "within 1e-3"),
        ),
        "tables": (
            Table("Figures", ("figure", "value"), (("rms", 1.23456e-5), ("none", None)), "images"),
            Table(
                "Weights", ("name", "largest", "shape"), ((name, 0.25, "(3, 3)"), ("w.bias", 0.0, "(3,)")), "weights"
            ),
            Table("Manifests", ("entry", "A", "B"), (("name", "a", name),), "manifests"),
        ),
        "layers": tuple(LayerError(layer, error, error / 3, 1e-4) for layer, error in zip(LAYERS, errors, strict=True)),
        "curves": (Curve("A, training", epochs, 1 / epochs), Curve(f"{name}", epochs, 0.9 / epochs, "b", dashed=True)),
        "ring": RingCorrelation(frequency, 1 - 1.8 * frequency, np.full(30, 0.3), 2.57, 2.57e-8),
        "picture_a": Picture("a.onnx", first),
        "picture_b": Picture(name, second),
        "object_pixel_size_m": 1e-8,
        **changes,
    }
    return Report(**fields)  # type: ignore[arg-type]
