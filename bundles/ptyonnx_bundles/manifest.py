"""The manifest: all information about a bundle besides its graph.

Protocols 1 and 2 use `Manifest`, protocols 3 and 4 use `ForeignManifest`. Their JSON schemas,
`schema.json` and `schema-3.json`, are generated from them (`python
bundles/make_schema.py`), and a test keeps them current.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ptyonnx_bundles.errors import BundleError, ProtocolError
from ptyonnx_bundles.foreign_recipe import ForeignRecipe, Setting
from ptyonnx_bundles.recipe import Recipe

__all__ = [
    "COARSE_PROTOCOL",
    "FOREIGN_PROTOCOL",
    "PROTOCOL",
    "AnyManifest",
    "Digests",
    "ForeignManifest",
    "ForeignPhysics",
    "ForeignProducer",
    "Manifest",
    "Physics",
    "Producer",
    "TrainingData",
    "generate_schema",
    "parse_manifest",
    "protocol_of",
    "schema",
    "schema_name",
    "stated_protocol",
]

PROTOCOL: Literal[4] = 4  # the newest; a bundle states the lowest one that can describe it
FOREIGN_PROTOCOL: Literal[3] = 3
COARSE_PROTOCOL: Literal[4] = 4
_PROTOCOLS: dict[str, Literal[1, 2]] = {"two-headed-cnn-1": 1, "two-headed-cnn-2": 2}
_KNOWN = f"at most {PROTOCOL}"
_KEY = "ptyonnx.manifest"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Producer(_Part):
    """The framework and the packages that made the bundle."""

    framework: Literal["pytorch", "tensorflow"]
    versions: dict[str, str] = Field(description="package name -> version of all packages involved")


class Physics(_Part):
    """The measurement that the network was trained for."""

    N: int = Field(gt=0, description="pattern width and height, pixels")
    gridsize: int = Field(gt=0)
    probe_modes: int = Field(gt=0)
    mean_photons: float = Field(gt=0, description="mean photons per pattern of the training scan")
    wavelength_m: float | None = Field(default=None, gt=0)
    object_pixel_size_m: float | None = Field(default=None, gt=0)


class TrainingData(_Part):
    """The training scan."""

    name: str
    digest: Digest = Field(description="SHA-256 of the arrays of the scan")
    patterns: int = Field(gt=0)


class Digests(_Part):
    """Digests that are equal if two bundles are the same function."""

    weights: Digest
    graph: Digest


class Manifest(_Part):
    """All information about a bundle.

    Attributes
    ----------
    protocol : int
        Increased by one whenever a reader of the previous protocol would misread or refuse the file;
        every new field needs a new protocol, since unknown fields are errors. It follows from the
        recipe's family: protocol 2 added the second family.
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
    """Return the lowest protocol with this recipe, which its bundles state."""
    return _PROTOCOLS[recipe.name]


class ForeignProducer(_Part):
    """The packages that adopted the network; the recipe's `system` names the one that trained it."""

    framework: Literal["foreign"] = "foreign"
    versions: dict[str, str] = Field(description="package name -> version of all packages involved")


class ForeignPhysics(_Part):
    """The measurement that the network was trained for, as far as known."""

    N: int = Field(gt=0, description="pattern width and height, pixels")
    gridsize: int = Field(gt=0)
    probe_modes: int = Field(ge=0, description="0: the probe is unknown, and scans must contain their own")
    mean_photons: float | None = Field(gt=0, description="mean photons per pattern of the training scan; null: unknown")
    wavelength_m: float | None = Field(default=None, gt=0)
    object_pixel_size_m: float | None = Field(default=None, gt=0)


class ForeignManifest(_Part):
    """All information about a network that another system trained.

    Attributes
    ----------
    protocol : int
        3: adds foreign recipes and unknown values.
        4: the same for coarse number formats, whose self-test has a wider tolerance.
    """

    protocol: Literal[3, 4] = Field(description="4: the self-test's tolerance follows 8-bit or bfloat16 numbers")
    recipe: ForeignRecipe
    producer: ForeignProducer
    physics: ForeignPhysics
    training_data: TrainingData | None = Field(default=None, description="null: unknown")
    settings: dict[str, Setting] = Field(default_factory=dict, description="training settings, if known")
    metrics: dict[str, float] = Field(default_factory=dict, description="last validation metrics")
    digests: Digests
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    licence: str | None = Field(default=None, description="SPDX identifier or text, of the weights")
    notes: str = ""

    def to_json(self) -> str:
        """Write the manifest as JSON text, keys in the order of the specification."""
        return self.model_dump_json()


AnyManifest = Manifest | ForeignManifest
_CLASSES: dict[int, type[Manifest | ForeignManifest]] = {
    1: Manifest,
    2: Manifest,
    3: ForeignManifest,
    4: ForeignManifest,
}


def parse_manifest(text: str, file: str | None = None) -> AnyManifest:
    """Read a manifest from its JSON text.

    Parameters
    ----------
    text : str
        Untrusted.
    file : str, optional
        Named in errors.

    Raises
    ------
    ProtocolError
        This version does not support the protocol.
    BundleError
        The text is not JSON, or a field is missing, unknown or of the wrong type.
    """
    try:
        protocol = stated_protocol(text)
    except (ValueError, RecursionError):
        raise BundleError("the manifest is not JSON", file=file, key=_KEY) from None
    if protocol is None:
        raise ProtocolError("the manifest states no protocol number", file=file, key="protocol", expected=_KNOWN)
    if protocol not in _CLASSES:
        raise ProtocolError(
            "cannot read this protocol", file=file, key="protocol", found=protocol, expected=_KNOWN,
            remedy="a newer ptyonnx may read it: pip install --upgrade ptyonnx" if protocol > PROTOCOL else None,
        )  # fmt: skip
    try:
        return _CLASSES[protocol].model_validate_json(text, strict=True)
    except ValidationError as error:
        raise BundleError.from_validation(error, file=file, key=_KEY) from None


def stated_protocol(text: str) -> int | None:
    """Read the protocol number from the text of a manifest; None if it states none.

    Raises
    ------
    ValueError, RecursionError
        The text is not JSON, or has constants or keys that a manifest must not have.
    """
    values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)
    protocol = values.get("protocol") if isinstance(values, dict) else None
    return protocol if isinstance(protocol, int) and not isinstance(protocol, bool) else None


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("duplicate key")
    return values


def schema_name(protocol: int) -> str:
    """Return the name of the published schema of a protocol."""
    return "schema.json" if protocol < FOREIGN_PROTOCOL else f"schema-{FOREIGN_PROTOCOL}.json"


def schema(protocol: int = 1) -> dict[str, Any]:
    """Return the published JSON schema of the manifest."""
    text = resources.files("ptyonnx_bundles").joinpath(schema_name(protocol)).read_text(encoding="utf-8")
    published: dict[str, Any] = json.loads(text)
    return published


def generate_schema(protocol: int = 1) -> str:
    """Generate the text of the published schema."""
    described = _CLASSES[protocol].model_json_schema()
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    described["$id"] = (
        "urn:ptyonnx:manifest" if protocol < FOREIGN_PROTOCOL else f"urn:ptyonnx:manifest:{FOREIGN_PROTOCOL}"
    )
    return json.dumps(described, indent=2) + "\n"
