"""The manifest: JSON and back, the published schema, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hostile import SAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ptyonnx_bundles import Manifest, Physics, parse_manifest, read_bundle, schema
from ptyonnx_bundles.errors import BundleError
from ptyonnx_bundles.manifest import FOREIGN_PROTOCOL, generate_schema

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)
POSITIVE = st.floats(1e-300, 1e300)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip
GRIDSIZE, SIZE = st.shared(st.integers(1, 4), key="gridsize"), st.shared(st.sampled_from([32, 64, 80, 256]), key="N")
PROTOCOLS = st.shared(st.integers(1, FOREIGN_PROTOCOL - 1), key="protocol")
MANIFESTS = st.fixed_dictionaries(
    {
        "protocol": PROTOCOLS,
        "recipe": st.fixed_dictionaries({"name": PROTOCOLS.map("two-headed-cnn-{}".format), "N": SIZE, "gridsize": GRIDSIZE, "filters_scale": st.floats(0.01, 8)}),
        "producer": st.fixed_dictionaries(
            {"framework": st.sampled_from(["pytorch", "tensorflow"]), "versions": st.dictionaries(TEXT, TEXT, max_size=3)}
        ),
        "physics": st.fixed_dictionaries(
            {"N": SIZE, "gridsize": GRIDSIZE, "probe_modes": st.integers(1, 9), "mean_photons": POSITIVE},
            optional={"wavelength_m": POSITIVE, "object_pixel_size_m": st.one_of(st.none(), POSITIVE)},
        ),
        "training_data": st.fixed_dictionaries({"name": TEXT, "digest": DIGEST, "patterns": st.integers(1, 10**9)}),
        "settings": st.dictionaries(TEXT, JSON, max_size=4),
        "digests": st.fixed_dictionaries({"weights": DIGEST, "graph": DIGEST}),
    },
    optional={
        "metrics": st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
        "created": st.datetimes(datetime(1900, 1, 1), datetime(2999, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))])),  # noqa: DTZ001
        "licence": st.one_of(st.none(), TEXT),
        "notes": TEXT,
    },
)  # fmt: skip
SAMPLE_TEXT = read_bundle(SAMPLE).graph.metadata["ptyonnx.manifest"]
VALIDATOR = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())


@given(MANIFESTS)
@settings(max_examples=100, deadline=None)
def test_every_manifest_survives_json_and_follows_the_schema(values: dict[str, Any]) -> None:
    manifest = Manifest.model_validate(values)
    text = manifest.to_json()
    assert parse_manifest(text) == manifest
    assert parse_manifest(text).to_json() == text
    VALIDATOR.validate(json.loads(text))


def test_the_published_schema_is_current() -> None:
    assert json.loads(generate_schema()) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_script_that_publishes_the_schema_changes_nothing() -> None:
    root = Path(__file__).parents[2] / "bundles"
    before = (root / "ptyonnx_bundles" / "schema.json").read_bytes()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(root / "make_schema.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (root / "ptyonnx_bundles" / "schema.json").read_bytes() == before


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the places of all members of a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in members for place in [(*here, key), *paths(inner, (*here, key))]]


@given(st.sampled_from(paths(json.loads(SAMPLE_TEXT))), st.one_of(JSON, st.just("remove")))
@settings(max_examples=300, deadline=None)
def test_what_is_read_follows_the_schema(place: tuple[Any, ...], value: Any) -> None:
    """The reader is never laxer than the published schema."""
    manifest = json.loads(SAMPLE_TEXT)
    holder = manifest
    for key in place[:-1]:
        holder = holder[key]
    if value == "remove":
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    try:
        parse_manifest(json.dumps(manifest))
    except BundleError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are checked
        return
    VALIDATOR.validate(manifest)


@pytest.mark.parametrize("field", list(json.loads(SAMPLE_TEXT)))
def test_fields_without_which_nothing_works_are_required(field: str) -> None:
    manifest = json.loads(SAMPLE_TEXT)
    del manifest[field]
    if field in schema()["required"]:
        with pytest.raises(BundleError) as raised:
            parse_manifest(json.dumps(manifest))
        assert raised.value.key == field
    else:
        assert parse_manifest(json.dumps(manifest))


def test_creation_time_is_set_with_its_zone_to_the_second() -> None:
    values = {key: value for key, value in json.loads(SAMPLE_TEXT).items() if key != "created"}
    created = Manifest.model_validate(values).created
    assert created.tzinfo is UTC
    assert created.microsecond == 0
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)


@pytest.mark.parametrize("photons", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_photons_are_refused(photons: float) -> None:
    with pytest.raises(ValidationError, match="mean_photons"):
        Physics(N=64, gridsize=1, probe_modes=1, mean_photons=photons)


def test_settings_hold_nothing_but_json() -> None:
    values = {**json.loads(SAMPLE_TEXT), "settings": {"rate": float("nan")}}
    with pytest.raises(ValidationError, match=r"settings\.rate"):
        Manifest.model_validate(values)
    with pytest.raises(ValidationError, match=r"settings\.path"):
        Manifest.model_validate({**values, "settings": {"path": Path()}})
