"""Metadata that are missing, and manifests that are not manifests."""

from collections.abc import Callable

import onnx

from hostile.cases import DIGEST, MANIFEST, PROBE, SELFTEST, edit, entry

edit(
    "ordinary_model",
    "'ptyonnx.manifest': missing from the model's metadata",
    lambda m: m.metadata_props.__delitem__(slice(None)),
)
for _key in (PROBE, SELFTEST, DIGEST):
    edit(
        f"no_{_key[8:]}", f"'{_key}': missing from the model's metadata",
        lambda m, key=_key: m.metadata_props.remove(entry(m, key)),
    )  # fmt: skip
edit("unknown_entry", "'ptyonnx.later': unknown entry", lambda m: m.metadata_props.add(key="ptyonnx.later", value="?"))


def manifest_case(name: str, expected: str, change: Callable[[str], str]) -> None:
    """Register a change of the manifest's text."""

    def damage(model: onnx.ModelProto) -> None:
        item = entry(model, MANIFEST)
        item.value = change(item.value)

    edit(name, expected, damage, seal=False)


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(manifest: str) -> str:
        if old not in manifest:
            raise ValueError(f"{old} does not stand in the manifest")
        return manifest.replace(old, new, 1)

    return change


NO_JSON = "'ptyonnx.manifest': the manifest is not JSON"
manifest_case("manifest_is_text", NO_JSON, lambda _: "protocol: 1")
manifest_case("manifest_is_empty", NO_JSON, lambda _: "")
manifest_case("manifest_deeply_nested", NO_JSON, lambda _: "[" * 200_000)
manifest_case("manifest_with_nan", NO_JSON, replaced('"mean_photons":450000.0', '"mean_photons":NaN'))
manifest_case("manifest_with_a_key_twice", NO_JSON, replaced('"protocol":2', '"protocol":2,"protocol":2'))
manifest_case("manifest_with_a_huge_number", NO_JSON, replaced('"patterns":1', '"patterns":' + "1" * 10_000))
manifest_case("manifest_larger_than_allowed", "the manifest is larger than 1 MiB", lambda t: t + " " * 2**20)
manifest_case("manifest_is_a_list", "'protocol': the manifest states no protocol number", lambda _: "[1]")
manifest_case("no_protocol", "'protocol': the manifest states no protocol number", replaced('"protocol":2,', ""))
manifest_case(
    "protocol_is_text", "'protocol': the manifest states no protocol number", replaced('"protocol":2', '"protocol":"2"')
)
manifest_case(
    "later_protocol",
    "'protocol': cannot read this protocol, found 5, expected at most 4",
    replaced('"protocol":2', '"protocol":5'),
)
manifest_case(
    "recipe_of_a_later_protocol",
    "'ptyonnx.manifest': protocol 1 has no recipe two-headed-cnn-2",
    replaced('"protocol":2', '"protocol":1'),
)
manifest_case(
    "recipe_of_an_earlier_protocol",
    "'ptyonnx.manifest': protocol 2 has no recipe two-headed-cnn-1",
    replaced("two-headed-cnn-2", "two-headed-cnn-1"),
)
manifest_case("unknown_key", "'colour': no such key", replaced("{", '{"colour":"red",'))
manifest_case("missing_key", "'physics': missing", replaced('"physics":', '"x":'))
manifest_case("infinite_number", "'physics.mean_photons': ", replaced("450000.0", "1e999"))
manifest_case("infinite_setting", "'settings.seed'", replaced('"seed":4', '"seed":[1e999]'))
manifest_case(
    "number_as_text",
    "'physics.N': input should be a valid integer, found '32'",
    replaced('"physics":{"N":32', '"physics":{"N":"32"'),
)
manifest_case("impossible_recipe", "N = 50 is not a multiple of 16", replaced('"N":32', '"N":50'))
manifest_case("time_without_zone", "'created': ", replaced("00:00:00Z", "00:00:00"))
manifest_case(
    "recipe_and_physics_differ",
    "'physics': recipe and physics differ",
    replaced('"physics":{"N":32', '"physics":{"N":64'),
)
manifest_case("digest_is_not_one", "'digests.weights': ", replaced('"weights":"', '"weights":"g'))
manifest_case("nested_settings", "'ptyonnx.manifest': ", replaced('"seed":4', '"seed":' + "[" * 500 + "]" * 500))
manifest_case("edited_manifest", "'digest of the metadata': the metadata changed", replaced("450000.0", "450001.0"))
edit("edited_digest", "'digest of the metadata': ", lambda m: setattr(entry(m, DIGEST), "value", "\x1b[2J"), seal=False)
