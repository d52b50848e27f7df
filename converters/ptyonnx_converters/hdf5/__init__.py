"""Read untrusted HDF5 files in a separate process."""

from ptyonnx_converters.hdf5.reader import Hdf5File

__all__ = ["Hdf5File"]
