"""Scans that are simulated from a known object and probe, with the forward model that training uses."""

from ptyonnx.simulation.forward import simulate
from ptyonnx.simulation.objects import object_from_images
from ptyonnx.simulation.positions import overlap_step, scan_positions
from ptyonnx.simulation.probes import add_modes

__all__ = ["add_modes", "object_from_images", "overlap_step", "scan_positions", "simulate"]
