"""Combine a YAML file and flags into settings. Flags override the file, and unknown keys are errors.

Names of PtychoPINN are translated by `ptychopinn_names`; what the settings mean is said in
`settings`; nothing here reads data.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ptyonnx.settings import Loss, Settings, format_for_error, ptychopinn_names
from ptyonnx.settings.ptychopinn_names import BLOCKS, KNOWN, RENAMED
from ptyonnx.settings.strict_yaml import parse_yaml, read_yaml
from ptyonnx_bundles.errors import SettingsError

__all__ = ["Configuration", "RawSetting", "configure", "parse_assignments"]


class Declared(TypedDict):
    """Conventions of a file's patterns: keyword arguments of `load_scan`."""

    values: str | None
    axes: str | None
    zero_frequency: str | None


class Configuration(BaseModel):
    """All settings of a training, from file and flags.

    Attributes
    ----------
    backend : str or None
        As given; `ptyonnx.backends` resolves the names.
    data, test_data : Path or None
        Scans to train and to validate on.
    output : Path or None
        The run directory.
    probe : Path or None
        A file with a probe, for scans without one.
    values : {"amplitude", "intensity"} or None
        Quantity of the files' patterns; by default the format determines it.
    axes : str or None
        Order of the patterns' axes in the file, such as ``"yxn"``.
    zero_frequency : {"centre", "corner"} or None
        Its position in the files' patterns.
    N : int or None
        Expected size of the patterns; must agree with the scan.
    settings : Settings
    notes : tuple of str
        The translation of each setting that was given under a name of PtychoPINN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str | None = None
    data: Path | None = None
    test_data: Path | None = None
    output: Path | None = None
    probe: Path | None = None
    values: Literal["amplitude", "intensity"] | None = None
    axes: str | None = None
    zero_frequency: str | None = None
    N: int | None = Field(None, gt=0)
    settings: Settings = Settings()
    notes: tuple[str, ...] = ()

    @property
    def declared(self) -> Declared:
        """What is declared about the files' patterns, as `load_scan` takes it."""
        return Declared(values=self.values, axes=self.axes, zero_frequency=self.zero_frequency)

    def check_size(self, N: int, scan: str) -> None:
        """Compare a scan's N with the expected one.

        Raises
        ------
        SettingsError
            They differ.
        """
        if self.N not in (None, N):
            raise SettingsError(
                "the scan has another N", file=scan, key="N", found=N, expected=self.N,
                remedy="omit N to use that of the scan, or crop the patterns first",
            )  # fmt: skip


class RawSetting(NamedTuple):
    """A value as given, with its key and, if it comes from a file, the file."""

    value: Any
    key: str
    file: Path | None = None


_OWN_NAMES = set(Configuration.model_fields) - {"settings", "notes"}
_TEXTS = _OWN_NAMES - {"N"}  # text, even if YAML would read a boolean or a number: a folder may be called on or 2026
_TEXT_KEYS = _TEXTS | {name for name, renamed in RENAMED.items() if renamed in _TEXTS}
_PATHS = {"data", "test_data", "output", "probe"}
_NAMES = _OWN_NAMES | set(Settings.model_fields)


def configure(
    file: Path | str | None = None, flags: Mapping[str, object] | None = None, assignments: Iterable[str] = ()
) -> Configuration:
    """Read a YAML file, override it with flags, and validate the result.

    Parameters
    ----------
    file : path-like, optional
        A YAML mapping of names of this project or of PtychoPINN.
    flags : mapping, optional
        Name -> value; None for a flag that was not given.
    assignments : iterable of str
        ``key=value``; like `flags`, they override the file.

    Returns
    -------
    Configuration

    Raises
    ------
    SettingsError
        Unreadable file, unknown name, duplicate setting, or invalid value.
    """
    path = None if file is None else Path(file)
    file_settings = [] if path is None else _read_file(path)
    flag_settings = [
        RawSetting(value if key in _TEXT_KEYS else _parse_scalar(value), key)
        for key, value in (flags or {}).items()
        if value is not None
    ]
    flag_settings += parse_assignments(assignments)
    from_file, file_notes = _resolve(file_settings)
    from_flags, flag_notes = _resolve(flag_settings)
    merged = {**from_file, **from_flags}
    _resolve_loss_weights(merged)
    notes = dict.fromkeys(file_notes + flag_notes)
    if "batch_size" in merged and any(_name(setting) in KNOWN for setting in file_settings + flag_settings):
        notes[ptychopinn_names.BATCH_SIZE] = None
    return _validate(merged, tuple(notes))


def parse_assignments(assignments: Iterable[str]) -> list[RawSetting]:
    """Parse ``key=value`` pairs. Values are YAML scalars, except that names and paths are kept as text.

    Raises
    ------
    SettingsError
        No ``=`` in one of them.
    """
    settings = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise SettingsError("not an assignment", key="assignments", found=assignment, expected="key=value")
        one = RawSetting(_parse_scalar(value), key.strip())
        if _name(one) in _TEXT_KEYS and one.value is not None:
            one = _expand_home(one._replace(value=value))
        settings.append(one)
    return settings


def _resolve(given: Iterable[RawSetting]) -> tuple[dict[str, RawSetting], list[str]]:
    """Translate keys to names of this project; return raw settings by name, and notes about translations."""
    resolved: dict[str, RawSetting] = {}
    notes: list[str] = []
    for one in given:
        name = _name(one)
        translation = ptychopinn_names.translate(name, one.value)
        if translation is None:
            _check_name(name, one)
            translation = ptychopinn_names.Translation(name, one.value)
        if translation.note:
            notes.append(translation.note)
        if translation.name is not None and translation.value is not None:
            _add(resolved, translation.name, one._replace(value=translation.value))
    return resolved, notes


def _name(setting: RawSetting) -> str:
    """The key as a name, with underscores instead of a flag's hyphens."""
    return setting.key.lstrip("-").replace("-", "_")


def _resolve_loss_weights(resolved: dict[str, RawSetting]) -> None:
    """Replace PtychoPINN's weights of losses by the loss that they select."""
    weights = {name: resolved.pop(name) for name in ptychopinn_names.LOSS_WEIGHTS if name in resolved}
    if not weights:
        return
    last = next((setting for setting in weights.values() if setting.file is None), next(iter(weights.values())))
    chosen = ptychopinn_names.loss_of_weights({name: setting.value for name, setting in weights.items()})
    if chosen is None:
        raise SettingsError(
            "several losses cannot be combined", file=last.file, key=", ".join(weights),
            found=", ".join(str(setting.value) for setting in weights.values()),
            expected="one weight of 1, the others 0", remedy=f"choose with loss: {', '.join(get_args(Loss))}",
        )  # fmt: skip
    named = resolved.get("loss")
    if named is not None and (named.file is None) != (last.file is None):  # the flag wins
        if named.file is None:
            return
        del resolved["loss"]
    _add(resolved, "loss", last._replace(value=chosen))


def _add(resolved: dict[str, RawSetting], name: str, setting: RawSetting) -> None:
    earlier = resolved.get(name)
    if earlier is not None and earlier.value != setting.value:
        raise SettingsError(
            f"'{name}' is given twice", file=setting.file, key=setting.key, found=f"{setting.value} after {earlier.value}",
            remedy=f"keep one of '{earlier.key}' and '{setting.key}'",
        )  # fmt: skip
    resolved[name] = setting


def _check_name(name: str, setting: RawSetting) -> None:
    if name in _NAMES or name in KNOWN:
        return
    near = difflib.get_close_matches(name, sorted(_NAMES | KNOWN), n=1)
    raise SettingsError(
        "no such setting", file=setting.file, key=setting.key, remedy=f"did you mean '{near[0]}'?" if near else
        "the verb's help and docs/settings.md list them",
    )  # fmt: skip


def _validate(resolved: Mapping[str, RawSetting], notes: tuple[str, ...]) -> Configuration:
    for name, setting in resolved.items():
        if isinstance(setting.value, bool) and _annotation(name) is not bool:
            raise SettingsError(
                "invalid value", file=setting.file, key=setting.key, found=setting.value, expected="not a boolean"
            )
    own = {name: setting.value for name, setting in resolved.items() if name in _OWN_NAMES}
    settings = {name: setting.value for name, setting in resolved.items() if name not in _OWN_NAMES}
    try:
        return Configuration.model_validate({**own, "settings": Settings(**settings), "notes": notes})
    except SettingsError as error:
        setting = resolved[str(error.key)]
        raise SettingsError(
            error.problem,
            file=setting.file,
            key=setting.key,
            found=format_for_error(setting.value),
            expected=error.expected,
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        setting = next(resolved[str(part)] for part in reversed(first["loc"]) if part in resolved)
        raise SettingsError(
            "invalid value", file=setting.file, key=setting.key, found=repr(setting.value),
            expected=first["msg"].removeprefix("Input should be "),
        ) from None  # fmt: skip


def _annotation(name: str) -> Any:
    model = Configuration if name in _OWN_NAMES else Settings
    return model.model_fields[name].annotation


def _parse_scalar(value: object) -> object:
    """Parse a flag's text as a YAML scalar: 3, true, null, or the text itself."""
    if not isinstance(value, str):
        return value
    try:
        read = parse_yaml(value).content
    except yaml.YAMLError:
        return value
    return read if isinstance(read, bool | int | float | None) else value


def _read_file(path: Path) -> list[RawSetting]:
    """Read the settings of a YAML file, with PtychoPINN's blocks flattened."""
    document = read_yaml(path, texts=_TEXT_KEYS)
    content = {} if document.content is None else document.content
    if not isinstance(content, dict):
        raise SettingsError("not a mapping", file=path, found=type(content).__name__, expected="lines of 'key: value'")
    known_keys = _NAMES | KNOWN | BLOCKS
    own = {key: value for key, value in content.items() if key in known_keys or key not in document.templates}
    return [_expand_home(RawSetting(value, str(key), path)) for key, value in ptychopinn_names.flatten(own)]


def _expand_home(setting: RawSetting) -> RawSetting:
    """Expand ``~`` at the beginning of a path, as a shell does for flags."""
    name = _name(setting)
    if RENAMED.get(name, name) not in _PATHS or not isinstance(setting.value, str) or not setting.value.startswith("~"):
        return setting
    try:
        return setting._replace(value=str(Path(setting.value).expanduser()))
    except RuntimeError:
        raise SettingsError(
            "no such home directory",
            file=setting.file,
            key=setting.key,
            found=setting.value,
            remedy="write the path in full",
        ) from None
