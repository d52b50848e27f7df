"""Copy the demo's pictures to where the README shows them, with a palette that makes them small."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COPIES = {"comparison.png": "siemens_star.png", "history.png": "history.png"}  # in demo/ -> in docs/images/
COLOURS = 256

if __name__ == "__main__":
    for source, target in COPIES.items():
        path = ROOT / "docs" / "images" / target
        with Image.open(ROOT / "demo" / source) as picture:
            picture.convert("RGB").quantize(COLOURS, kmeans=1).save(path, optimize=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
