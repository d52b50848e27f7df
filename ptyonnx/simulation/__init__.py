"""Scans computed from a known object and probe, with the forward model that training uses."""

from ptyonnx.simulation.forward import simulate
from ptyonnx.simulation.objects import load_object, object_from_images
from ptyonnx.simulation.positions import overlap_step, read_positions, scan_positions
from ptyonnx.simulation.probes import add_modes, load_probe

__all__ = [
    "add_modes",
    "load_object",
    "load_probe",
    "object_from_images",
    "overlap_step",
    "read_positions",
    "scan_positions",
    "simulate",
]
