"""From a measured scan to a comparison: train twice, export, reconstruct, compare, draw.

`make demo` runs it. Every step that takes time is a `ptyonnx` command. Each runs in a process of its own, so that the
two frameworks do not share a thread pool. Results are in `demo/`; `pictures.py` draws the pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pictures import draw_comparison, draw_history

from ptyonnx import PtyonnxError, Run, Scan, load_scan
from ptyonnx.comparison import on_canvas, phase_correlation
from ptyonnx.formats import load_result
from ptyonnx.formats.result import Result
from ptyonnx.results.picture import save_figure
from ptyonnx_bundles import atomic_write
from ptyonnx_runtime.stitching.residual import ForwardModel, r_factor
from ptyonnx_runtime.stitching.stitching import Frame

ROOT = Path(__file__).resolve().parent.parent
SCAN = ROOT / "samples" / "siemens_star_64.npz"
TITLES = {"tensorflow": "TensorFlow", "pytorch": "PyTorch"}
INTERRUPTED = 130  # exit code, as shells have it

Row = tuple[str, ...]


class CommandError(Exception):
    """A command failed and has printed the reason."""


@dataclass(frozen=True)
class Outcome:
    """The results of one framework."""

    seconds: float
    run: Run
    result: Result
    image: NDArray[np.complex64]  # (y, x), on the canvas of the reference
    correlation: float  # of the phase, with the reference


def main(arguments: Sequence[str] | None = None) -> int:
    """Make everything in the output folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "demo", help="folder for the results [demo]")
    parser.epilog = "All other arguments are passed on to 'ptyonnx train', such as --epochs 3 for a quick look."
    options, training = parser.parse_known_args(arguments)
    try:
        demonstrate(options.output.absolute(), training)
    except (CommandError, PtyonnxError) as error:
        print(f"demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def demonstrate(out: Path, training: Sequence[str]) -> None:
    """Run both frameworks, compare them, and print the results."""
    scan = load_scan(SCAN)
    out.mkdir(parents=True, exist_ok=True)
    outcomes = {backend: run_backend(backend, scan, out, training) for backend in TITLES}
    difference = compare_bundles(out)
    say("drawing comparison.png and history.png")
    objects = {TITLES[backend]: outcome.image for backend, outcome in outcomes.items()}
    save_figure(draw_comparison(scan, objects, captions(outcomes, scan)), out / "comparison.png")
    histories = {TITLES[backend]: outcome.run.history for backend, outcome in outcomes.items()}
    vacuum = next(iter(outcomes.values())).result.vacuum_r_factor
    save_figure(draw_history(histories, vacuum), out / "history.png")
    table = "\n".join(tabulate(outcomes, scan, difference))
    atomic_write(out / "table.md", f"{table}\n".encode())
    print(f"\n{table}\n")
    for path in sorted(path for path in out.iterdir() if path.is_file()):
        print(shown(path))


def run_backend(backend: str, scan: Scan, out: Path, training: Sequence[str]) -> Outcome:
    """Train with one framework, export, and reconstruct from the bundle."""
    run, bundle, result = out / backend, out / f"{backend}.onnx", out / f"{backend}.h5"
    say(f"{TITLES[backend]}: training, export, reconstruction")
    start = time.monotonic()
    ptyonnx("train", "--backend", backend, "--data", SCAN, "-o", run, "--overwrite", "--no-export", *training)
    seconds = time.monotonic() - start
    ptyonnx("export", run, "-o", bundle)
    ptyonnx("reconstruct", bundle, "--data", SCAN, "-o", result)
    stitched, reference = load_result(result), reference_of(scan)
    image = on_canvas(stitched.object, stitched.origin_px, reference.shape)
    return Outcome(seconds, Run.open(run), stitched, image, phase_correlation(image, reference))


def compare_bundles(out: Path) -> dict[str, Any]:
    """Compare the two bundles with `ptyonnx diff`.

    The tolerance is for one network in two formats; two trainings always exceed it, so that none is set.
    """
    say("Comparing the two bundles")
    bundles = [out / f"{backend}.onnx" for backend in TITLES]
    target = out / "difference.json"
    report = ptyonnx("diff", *bundles, "--data", SCAN, "--tolerance", "inf", "--json", output=target)
    found: dict[str, Any] = json.loads(report)
    return found


def ptyonnx(*words: str | Path, output: Path | None = None) -> str:
    """Print a command as it would be typed, and run it; its progress is shown.

    Raises
    ------
    CommandError
        Its exit code is not 0.
    """
    typed = ["ptyonnx", *(shown(word) if isinstance(word, Path) else word for word in words)]
    print(f"\n$ {' '.join(typed)}{f' > {shown(output)}' if output else ''}", flush=True)
    command = [sys.executable, "-m", *typed]
    done = subprocess.run(command, stdout=subprocess.PIPE if output else None, text=True, check=False)
    if done.returncode:
        raise CommandError(f"'{' '.join(typed)}' ended with exit code {done.returncode}; the reason is printed above")
    if output:
        atomic_write(output, done.stdout.encode())
    return done.stdout or ""


def reference_of(scan: Scan) -> Any:
    """The iterative reconstruction in the sample's file, (y, x) complex64."""
    if scan.object is None:
        raise CommandError(f"{scan.name} has no reference (objectGuess)")
    return scan.object


def reference_r_factor(scan: Scan) -> float:
    """The R-factor of the reference, with the forward model of the other R-factors."""
    reference = reference_of(scan)
    assert scan.probe is not None, "training needed it"
    model = ForwardModel(reference, Frame((0, 0), reference.shape), scan.probe)
    misfit = model.compare(scan.diffraction[:], scan.positions_px)
    return r_factor(misfit.object, misfit.measured)


def captions(outcomes: dict[str, Outcome], scan: Scan) -> dict[str, str]:
    """A line of figures for each image."""
    lines = {
        TITLES[backend]: f"R-factor {outcome.result.r_factor:.3f}, phase correlation {outcome.correlation:.3f}"
        for backend, outcome in outcomes.items()
    }
    return {"iterative reference": f"R-factor {reference_r_factor(scan):.3f}", **lines}


def tabulate(outcomes: dict[str, Outcome], scan: Scan, difference: dict[str, Any]) -> Iterator[str]:
    """Two tables in Markdown: every framework beside the reference, then one framework beside the other."""
    both = list(outcomes.values())
    last = [outcome.run.history[-1] for outcome in both]

    def row(name: str, values: Sequence[float], form: str, reference: str = "–") -> Row:
        return name, *(format(value, form) for value in values), reference

    yield from markdown(
        [
            ("", *(TITLES[backend] for backend in outcomes), "iterative reference"),
            row("training, whole command (s)", [outcome.seconds for outcome in both], ".0f"),
            row("epochs", [line["epoch"] for line in last], ".0f"),
            row("loss, last epoch", [line["loss"] for line in last], ".4f"),
            row("loss on held-out patterns", [line["val_loss"] for line in last], ".4f"),
            row(
                "R-factor of the stitched object", [outcome.result.r_factor or 0 for outcome in both], ".4f",
                f"{reference_r_factor(scan):.4f}",
            ),
            row("R-factor of vacuum", [outcome.result.vacuum_r_factor or 0 for outcome in both], ".4f"),
            row("phase correlation with the reference", [outcome.correlation for outcome in both], ".4f", "1"),
        ]
    )  # fmt: skip
    yield ""
    image = difference["images"]["image"]
    parts = {"patches": difference["patches"], "stitched image": image}
    yield from markdown(
        [
            ("TensorFlow and PyTorch apart, what ptychography leaves free removed", "rms", "largest"),
            *(
                (name, *(format(part["difference"][figure], ".4f") for figure in ("rms", "maximum")))
                for name, part in parts.items()
            ),
        ]
    )
    yield ""
    yield f"Phase correlation of the two stitched images: {image['phase_correlation']:.4f}"


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """A table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = tuple("-" * width if not number else "-" * (width - 1) + ":" for number, width in enumerate(widths))
    for line in (rows[0], rule, *rows[1:]):
        first, *others = zip(line, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        yield f"| {' | '.join(cells)} |"


def say(text: str) -> None:
    """Print a heading between the commands."""
    print(f"\n# {text}", flush=True)


def shown(path: Path) -> str:
    """A path relative to the current directory, if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    sys.exit(main())
