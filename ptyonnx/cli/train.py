"""The verb `train`: trains a network on a scan and exports it as a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ptyonnx.cli.completion import Words
from ptyonnx.cli.output import summary
from ptyonnx.cli.progress import TrainingBars, stage
from ptyonnx.cli.verb import Verb

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ptyonnx.runs.run import Run
    from ptyonnx.settings.configuration import Configuration
    from ptyonnx_bundles import Bundle
    from ptyonnx_runtime.scan import Scan

__all__ = ["command"]

_ALONE = "true"  # value of a flag that stands alone


class TrainVerb(Verb):
    """A verb with a flag for every setting, and hidden flags for PtychoPINN's names."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Own flags, settings, PtychoPINN's names, help."""
        *own, help_option = super().get_params(ctx)
        return [*own, *_setting_options(), *_ptychopinn_options(), help_option]

    def sections(self, options: Sequence[click.Option]) -> Iterable[tuple[str, Sequence[click.Option]]]:
        """Separate the settings from the other options."""
        settings = set(map(id, _setting_options()))
        yield "Options", [option for option in options if id(option) not in settings]
        yield "Settings (flags, --set, or keys of --config)", [option for option in options if id(option) in settings]


@click.command(cls=TrainVerb)
@click.option("--backend", metavar="NAME", help="Framework: tensorflow (tf) or pytorch (torch).")
@click.option("--config", type=click.Path(path_type=Path), metavar="YAML", help="File of settings; flags override it.")
@click.option("--data", "--train-data-file", metavar="FILE", help="Scan to train on.")
@click.option(
    "--test-data", "--test-data-file", metavar="FILE", help="Scan for validation. [part of the training scan]"
)
@click.option("-o", "--output", "--output-dir", metavar="DIR", help="Directory of the run. [runs/<data>-<backend>]")
@click.option("--probe", metavar="FILE", help="Probe, if the scan does not contain one.")
@click.option("--values", metavar="KIND", help="Contents of the patterns: amplitude or intensity.")
@click.option("--axes", metavar="ORDER", help="Order of the axes in the file, such as yxn.")
@click.option("--zero-frequency", metavar="PLACE", help="Zero frequency in the file: centre or corner.")
@click.option("--N", "N", metavar="PIXELS", hidden=True)
@click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Set any setting by name; may be repeated."
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Start from the weights of a bundle, which either framework may have trained.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("--overwrite", is_flag=True, help="Replace an existing run.")
@click.option("--export/--no-export", "exporting", default=True, help="Write bundle.onnx into the run directory. [on]")
def command(
    *,
    config: Path | None,
    assignments: tuple[str, ...],
    source: Path | None,
    resume: bool,
    overwrite: bool,
    exporting: bool,
    **flags: str | None,
) -> None:
    """Train a network on a scan and export it as a bundle.

    Example:
      ptyonnx train --backend pytorch --data scan.npz -o run
      ptyonnx train --backend tf --config settings.yaml --epochs 20 --set seed=3
      ptyonnx train --backend pytorch --data scan.npz -o run --resume
      ptyonnx train --backend pytorch --from tensorflow.onnx --data scan.npz -o run --epochs 20

    --from takes the weights, network, input scale and probe from the bundle, and scales the patterns to its mean
    photons. A bundle does not contain the state of the optimiser: a new optimiser starts, and the learning rate runs
    one full cycle. If gridsize, filters_scale or depth are given, they must agree with the bundle.

    PtychoPINN's names are accepted as keys and flags: --train_data_file, --nepochs, --n_groups, a `model:` block and
    so on. A note is printed for each name that has no effect.
    """
    from ptyonnx.cli.framework import load_quietly
    from ptyonnx.exchange.training import train
    from ptyonnx.settings.configuration import configure

    configuration = configure(config, flags, assignments)
    with TrainingBars() as bars:
        for note in configuration.notes:
            bars.note(note)
        initial = _initial(configuration, source, resume=resume)
        output, backend = _place(configuration, resume=resume, overwrite=overwrite)
        # bad data are refused before the framework is loaded, which takes seconds
        scan, test_scan = _scans(configuration, initial)
        load_quietly(backend)
        exporting &= not (resume and _is_complete(output))
        bars.prepare("grouping patterns and building the network")
        try:
            run = train(
                backend,
                scan,
                configuration.settings,
                output,
                test_scan=test_scan,
                initial=initial,
                resume=resume,
                overwrite=overwrite,
                observer=bars,
            )
        except KeyboardInterrupt as stop:
            again = f"ptyonnx train --resume --data {configuration.data} -o {output}"
            raise KeyboardInterrupt(f"'{again}' continues from the last epoch") from stop
    _report(run, exporting)


def _initial(configuration: Configuration, source: Path | None, *, resume: bool) -> Bundle | None:
    """Read the bundle to start from, and check the settings against it."""
    if source is None:
        return None
    from ptyonnx.runs.run import exported_bundle
    from ptyonnx.training.start import continued_settings
    from ptyonnx_bundles import read_bundle
    from ptyonnx_bundles.errors import SettingsError

    if resume:
        raise SettingsError(
            "contradict each other",
            key="--from, --resume",
            remedy="a resumed run keeps its own initial weights: leave --from out",
        )
    if configuration.probe is not None:
        raise SettingsError(
            "contradict each other", key="--from, --probe", remedy="the probe comes from the bundle: leave --probe out"
        )
    bundle = read_bundle(exported_bundle(source))
    continued_settings(bundle, configuration.settings)
    return bundle


def _place(configuration: Configuration, *, resume: bool, overwrite: bool) -> tuple[Path, str]:
    """Directory of the run, and its backend."""
    from ptyonnx import backends
    from ptyonnx.runs.folder import check_replaceable, check_unlocked
    from ptyonnx_bundles import check_directory
    from ptyonnx_bundles.errors import SettingsError

    if resume and overwrite:
        raise SettingsError("contradict each other", key="--resume, --overwrite", remedy="give one of them")
    if resume:
        return _earlier(configuration)
    if configuration.backend is None:
        raise SettingsError("missing", key="--backend", expected=f"one of {', '.join(backends.ALIASES)}")
    backend = backends.canonical_name(configuration.backend)
    if configuration.data is None:
        raise SettingsError("missing", key="--data", remedy="name the scan to train on: --data scan.npz")
    output = configuration.output or Path("runs") / f"{configuration.data.stem}-{backend}"
    check_directory(output)
    check_unlocked(output)
    check_replaceable(output, overwrite=overwrite)
    return output, backend


def _earlier(configuration: Configuration) -> tuple[Path, str]:
    """The run to resume; its settings must not change."""
    from ptyonnx.runs.run import Run
    from ptyonnx_bundles.errors import SettingsError

    if configuration.output is None or configuration.data is None:
        raise SettingsError("missing", key="-o, --data", remedy="name the run to resume and its scan")
    run = Run.open(configuration.output)
    for name in configuration.settings.model_fields_set:
        wanted, kept = getattr(configuration.settings, name), getattr(run.settings, name)
        if wanted != kept:
            raise SettingsError(
                "cannot change while resuming", file=run.directory, key=name, found=wanted, expected=kept,
                remedy="leave it out, or start a new run",
            )  # fmt: skip
    return configuration.output, configuration.backend or run.backend


def _scans(configuration: Configuration, initial: Bundle | None) -> tuple[Scan, Scan | None]:
    from ptyonnx.formats import load_scan
    from ptyonnx.training.start import Start

    def load(path: Path | None) -> Scan | None:
        if path is None:
            return None
        with stage(f"reading {path}"):
            scan = load_scan(path, **configuration.declared, probe=configuration.probe, in_memory=True)
        configuration.check_size(scan.N, scan.name)
        return scan

    scan = load(configuration.data)
    assert scan is not None, "_place has checked it"
    if initial is not None:
        Start.from_bundle(initial).check_fit(scan)
    return scan, load(configuration.test_data)


def _is_complete(output: Path) -> bool:
    """Whether its training is complete and its bundle is written."""
    from ptyonnx.runs.run import Run

    run = Run.open(output)
    return run.record.state == "complete" and run.record.bundle is not None


def _report(run: Run, exporting: bool) -> None:
    """Export the run and print its figures and files."""
    from ptyonnx.cli.tables import columns
    from ptyonnx.exchange.exporting import export

    bundle = run.bundle
    if exporting:
        with stage(f"exporting {run.directory / 'bundle.onnx'}"):
            bundle = export(run, run.directory / "bundle.onnx").path
    metrics = {name: int(figure) if name == "epoch" else figure for name, figure in run.metrics().items()}
    values = {"backend": run.backend, **metrics, "run": run.directory, "bundle": bundle}
    missing = f"none yet: ptyonnx export {run.directory}"
    summary(values, lambda: columns({**values, "bundle": bundle or missing}.items()))


@cache
def _setting_options() -> tuple[click.Option, ...]:
    from ptyonnx.settings import Settings

    return tuple(_setting_option(name, field) for name, field in Settings.model_fields.items())


def _setting_option(name: str, field: FieldInfo) -> click.Option:
    """Make a flag; its value is checked together with those of the YAML file."""
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    default = "" if field.default is None else f"  [{str(field.default).lower()}]"
    help_text = f"{field.description}{default}"
    if field.annotation is bool:
        words = Words(("true", "false"))
        return _flag(name, help=help_text, metavar="", is_flag=False, flag_value=_ALONE, type=words)
    kind = "|".join(choices) or ("NUMBER" if field.annotation is float else "INTEGER")
    return _flag(name, help=help_text, metavar=kind, type=Words(tuple(choices)))


@cache
def _ptychopinn_options() -> tuple[click.Option, ...]:
    from ptyonnx.settings.ptychopinn_names import KNOWN, OPTIONAL_VALUE

    own = {"train_data_file", "test_data_file", "output_dir", "quiet", "verbose"}
    return tuple(
        _flag(name, hidden=True, **({"is_flag": False, "flag_value": _ALONE} if name in OPTIONAL_VALUE else {}))
        for name in sorted(KNOWN - own)
    )


def _flag(name: str, **attributes: Any) -> click.Option:
    return click.Option([f"--{name.replace('_', '-')}", name], **attributes)
