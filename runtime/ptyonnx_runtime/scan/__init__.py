"""A ptychographic scan, and the checks that every scan passes before it is used."""

from ptyonnx_runtime.scan.scan import CHUNK, InspectedPatterns, Patterns, Scan, chunks

__all__ = ["CHUNK", "InspectedPatterns", "Patterns", "Scan", "chunks"]
