"""Write every hostile bundle, and `expected.json` with what has to be said about it."""

import json
import sys
from pathlib import Path

from hostile import CASES, SAMPLE

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
good = SAMPLE.read_bytes()
for name, (damage, _) in CASES.items():
    (folder / f"{name}.onnx").write_bytes(damage(good))
(folder / "expected.json").write_text(json.dumps({name: said for name, (_, said) in CASES.items()}, indent=1))
