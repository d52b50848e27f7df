"""HDF5 files from strangers, read in a process of its own."""

from ptyonnx_converters.hdf5.reader import Hdf5File

__all__ = ["Hdf5File"]
