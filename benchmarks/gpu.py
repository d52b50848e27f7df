"""What PyTorch does on a GPU, beside the processor: training, resuming, bundles, reconstruction, gradients, refusals.

    python benchmarks/gpu.py [--epochs 6] [--patterns 200] [--device gpu] [--data scan.npz]

For machines with a GPU that PyTorch sees; without one it says so and ends with exit code 2. A check that fails is
marked, and ends in exit code 1. What must agree has a derived tolerance: first losses that of
`tests/float32_bounds.py`, values, gradients and the loss curve that of `ptyonnx parity`, which itself examines
processors only. `--device cpu` plays all of it through on the processor: the script is tested so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptyonnx import Run, Settings, export, import_bundle, load_scan, reconstruct, train, verify
from ptyonnx.backends import load_part
from ptyonnx.backends.engines import open_engine
from ptyonnx.backends.pytorch.device import full_float32, gpu_name
from ptyonnx.backends.pytorch.training import OPERATORS, Reconstructor, fit
from ptyonnx.backends.weights import in_recipe_order
from ptyonnx.parity import verdicts
from ptyonnx.parity.computed_values import ComputedValues
from ptyonnx.parity.float64_reference import compute_reference
from ptyonnx.parity.monte_carlo_tolerances import TRUSTED_LOSSES, monte_carlo_tolerances
from ptyonnx.parity.shared_inputs import SharedInputs, of_recipe
from ptyonnx.reference.network import branches_of
from ptyonnx.runs.checkpoints import load, path_of
from ptyonnx.training import Unobserved
from ptyonnx.training.journal import Journal
from ptyonnx.training.objective import expected_intensity
from ptyonnx_bundles import Bundle, Recipe
from ptyonnx_bundles.errors import TrainingError
from ptyonnx_runtime.inference.onnx_session import providers
from ptyonnx_runtime.inference.runner import patches
from ptyonnx_runtime.physics import Pair, pair_from_complex
from ptyonnx_runtime.scan import Scan

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "siemens_star_64.npz"
EXAMINED = 8  # patterns that float64 computes, too
CURVE = 3  # optimiser steps that are examined; parity has tolerances for the first losses
SMALL_MEMORY_BYTES = 8 * 2**20
REPEATS = 5
failed: list[str] = []


def main() -> int:
    """Check and print; 1 if a check failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--patterns", type=int, help="of the scan; by default all")
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--data", type=Path, default=SAMPLE)
    arguments = parser.parse_args()
    gpu = arguments.device == "gpu"
    if gpu and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        print(f"no GPU: PyTorch {torch.__version__} sees none", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name() if gpu and torch.cuda.is_available() else gpu_name() if gpu else "the processor"
    print(f"{name}; torch {torch.__version__}, numpy {np.__version__}, onnxruntime has {', '.join(providers())}; "
          f"{os.cpu_count()} cores", flush=True)  # fmt: skip
    scan = load_scan(arguments.data)
    settings = Settings(epochs=arguments.epochs, n_subsample=arguments.patterns, precision="float32")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with section("training"):
            trained = check_training(scan, settings, arguments.device, place)
        with section("resuming"):
            check_resuming(scan, settings, arguments.device, trained, place)
        with section("bundle"):
            bundle = check_bundle(trained, place)
        with section("reconstruction"):
            check_reconstruction(bundle, scan, "cuda" if gpu else "cpu")
        with section("refusals"):
            check_refusals(bundle, arguments.data, arguments.device, place)
        with section("every layer, physics, gradients, loss curve, beside float64"):
            check_arithmetic(arguments.device, place)
    print(f"\n{len(failed)} check(s) failed" + "".join(f"\n- {line}" for line in failed))
    return int(bool(failed))


@contextmanager
def section(title: str) -> Iterator[None]:
    """A heading, and how long all of it took."""
    print(f"\n## {title}\n", flush=True)
    begin = time.perf_counter()
    yield
    print(f"({time.perf_counter() - begin:.1f} s)", flush=True)


def check(line: str, passed: bool) -> None:
    """Print a finding, and remember one that is wrong."""
    print(f"{'ok    ' if passed else 'FAILED'} {line}", flush=True)
    if not passed:
        failed.append(line)


@dataclass
class Watched(Unobserved):
    """An observer that remembers losses and times, and may stop like a user."""

    stop_after: int = 10**9
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    begin: float = 0.0

    def started(self, epochs: int, steps_per_epoch: int, epoch: int) -> None:  # noqa: ARG002 - the protocol's names
        """Look at the clock."""
        self.begin = time.perf_counter()

    def step(self, loss: float, r_factor: float) -> None:  # noqa: ARG002 - the protocol's names
        """Remember, or stop in the epoch after the last wanted one."""
        self.losses.append(loss)
        if len(self.validation) == self.stop_after:
            raise KeyboardInterrupt

    def epoch(self, row: Mapping[str, float]) -> None:
        """Remember."""
        now = time.perf_counter()
        self.seconds.append(now - self.begin)
        self.begin = now
        self.validation.append(row["val_loss"])


def check_training(scan: Scan, settings: Settings, device: str, place: Path) -> Run:
    """Equal settings on both; then as `auto` has it, which is 16 bit on a GPU that can."""
    sys.path.insert(0, str(ROOT / "tests"))
    from float32_bounds import of_losses

    kinds = {"cpu": ("cpu", "float32"), device + " float32": (device, "float32"), device + " auto": (device, "auto")}
    watched, runs = {}, {}
    for kind, (where, precision) in kinds.items():
        watched[kind] = Watched()
        chosen = settings.model_copy(update={"device": where, "precision": precision})
        runs[kind] = train("torch", scan, chosen, place / kind.replace(" ", "-"), observer=watched[kind])
    first = watched["cpu"]
    print("| | s per epoch | of the CPU's | validation loss after each epoch |\n|---|---|---|---|")
    for kind, seen in watched.items():
        time_s = median(seen.seconds[1:] or seen.seconds)
        ratio = time_s / median(first.seconds[1:] or first.seconds)
        print(f"| {kind} | {time_s:.3f} | {ratio:.3f} | {' '.join(f'{loss:.4f}' for loss in seen.validation)} |")
    apart = np.abs(np.divide(watched[device + " float32"].losses, first.losses) - 1)[:TRUSTED_LOSSES]
    allowed = of_losses(scan.N**2 * settings.region_size * settings.batch_size)
    check(f"first losses differ by {', '.join(f'{each:.1e}' for each in apart)} at most {allowed:.1e}",
          bool((apart <= allowed).all()))  # fmt: skip
    return runs[device + " float32"]


def check_resuming(scan: Scan, settings: Settings, device: str, whole: Run, place: Path) -> None:
    """Interrupted after one epoch and gone on with, and trained twice: the same weights, bit for bit."""
    chosen = settings.model_copy(update={"device": device})
    again = train("torch", scan, chosen, place / "again")
    check_equal("trained twice", whole, again)
    for precision in ("float32", "auto"):
        wanted = whole if precision == "float32" else Run.open(place / f"{device}-auto")
        directory = place / f"resumed-{precision}"
        try:
            train("torch", scan, chosen.model_copy(update={"precision": precision}), directory,
                  observer=Watched(stop_after=1))  # fmt: skip
        except KeyboardInterrupt:
            resumed = train("torch", scan, chosen, directory, resume=True)
            check_equal(f"resumed, {precision}", wanted, resumed)
        else:
            check(f"{precision}: was not interrupted", passed=False)


def check_equal(what: str, one: Run, other: Run) -> None:
    """Compare the last weights of two runs."""
    a, b = (load(path_of(run.directory, "last")).snapshot.weights for run in (one, other))
    differing = [name for name in a if not np.array_equal(a[name], b[name])]
    largest = max((float(np.abs(a[name] - b[name]).max()) for name in differing), default=0.0)
    check(f"{what}: {len(differing)} of {len(a)} weights differ, by at most {largest:.1e}", not differing)


def check_bundle(run: Run, place: Path) -> Bundle:
    """What a GPU trained is a bundle as any other."""
    bundle = export(run, place / "bundle.onnx")
    for provider in [name for name in ("cpu", "cuda") if name in providers()]:
        found = verify(bundle, provider)
        check(f"verify on {provider}: {found.difference:.1e}, allowed {found.tolerance:.1e}", found.passed)
    again = export(import_bundle(bundle, "torch", place / "imported"), place / "again.onnx")
    check("imported and exported again: equal digests of weights and graph",
          again.manifest.digests == bundle.manifest.digests)  # fmt: skip
    return bundle


def check_reconstruction(bundle: Bundle, scan: Scan, provider: str) -> None:
    """`--engine torch --provider cuda` beside onnxruntime on the CPU, and both beside float64."""
    from float32_bounds import of_network

    engine = load_part("pytorch", "engine").NativeEngine(bundle, 0, "gpu" if provider == "cuda" else "cpu")
    some = np.asarray(scan.diffraction[:EXAMINED], np.float32)[:, np.newaxis]
    exact, allowed = of_network(bundle.manifest.recipe, bundle.weights, some)
    worst = {}
    for layer, value in engine.activations(some).items():
        worst[layer] = float(np.abs(value - exact[layer]).max()) / allowed[layer]
    layer = max(worst, key=worst.__getitem__)
    check(f"every layer beside float64: at most {100 * worst[layer]:.0f} % of what float32 allows ({layer})",
          worst[layer] <= 1)  # fmt: skip
    with torch.inference_mode():
        plain = engine.network(torch.from_numpy(some).to(engine.provider)).cpu().numpy()
    error = float(np.abs(plain - exact["object"]).max())
    print(f"       as PyTorch computes by itself, with TF32: {100 * error / allowed['object']:.0f} %, {error:.1e}")
    runtime = open_engine(bundle, "onnxruntime", provider="cpu")
    native, ours = patches(bundle, scan, engine), patches(bundle, scan, runtime)
    apart, most = float(np.abs(native - ours).max()), 2 * np.sqrt(2) * allowed["object"]
    check(f"patches of {len(scan)} patterns, {provider} beside onnxruntime: {apart:.1e}, allowed {most:.1e}",
          apart <= most)  # fmt: skip
    seconds = {
        f"torch on {engine.provider}": timed(lambda: patches(bundle, scan, engine)),
        "onnxruntime on cpu": timed(lambda: patches(bundle, scan, runtime)),
        f"torch on {engine.provider}, stitched": timed(lambda: reconstruct(bundle, scan, engine=engine)),
        "onnxruntime on cpu, stitched": timed(lambda: reconstruct(bundle, scan, provider="cpu")),
    }
    many = np.repeat(some, 256 // EXAMINED, axis=0)
    print("| | patterns/s |\n|---|---|")
    print(f"| torch on {engine.provider}, network alone, batch 256 | {256 / timed(lambda: engine.run(many)):.0f} |")
    for what, time_s in seconds.items():
        print(f"| {what} | {len(scan) / time_s:.0f} |")


def timed(work: Callable[[], Any]) -> float:
    """Median seconds, after one time that does not count. All of it ends with NumPy arrays, so a GPU is waited for."""
    work()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


def check_arithmetic(device: str, place: Path) -> None:
    """What `ptyonnx parity` judges, computed on the device."""
    recipe = Recipe(N=32, filters_scale=0.125)
    inputs = of_recipe(recipe, None, seed=0, steps=CURVE, threads=os.cpu_count() or 1, train_probe=True)
    inputs = replace(inputs, settings=inputs.settings.model_copy(update={"device": device}))
    exact = compute_reference(inputs)
    found = computed_values(inputs, gpu_name() if device == "gpu" else "cpu", place)
    stages = [stage for stage in verdicts.BACKEND_STAGES if stage != "export"]
    rows = verdicts.rows(inputs, exact, found, monte_carlo_tolerances(inputs, exact, lambda _: None), stages=stages)
    for stage in stages:
        of_stage = [row for row in rows if row.stage == stage]
        wrong = [row for row in of_stage if not row.passed]
        largest = max((row.relative / row.tolerance for row in of_stage if row.tolerance), default=0.0)
        check(f"{stage}: {len(of_stage)} compared, {len(wrong)} wrong, at most {100 * largest:.0f} % of what is allowed",
              not wrong)  # fmt: skip


def computed_values(inputs: SharedInputs, device: str, place: Path) -> ComputedValues:
    """As `backends/pytorch/introspection.py` looks at the processor."""
    model = Reconstructor(inputs.task).to(device).to(memory_format=torch.channels_last)
    there: Callable[[NDArray[Any]], torch.Tensor] = lambda array: torch.from_numpy(array).to(device)  # noqa: E731

    def values(diffraction: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        seen: dict[str, NDArray[np.float32]] = {}

        def see(name: str, value: torch.Tensor) -> torch.Tensor:
            seen[name] = np.array(value.cpu().numpy(), order="C")
            return value

        model.network(there(diffraction), see)
        return seen

    batch, canvas = inputs.batches[0], inputs.task.training.canvas
    with full_float32():
        with torch.no_grad():
            activations, of_batch = values(inputs.patterns), values(batch.diffraction)
            pair = Pair(*map(there, pair_from_complex(inputs.patch)))
            offset_px = there(batch.offset_px)
            intensity = expected_intensity(
                pair, offset_px, model.probe(), model.objective_constants(canvas), **OPERATORS
            )
        loss, _ = model.loss_and_r((there(batch.diffraction), there(batch.offset_px)), canvas)
        named = dict(model.network.named_parameters())
        named |= {"probe.real": model.probe_shift[0], "probe.imag": model.probe_shift[1]}
        slopes = torch.autograd.grad(loss, list(named.values()))
    return ComputedValues(
        f"pytorch on {device}",
        weights=model.network.weights_by_name(),
        activations=in_recipe_order(inputs.recipe, activations),
        object=activations["object"].view(np.complex64)[..., 0],
        intensity=intensity.cpu().numpy(),
        gradients={name: slope.cpu().numpy() for name, slope in zip(named, slopes, strict=True)},
        branches=branches_of(inputs.recipe, of_batch),
        losses=curve(inputs, place),
    )


def curve(inputs: SharedInputs, place: Path) -> NDArray[np.float64]:
    """Losses of the first steps of training."""
    watched = Watched()
    folder = place / "curve"
    folder.mkdir()
    try:
        fit(inputs.task, Journal(folder, inputs.settings, watched))
    except TrainingError as error:  # four steps may look collapsed; their losses count all the same
        print(f"       {error}")
    return np.array(watched.losses[: inputs.steps])


def check_refusals(bundle: Bundle, data: Path, device: str, place: Path) -> None:
    """What cannot be is one line and exit code 2."""
    where = ["--data", str(data), "-o", str(place / "refused.h5")]
    if "cuda" not in providers():
        refused("onnxruntime without CUDA", ["reconstruct", str(bundle.path), *where, "--provider", "cuda"])
    training = ["--data", str(data), "--device", "gpu", "-o"]
    if find_spec("tensorflow") is None or not load_part("tensorflow", "device").use_gpu("auto"):
        refused("TensorFlow without a GPU", ["train", "--backend", "tensorflow", *training, str(place / "tensorflow")])
    if device == "gpu" and torch.cuda.is_available():
        torch.cuda.empty_cache()
        share = SMALL_MEMORY_BYTES / torch.cuda.get_device_properties(0).total_memory
        small = f"import torch; torch.cuda.set_per_process_memory_fraction({share!r}); "
        directory = str(place / "small")
        refused("a GPU without memory, training", ["train", "--backend", "torch", *training, directory], small)
        check("it can be gone on with", Run.open(directory).record.state == "interrupted")
        native = [*where, "--engine", "torch", "--provider", "cuda"]
        refused("a GPU without memory, reconstruction", ["reconstruct", str(bundle.path), *native], small)


def refused(what: str, arguments: list[str], before: str = "") -> None:
    """Give a command that must be refused."""
    program = f"import sys; {before}from ptyonnx.cli import main; sys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("ptyonnx: error: ")]
    check(f"{what}: exit code {done.returncode}, {' / '.join(lines) or done.stderr[-500:]}",
          done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
