"""The verb `simulate`: an object and a probe in, a scan out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ptyonnx.cli.output import summary
from ptyonnx.cli.progress import stage
from ptyonnx.cli.verb import Verb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["command"]

T = TypeVar("T")

_PATH = click.Path(path_type=Path)


@click.command(cls=Verb)
@click.option("--object", "object_file", type=_PATH, required=True, metavar="FILE", help=".npz, .npy, .h5 or an image.")
@click.option("--probe", "probe_file", type=_PATH, required=True, metavar="FILE", help=".npz, .npy, .h5 or a bundle.")
@click.option("-o", "--output", type=_PATH, required=True, metavar="FILE", help="The scan, .npz.")
@click.option("--phase-range-rad", type=float, metavar="RAD", help="Image: phase of white; that of black is 0. [1]")
@click.option("--amplitude", type=_PATH, metavar="IMAGE", help="Image: amplitude of the object. [1 everywhere]")
@click.option("--amplitude-range", metavar="LOW,HIGH", help="Amplitude of black and of white. [0.9,1]")
@click.option("--object-size", metavar="Y,X", help="Image: resample to this many pixels.")
@click.option("--photons", type=float, metavar="NUMBER", help="Per pattern through vacuum. [those of the probe]")
@click.option(
    "--positions",
    default="fermat",
    metavar="KIND",
    help="raster, fermat, random, or a file: a scan, .npy or text of two columns, y and x. [fermat]",
)
@click.option("--overlap", type=float, metavar="FRACTION", help="Of neighbouring illuminations. [0.8]")
@click.option("--step-px", type=float, metavar="PIXELS", help="Between neighbours, instead of --overlap.")
@click.option("--count", type=int, metavar="NUMBER", help="Patterns; spread over the object unless a step is given.")
@click.option("--probe-modes", type=int, metavar="NUMBER", help="Add incoherent modes.")
@click.option("--second-mode-power", type=float, metavar="FRACTION", help="Of the first two. [0.2]")
@click.option("--seed", type=int, metavar="NUMBER", help="Of noise and random positions. [0]")
@click.option("--noise/--no-noise", default=True, help="Poisson noise. [on]")
def command(output: Path, object_file: Path, probe_file: Path, **options: Any) -> None:
    """Compute a scan from a known object and probe.

    Example:
      ptyonnx simulate --object phase.png --phase-range-rad 0.3 --probe scan.npz --photons 1e6 -o simulated.npz
      ptyonnx simulate --object object.npz --probe bundle.onnx --probe-modes 2 --positions raster -o simulated.npz
    """
    from ptyonnx.formats import check_scan_path, write_scan
    from ptyonnx.formats.probes import load_probe
    from ptyonnx.simulation import add_modes, simulate
    from ptyonnx_bundles import check_apart

    check_apart(output, object_file, probe_file, options["amplitude"], options["positions"])
    check_scan_path(output)
    _check_effects(object_file, options)
    seed = options["seed"] or 0
    probe = load_probe(probe_file)
    if options["probe_modes"] is not None:
        power = options["second_mode_power"]
        probe = add_modes(probe, options["probe_modes"], 0.2 if power is None else power)
    obj = _object(object_file, options)
    with stage("computing the patterns") as show:
        scan = simulate(
            obj,
            probe,
            _positions(obj, probe, options),
            photons=options["photons"],
            noise=options["noise"],
            seed=seed,
            name=output.name,
        )
        show(f"writing {output}")
        write_scan(output, scan)
    summary(
        {
            "scan": output, "patterns": len(scan), "N": scan.N, "mean_photons": scan.mean_photons,
            "probe_modes": len(probe), "object_shape": obj.shape[:2],
        },
        f"{output}: {len(scan)} patterns of {scan.N} x {scan.N}, {scan.mean_photons:.3g} photons per pattern, "
        f"{len(probe)} probe mode(s), object {obj.shape[0]} x {obj.shape[1]}",
    )  # fmt: skip


def _object(path: Path, options: dict[str, Any]) -> NDArray[np.complex64]:
    """Complex numbers from a file, or made from images."""
    from ptyonnx.formats.complex_arrays import COMPLEX_FILES
    from ptyonnx.formats.objects import load_object
    from ptyonnx.simulation import object_from_images

    if path.suffix.lower() in COMPLEX_FILES:
        return load_object(path)
    amplitudes, size = options["amplitude_range"], options["object_size"]
    return object_from_images(
        path,
        options["amplitude"],
        phase_range_rad=1.0 if options["phase_range_rad"] is None else options["phase_range_rad"],
        amplitude_range=None if amplitudes is None else _pair(amplitudes, "amplitude_range", float, "0.9,1"),
        shape=None if size is None else _pair(size, "object_size", int, "256,256"),
    )


def _check_effects(object_file: Path, options: dict[str, Any]) -> None:
    """Refuse options that have no effect together with the others."""
    from ptyonnx.formats.complex_arrays import COMPLEX_FILES
    from ptyonnx.simulation.positions import KINDS
    from ptyonnx_bundles.errors import SettingsError

    complex_numbers = object_file.suffix.lower() in COMPLEX_FILES
    from_file = options["positions"] not in KINDS
    for names, without_effect, reason in (
        (
            ("phase_range_rad", "amplitude", "amplitude_range", "object_size"), complex_numbers,
            f"{object_file} contains complex numbers",
        ),
        (("amplitude_range",), options["amplitude"] is None, "no image of the amplitude is given"),
        (("second_mode_power",), (options["probe_modes"] or 1) == 1, "no second mode is added"),
        (("overlap", "step_px", "count"), from_file, "the positions are those of a file"),
        (
            ("seed",), not options["noise"] and options["positions"] != "random",
            "neither noise nor random positions are drawn",
        ),
    ):  # fmt: skip
        given = [name for name in names if options[name] is not None]
        if given and without_effect:
            raise SettingsError(f"no effect: {reason}", key=", ".join(given), remedy="omit it")


def _positions(
    obj: NDArray[np.complex64], probe: NDArray[np.complex64], options: dict[str, Any]
) -> NDArray[np.float64]:
    from ptyonnx.formats.positions import read_positions
    from ptyonnx.simulation import overlap_step, scan_positions
    from ptyonnx.simulation.positions import KINDS
    from ptyonnx_bundles.errors import SettingsError

    kind, step, count, overlap = (options[name] for name in ("positions", "step_px", "count", "overlap"))
    if step is not None and overlap is not None:
        raise SettingsError("exclude each other", key="--step-px, --overlap", remedy="give one of them")
    if kind not in KINDS:
        if not Path(kind).exists():
            raise SettingsError(
                "no such file", key="--positions", found=kind, expected=f"{', '.join(KINDS)} or a file of positions"
            )
        return read_positions(Path(kind))
    if step is None and (overlap is not None or count is None):
        step = overlap_step(probe, 0.8 if overlap is None else overlap)
    return scan_positions(kind, obj.shape[:2], probe.shape[-1], step_px=step, count=count, seed=options["seed"] or 0)


def _pair(text: str, key: str, kind: Callable[[str], T], example: str) -> tuple[T, T]:
    from ptyonnx_bundles.errors import SettingsError

    try:
        first, second = map(kind, text.replace("x", ",").split(","))
    except ValueError:
        raise SettingsError(
            f"not two {'whole ' if kind is int else ''}numbers", key=key, found=text, expected=f"such as {example}"
        ) from None
    return first, second
