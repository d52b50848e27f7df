"""Write `ptyonnx_bundles/schema.json` anew from the classes of the manifest."""

from pathlib import Path

import ptyonnx_bundles
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.manifest import generate_schema

if __name__ == "__main__":
    atomic_write(Path(ptyonnx_bundles.__file__).with_name("schema.json"), generate_schema().encode())
