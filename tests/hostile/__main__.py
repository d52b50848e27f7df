"""Write every hostile bundle, and `expected.json` with what has to be said about it."""

import json
import sys
from pathlib import Path

from hostile import CASES, FOREIGN_CASES, FOREIGN_SAMPLE, SAMPLE

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
expected = {}
for prefix, sample, cases in (("", SAMPLE, CASES), ("foreign_", FOREIGN_SAMPLE, FOREIGN_CASES)):
    for name, (damage, said) in cases.items():
        (folder / f"{prefix}{name}.onnx").write_bytes(damage(sample.read_bytes()))
        expected[prefix + name] = said
(folder / "expected.json").write_text(json.dumps(expected, indent=1))
