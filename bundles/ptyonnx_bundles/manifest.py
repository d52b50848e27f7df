"""The manifest: everything that has to be known about a bundle beside its graph.

The JSON schema in `schema.json` is generated from these classes (`python -m
ptyonnx_bundles.manifest`), and a test keeps it current.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ptyonnx_bundles.errors import BundleError, ProtocolError
from ptyonnx_bundles.recipe import Recipe

__all__ = ["PROTOCOL", "Digests", "Manifest", "Physics", "Producer", "TrainingData", "parse_manifest", "schema"]

PROTOCOL = 1

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Setting = bool | int | float | str | None | list[Any] | dict[str, Any]


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
        since unknown fields are errors.
    """

    protocol: int = Field(default=PROTOCOL, ge=1)
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

    def to_json(self) -> str:
        """The manifest as JSON text, keys in the order of the specification."""
        return self.model_dump_json()


def parse_manifest(text: str, file: str | None = None) -> Manifest:
    """Read a manifest from its JSON text.

    Raises
    ------
    ProtocolError
        The protocol number is one that this version does not know.
    BundleError
        Not JSON, or a field is missing, unknown or of the wrong kind.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise BundleError("the manifest is not JSON", file=file, key="ptyonnx.manifest") from None
    protocol = values.get("protocol") if isinstance(values, dict) else None
    if not isinstance(protocol, int) or isinstance(protocol, bool) or protocol != PROTOCOL:
        raise ProtocolError(
            "cannot read this protocol", file=file, key="protocol", found=protocol, expected=PROTOCOL,
            remedy="a newer ptyonnx may read it: pip install --upgrade ptyonnx",
        )  # fmt: skip
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(
            f"the manifest does not follow the schema: {first['msg']}",
            file=file, key=".".join(str(part) for part in first["loc"]) or "ptyonnx.manifest",
        ) from None  # fmt: skip


def schema() -> dict[str, Any]:
    """The JSON schema of the manifest, as published in `schema.json`."""
    return json.loads(resources.files("ptyonnx_bundles").joinpath("schema.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def generate_schema() -> str:
    """The text that `schema.json` must hold."""
    described = Manifest.model_json_schema()
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    described["$id"] = f"urn:ptyonnx:manifest:{PROTOCOL}"
    return json.dumps(described, indent=2) + "\n"


if __name__ == "__main__":
    with resources.as_file(resources.files("ptyonnx_bundles").joinpath("schema.json")) as path:
        path.write_text(generate_schema(), encoding="utf-8")
