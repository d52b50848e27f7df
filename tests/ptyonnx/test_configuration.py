from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ptyonnx.settings import Settings, configuration, ptychopinn_names
from ptyonnx.settings.configuration import configure
from ptyonnx_bundles.errors import SettingsError

Write = Callable[[str], Path]
ROOT = Path(__file__).parents[2]

PTYCHOPINN_YAML = """
model:
  N: 64
  gridsize: 2
  n_filters_scale: 2
  model_type: pinn
  object_big: true
  amp_activation: sigmoid
  probe_scale: 10.0
train_data_file: a.npz
test_data_file: b.npz
output_dir: out
nepochs: 50
batch_size: 16
n_images: 512
nphotons: 1.0e+9
nll_weight: 0.0
mae_weight: 1.0
probe_trainable: true
gradient_clip_val: 1.5
backend: tensorflow
"""


@pytest.fixture
def yaml_file(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_nothing_said_gives_the_defaults() -> None:
    assert configure().settings == Settings()


def test_ptychopinn_yaml_is_understood(yaml_file: Write) -> None:
    found = configure(yaml_file(PTYCHOPINN_YAML))
    settings = found.settings
    assert (found.N, found.backend, found.data, found.test_data, found.output) == (
        64, "tensorflow", Path("a.npz"), Path("b.npz"), Path("out"),
    )  # fmt: skip
    assert (settings.gridsize, settings.filters_scale, settings.epochs, settings.n_groups) == (2, 2.0, 50, 512)
    assert (settings.loss, settings.train_probe, settings.clip, settings.batch_size) == ("amplitude_mae", True, 1.5, 16)


def test_what_is_obsolete_is_said_aloud(yaml_file: Write) -> None:
    notes = configure(yaml_file(PTYCHOPINN_YAML)).notes
    for name in ("nphotons", "object_big", "amp_activation", "probe_scale"):
        assert any(note.startswith(name) for note in notes), name
    assert not any("gridsize" in note or "nepochs" in note for note in notes)


def test_the_other_meaning_of_batch_size_is_said_to_ptychopinns_users_alone() -> None:
    assert configure(flags={"batch_size": "4", "epochs": "3"}).notes == ()
    (note,) = configure(flags={"batch_size": "4", "nepochs": "3"}).notes
    assert "counts regions" in note


def test_the_blocks_of_newer_ptychopinn_files_are_opened(yaml_file: Write) -> None:
    text = "sampling: {n_groups: 8, neighbor_count: 5}\ndata: {train_data_file: a.npz}\ngradient_clip: {val: 0.7}\n"
    found = configure(yaml_file(text))
    assert (found.data, found.settings.n_groups, found.settings.neighbor_count, found.settings.clip) == (
        Path("a.npz"), 8, 5, 0.7,
    )  # fmt: skip


def test_flags_win_over_the_file_even_under_another_name(yaml_file: Write) -> None:
    path = yaml_file("nepochs: 50\nseed: 3\nloss: amplitude_mse\n")
    found = configure(path, {"epochs": "2", "nll_weight": "1"}, ["seed=4"])
    assert (found.settings.epochs, found.settings.seed, found.settings.loss) == (2, 4, "poisson")


def test_a_value_of_the_file_stays_where_no_flag_speaks(yaml_file: Write) -> None:
    found = configure(yaml_file("epochs: 7\nrate: 1e-3\n"), {"epochs": None, "gridsize": "2"})
    assert (found.settings.epochs, found.settings.rate, found.settings.gridsize) == (7, 1e-3, 2)


@pytest.mark.parametrize("text, wanted", [("False", False), ("true", True), ("no", False), ("on", True)])
def test_a_flag_says_no_when_it_says_false(text: str, wanted: bool) -> None:
    assert configure(flags={"train_probe": text}).settings.train_probe is wanted
    assert configure(flags={"probe_trainable": text}).settings.train_probe is wanted


def test_object_big_false_is_a_note_and_changes_nothing() -> None:
    found = configure(flags={"object_big": "False"})
    assert found.settings == Settings()
    assert found.notes[0].startswith("object_big has no effect")


def test_null_means_the_default(yaml_file: Write) -> None:
    found = configure(yaml_file("n_subsample: null\nsubsample_seed: null\nnepochs:\n"), {"n_groups": "null"})
    assert found.settings == Settings()


@pytest.mark.parametrize(
    "assignment, key, hint",
    [
        ("epoch=3", "epoch", "'epochs'"),
        ("filter_scale=1", "filter_scale", "'filters_scale'"),
        ("object_bigg=1", "object_bigg", "'object_big'"),
        ("zzz=1", "zzz", "docs/settings.md"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest_one(assignment: str, key: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(assignments=[assignment])
    assert caught.value.key == key
    assert hint in str(caught.value.remedy)


@pytest.mark.parametrize(
    "text, key",
    [
        ("epochs: 1.5", "epochs"),
        ("epochs: many", "epochs"),
        ("epochs: 0", "epochs"),
        ("epochs: true", "epochs"),
        ("rate: .nan", "rate"),
        ("loss: l2", "loss"),
        ("nepochs: -1", "nepochs"),
        ("model: {gridsize: 9}", "gridsize"),
        ("values: counts", "values"),
        ("N: 1.5", "N"),
        ("epochs: [1]", "epochs"),
        ("train_probe: 3", "train_probe"),
        ("data: [a.npz]", "data"),
    ],
)
def test_an_unusable_value_names_file_and_key_in_one_line(yaml_file: Write, text: str, key: str) -> None:
    path = yaml_file(text)
    with pytest.raises(SettingsError) as caught:
        configure(path)
    assert caught.value.key == key
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, key, found",
    [
        ("- a\n- b\n", None, "list"),
        ("epochs: [", None, None),
        ("epochs: 1\nepochs: 2\n", None, None),
        ("!!python/object/apply:os.system ['true']", None, None),
        ("epochs: 3\nnepochs: 4\n", "nepochs", "4 after 3"),
        ("mae_weight: 0.5\nnll_weight: 0.5\n", "mae_weight, nll_weight", "0.5, 0.5"),
        ("mae_weight: 1\n", "mae_weight", "1"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(yaml_file: Write, text: str, key: str | None, found: str | None) -> None:
    path = yaml_file(text)
    with pytest.raises(SettingsError) as caught:
        configure(path)
    assert caught.value.file == str(path)
    assert set((caught.value.key or "").split(", ")) == set((key or "").split(", "))
    assert caught.value.found == found


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(tmp_path / "absent.yaml")
    assert caught.value.file == str(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError) as caught:
        configure(binary)
    assert caught.value.file == str(binary)


def test_the_settings_of_a_run_are_a_configuration(yaml_file: Write) -> None:
    settings = Settings(gridsize=2, rate=3e-4, train_probe=True, loss="amplitude_mse")
    text = yaml.safe_dump(settings.model_dump(mode="json"))
    assert configure(yaml_file(text)).settings.model_dump() == settings.model_dump()


def test_an_empty_file_says_nothing(yaml_file: Write) -> None:
    assert configure(yaml_file("# nothing\n")).settings == Settings()


@pytest.mark.parametrize("assignment", ["epochs", "=3", ""])
def test_set_needs_an_equals_sign(assignment: str) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(assignments=[assignment])
    assert (caught.value.found, caught.value.expected) == (assignment, "key=value")


def test_a_setting_said_twice_by_flags_is_refused_unless_they_agree() -> None:
    assert configure(flags={"epochs": "3", "nepochs": "3"}).settings.epochs == 3
    with pytest.raises(SettingsError) as caught:
        configure(flags={"epochs": "3", "nepochs": "4"})
    assert (caught.value.key, caught.value.found) == ("nepochs", "4 after 3")


def test_another_N_than_the_scan_is_an_error() -> None:
    configure(flags={"N": "64"}).check_size(64, "scan.npz")
    configure().check_size(64, "scan.npz")
    with pytest.raises(SettingsError) as caught:
        configure(flags={"N": "128"}).check_size(64, "scan.npz")
    assert (caught.value.key, caught.value.found, caught.value.expected) == ("N", 64, 128)


def test_the_minimal_configuration_is_gridsize_2_and_nothing_else() -> None:
    found = configure(ROOT / "configs" / "gridsize2_minimal.yaml")
    assert found.settings == Settings(gridsize=2)
    assert found.notes == ()


def test_every_name_of_ptychopinn_stands_in_the_documentation() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in sorted(ptychopinn_names.KNOWN) if f"`{name}" not in page] == []
    for name, renamed in ptychopinn_names.RENAMED.items():
        assert f"| `{name}` | `{renamed}` |" in page
        assert renamed in Settings.model_fields or renamed in configuration.Configuration.model_fields


def test_no_name_of_ptychopinn_hides_one_of_ours() -> None:
    own = set(Settings.model_fields) | set(configuration.Configuration.model_fields)
    assert not ptychopinn_names.KNOWN & own


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=20))
def test_whatever_text_a_flag_has_it_is_a_setting_or_a_settings_error(name: str, text: str) -> None:
    try:
        settings = configure(flags={name: text}).settings
    except SettingsError:
        return
    Settings.model_validate(settings.model_dump())


def test_folders_and_files_may_be_called_like_values() -> None:
    found = configure(None, {"output": "on", "data": "2026", "epochs": "3"})
    assert (found.output, found.data, found.settings.epochs) == (Path("on"), Path("2026"), 3)


@pytest.mark.parametrize("name", [
    "n_subsample", "subsample_seed", "n_groups", "neighbor_count", "epochs", "region_size", "batch_size", "seed",
    "patience", "threads",
])  # fmt: skip
def test_whole_numbers_without_end_are_refused(yaml_file: Write, name: str) -> None:
    for number in ("4294967296", "0x" + "f" * 5000):  # the latter has too many digits for Python to write it
        with pytest.raises(SettingsError) as caught:
            configure(yaml_file(f"{name}: {number}"))
        assert caught.value.key == name
        assert "\n" not in str(caught.value)
