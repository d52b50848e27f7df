"""The manifest: everything that has to be known about a bundle beside its graph.

The JSON schema in `schema.json` is generated from these classes (`python
bundles/make_schema.py`), and a test keeps it current.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ptyonnx_bundles.errors import BundleError, ProtocolError
from ptyonnx_bundles.recipe import Recipe

__all__ = [
    "PROTOCOL",
    "Digests",
    "Manifest",
    "Physics",
    "Producer",
    "TrainingData",
    "generate_schema",
    "parse_manifest",
    "protocol_of",
    "schema",
]

PROTOCOL: Literal[2] = 2  # the newest; a bundle states the lowest that can say what it is
_PROTOCOLS: dict[str, Literal[1, 2]] = {"two-headed-cnn-1": 1, "two-headed-cnn-2": 2}
_KNOWN = f"at most {PROTOCOL}"
_KEY = "ptyonnx.manifest"


def _refuse_infinities(value: JsonValue) -> JsonValue:
    json.dumps(value, allow_nan=False)
    return value


Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Setting = Annotated[JsonValue, AfterValidator(_refuse_infinities)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Producer(_Part):
    """Who made the bundle."""

    framework: Literal["pytorch", "tensorflow"]
    versions: dict[str, str] = Field(description="package name -> version, of all that took part")


class Physics(_Part):
    """The measurement that the network was trained for."""

    N: int = Field(gt=0, description="pattern width and height, pixels")
    gridsize: int = Field(gt=0)
    probe_modes: int = Field(gt=0)
    mean_photons: float = Field(gt=0, description="mean photons per pattern of the training scan")
    wavelength_m: float | None = Field(default=None, gt=0)
    object_pixel_size_m: float | None = Field(default=None, gt=0)


class TrainingData(_Part):
    """What the network has seen."""

    name: str
    digest: Digest = Field(description="SHA-256 of the arrays of the scan")
    patterns: int = Field(gt=0)


class Digests(_Part):
    """What shows that two bundles are the same function."""

    weights: Digest
    graph: Digest


class Manifest(_Part):
    """Everything that is known about a bundle.

    Attributes
    ----------
    protocol : int
        Raised by one whenever a reader of the previous protocol would misread or refuse
        the file; fields that old readers need not know come with a new protocol too,
        since unknown fields are errors. Follows from the recipe's family: 2 brought the second.
    """

    protocol: Literal[1, 2] = Field(description="1: two-headed-cnn-1, 2: two-headed-cnn-2")
    recipe: Recipe
    producer: Producer
    physics: Physics
    training_data: TrainingData
    settings: dict[str, Setting] = Field(description="training settings as resolved")
    metrics: dict[str, float] = Field(default_factory=dict, description="last validation metrics")
    digests: Digests
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    licence: str | None = Field(default=None, description="SPDX identifier or text, of the weights")
    notes: str = ""

    @model_validator(mode="after")
    def _check_protocol(self) -> Manifest:
        if self.protocol != protocol_of(self.recipe):
            raise ValueError(f"protocol {self.protocol} has no recipe {self.recipe.name}")
        return self

    def to_json(self) -> str:
        """Write the manifest as JSON text, keys in the order of the specification."""
        return self.model_dump_json()


def protocol_of(recipe: Recipe) -> Literal[1, 2]:
    """Give the lowest protocol that has this recipe: what a bundle of it states."""
    return _PROTOCOLS[recipe.name]


def parse_manifest(text: str, file: str | None = None) -> Manifest:
    """Read a manifest from its JSON text.

    Parameters
    ----------
    text : str
        From a stranger.
    file : str, optional
        Named in errors.

    Raises
    ------
    ProtocolError
        The protocol number is one that this version does not know.
    BundleError
        Not JSON, or a field is missing, unknown or of the wrong kind.
    """
    try:
        values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError):
        raise BundleError("the manifest is not JSON", file=file, key=_KEY) from None
    protocol = values.get("protocol") if isinstance(values, dict) else None
    if not isinstance(protocol, int) or isinstance(protocol, bool):
        raise ProtocolError("the manifest states no protocol number", file=file, key="protocol", expected=_KNOWN)
    if protocol not in _PROTOCOLS.values():
        raise ProtocolError(
            "cannot read this protocol", file=file, key="protocol", found=protocol, expected=_KNOWN,
            remedy="a newer ptyonnx may read it: pip install --upgrade ptyonnx" if protocol > PROTOCOL else None,
        )  # fmt: skip
    try:
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise BundleError.from_validation(error, file=file, key=_KEY) from None


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands twice")
    return values


def schema() -> dict[str, Any]:
    """Give the JSON schema of the manifest, as published in `schema.json`."""
    text = resources.files("ptyonnx_bundles").joinpath("schema.json").read_text(encoding="utf-8")
    published: dict[str, Any] = json.loads(text)
    return published


def generate_schema() -> str:
    """Generate the text that `schema.json` must hold."""
    described = Manifest.model_json_schema()
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    described["$id"] = "urn:ptyonnx:manifest"
    return json.dumps(described, indent=2) + "\n"
