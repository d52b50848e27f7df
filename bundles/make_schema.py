"""Write `ptyonnx_bundles/schema*.json` anew from the classes of the manifest."""

from pathlib import Path

import ptyonnx_bundles
from ptyonnx_bundles import atomic_write
from ptyonnx_bundles.manifest import FOREIGN_PROTOCOL, generate_schema, schema_name

if __name__ == "__main__":
    for protocol in (1, FOREIGN_PROTOCOL):
        path = Path(ptyonnx_bundles.__file__).with_name(schema_name(protocol))
        atomic_write(path, generate_schema(protocol).encode())
