"""How fast a bundle runs in onnxruntime, beside the same network in PyTorch and TensorFlow.

    python benchmarks/session.py [--N 64] [--scales 0.5 1] [--batches 1 16 64] [--seconds 0.5] [--rounds 7]

One bundle per size of network, with seeded weights; its weights are read back into both native
networks. Each framework computes in a process of its own with `--threads` threads, from a NumPy
array to a NumPy array, and the processes take turns: onnxruntime, torch eager, … in every round.
A figure is the median of its rounds, a ratio the median of the rounds' ratios, so that a machine
that slows down or has other work to do slows all of them. Before anything is measured, all must
give the same object.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptyonnx.cli.framework import load_quietly
from ptyonnx_bundles import Recipe, read_bundle

ROOT = Path(__file__).parent.parent
OURS = "onnxruntime"
VARIANTS = {
    OURS: ("session.run",),
    "torch": ("eager", "channels_last", "compile"),
    "tensorflow": ("tf.function", "XLA"),
}
CONTENDERS = tuple((framework, variant) for framework, variants in VARIANTS.items() for variant in variants)
TOLERANCE = 5e-5  # of the complex object, absolute: the bundle's own
REST_s = 0.03  # idle threads of one framework stop spinning before the next begins

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Speeds = dict[tuple[str, str], list[float]]  # patterns/s of each round


def main() -> None:
    """Measure and print one table for every size of network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--N", type=int, default=64)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0], help="filters_scale")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="of every measurement")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", OMP_NUM_THREADS=str(arguments.threads))
    for scale in arguments.scales:
        load = f"load average before {os.getloadavg()[0]:.1f}"
        print(f"\nN = {arguments.N}, filters_scale = {scale:g}, {arguments.threads} threads, patterns/s; {load}\n")
        with tempfile.TemporaryDirectory() as folder:
            bundle = make_bundle(Path(folder) / "bundle.onnx", Recipe(N=arguments.N, filters_scale=scale))
            with processes(bundle, arguments.threads) as pipes:
                speeds = {
                    batch: measure(pipes, patterns(batch, arguments.N), arguments.seconds, arguments.rounds)
                    for batch in arguments.batches
                }
        print(table(speeds), flush=True)


def make_bundle(path: Path, recipe: Recipe) -> Path:
    """Write a bundle with seeded weights: its values do not matter to speed."""
    sys.path.insert(0, str(ROOT))
    from tests.bundle_factory import make_bundle as write

    write(path, recipe)
    return path


def patterns(count: int, N: int) -> NDArray[np.float32]:
    """Give (count, 1, N, N) amplitudes."""
    return np.random.default_rng(0).gamma(2.0, 5.0, (count, 1, N, N)).astype(np.float32)


def measure(pipes: dict[str, Connection], diffraction: NDArray[np.float32], seconds: float, rounds: int) -> Speeds:
    """Patterns/s of every contender in every round, once their outputs are known to agree."""
    outputs = {}
    for framework, variant in CONTENDERS:
        pipes[framework].send((variant, diffraction, None))
        outputs[framework, variant] = pipes[framework].recv()
        distance = float(np.abs(outputs[framework, variant] - outputs[CONTENDERS[0]]).max())
        if distance > TOLERANCE:
            raise SystemExit(f"{framework} {variant} computes something else: {distance:.1e} > {TOLERANCE:.0e}")
    speeds: Speeds = {contender: [] for contender in CONTENDERS}
    for _ in range(rounds):
        for framework, variant in CONTENDERS:
            time.sleep(REST_s)
            pipes[framework].send((variant, diffraction, seconds))
            speeds[framework, variant].append(pipes[framework].recv())
    return speeds


def table(speeds: dict[int, Speeds]) -> str:
    """One row per contender, one column per batch size; the last row is the ratio to the best other."""
    lines = ["| |" + "".join(f" batch {batch} |" for batch in speeds), "|---|" + "---|" * len(speeds)]
    for contender in CONTENDERS:
        figures = (f" {median(columns[contender]):.0f} |" for columns in speeds.values())
        lines.append(f"| {' '.join(contender)} |" + "".join(figures))
    lines.append(f"| {OURS} / best other |" + "".join(f" {ratio(columns)} |" for columns in speeds.values()))
    return "\n".join(lines)


def ratio(speeds: Speeds) -> str:
    """Speed of ours relative to the best other, and which that is."""
    ours = speeds[CONTENDERS[0]]
    best = max(CONTENDERS[1:], key=lambda contender: median(speeds[contender]))
    quotient = median(mine / other for mine, other in zip(ours, speeds[best], strict=True))
    return f"**{quotient:.2f}** ({' '.join(best)})"


@contextmanager
def processes(bundle: Path, threads: int) -> Iterator[dict[str, Connection]]:
    """One process per framework, waiting for orders."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    children = []
    for framework in VARIANTS:
        pipes[framework], theirs = context.Pipe()
        child = context.Process(target=serve, args=(theirs, framework, bundle, threads), daemon=True)
        child.start()
        theirs.close()
        children.append(child)
    try:
        yield pipes
    finally:
        for pipe in pipes.values():
            pipe.close()
        for child in children:
            child.join()


def serve(pipe: Connection, framework: str, bundle: Path, threads: int) -> None:
    """Child process: obey until the other end is closed."""
    runs = OPEN[framework](bundle, threads)
    while True:
        try:
            variant, diffraction, seconds = pipe.recv()
        except EOFError:
            return
        run = runs[variant]
        pipe.send(run(diffraction) if seconds is None else speed(run, diffraction, seconds))


def speed(run: Run, diffraction: NDArray[np.float32], seconds: float) -> float:
    """Patterns/s over about so many seconds, after one call that does not count."""
    run(diffraction)
    calls = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        run(diffraction)
        calls += 1
    return calls * len(diffraction) / elapsed


def recipe_and_weights(path: Path) -> tuple[Recipe, dict[str, NDArray[np.float32]]]:
    """What a native network is made of."""
    bundle = read_bundle(path)
    recipe = bundle.manifest.recipe
    names = (*recipe.weight_shapes(), *recipe.constant_shapes())
    return recipe, {name: np.asarray(bundle.weights[name], np.float32) for name in names}


def open_onnxruntime(path: Path, threads: int) -> dict[str, Run]:
    """The bundle, as `ptyonnx reconstruct` opens it."""
    from ptyonnx_runtime.inference.session import Session

    session = Session(read_bundle(path), "cpu", threads)
    return {"session.run": lambda diffraction: session.run(diffraction).view(np.float32)}


def open_torch(path: Path, threads: int) -> dict[str, Run]:
    """The same network: as it is, with channels last, and compiled with channels last."""
    import torch

    from ptyonnx.backends.pytorch.network import Network

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    recipe, weights = recipe_and_weights(path)

    def network(**layout: Any) -> Network:
        module = Network(recipe).eval()
        module.set_weights_by_name(weights)
        return module.to(**layout)

    def runner(module: Any) -> Run:
        def run(diffraction: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                output: NDArray[np.float32] = module(torch.from_numpy(diffraction)).numpy()
            return output.reshape(*output.shape[:-2], -1)

        return run

    return {
        "eager": runner(network()),
        "channels_last": runner(network(memory_format=torch.channels_last)),
        "compile": runner(torch.compile(network(memory_format=torch.channels_last), dynamic=False)),
    }


def open_tensorflow(path: Path, threads: int) -> dict[str, Run]:
    """The same network as a graph, and compiled by XLA."""
    load_quietly("tensorflow")
    import tensorflow as tf

    from ptyonnx.backends.tensorflow.network import Network

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    recipe, weights = recipe_and_weights(path)
    network = Network(recipe)
    network.set_weights_by_name(weights)

    def runner(*, jit_compile: bool) -> Run:
        function = tf.function(network.call, jit_compile=jit_compile)

        def run(diffraction: NDArray[np.float32]) -> NDArray[np.float32]:
            output: NDArray[np.float32] = function(tf.constant(diffraction)).numpy()
            return output.reshape(*output.shape[:-2], -1)

        return run

    return {"tf.function": runner(jit_compile=False), "XLA": runner(jit_compile=True)}


OPEN: dict[str, Callable[[Path, int], dict[str, Run]]] = {
    OURS: open_onnxruntime,
    "torch": open_torch,
    "tensorflow": open_tensorflow,
}


if __name__ == "__main__":
    main()
