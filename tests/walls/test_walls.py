import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from bundle_factory import make_bundle
from foreign_networks import ptychonn

import ptyonnx
from ptyonnx.cli import VERBS

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("torch", "lightning", "tensorflow", "keras", "onnx", "tf2onnx", "onnx_ir")

# Runs a program, then prints every top-level module that it loaded, as the last line.
WATCH = """
import sys
try:
    exec(sys.argv.pop(1))
finally:
    print()
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
DECLARED = (
    *("--system", "ptychonn", "--zero-frequency", "centre"),
    *("--scale", "factor=1", "--mean-photons", "unknown"),
)
COMMAND = "import sys; from ptyonnx.cli import main; sys.exit(main())"


def _loaded(program: str, *arguments: object, code: int = 0) -> set[str]:
    """Top-level modules that a program loads in a process of its own."""
    words = [sys.executable, "-c", WATCH, program, *map(str, arguments)]
    outcome = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert outcome.returncode == code, outcome.stderr
    return set(outcome.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", ["onnx", "numpy", "keras"])
def test_the_watch_sees_a_module_that_is_loaded(module: str, tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("", encoding="utf-8")  # the real one takes seconds
    assert module in _loaded(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {module}")


def test_importing_ptyonnx_loads_nothing_heavy() -> None:
    assert not _loaded("import ptyonnx") & {*FRAMEWORKS, "numpy", "scipy", "pydantic", "h5py", "matplotlib", "click"}


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("--version",), ("trian",), ()])
def test_the_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    heavy = {*FRAMEWORKS, "numpy", "scipy", "pydantic", "yaml", "h5py", "onnxruntime", "matplotlib", "PIL", "tqdm"}
    assert not _loaded(COMMAND, *arguments, code=2 if "trian" in arguments else 0) & heavy


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_loads_no_framework(verb: str) -> None:
    assert not _loaded(COMMAND, verb, "--help") & {*FRAMEWORKS, "scipy", "h5py", "onnxruntime", "matplotlib"}


def test_reconstruct_inspect_verify_and_diff_load_no_framework(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle.onnx").path
    scan = ROOT / "samples" / "siemens_star_64.npz"
    result = tmp_path / "result.h5"
    loaded = _loaded(COMMAND, "reconstruct", bundle, "--data", scan, "-o", result, "--plot", tmp_path / "result.png")
    assert result.exists()
    assert "onnxruntime" in loaded
    for words in (("inspect", bundle), ("verify", bundle), ("diff", bundle, bundle)):
        loaded |= _loaded(COMMAND, *words)
    assert not loaded & set(FRAMEWORKS)


def test_networks_come_in_and_go_out_without_a_training_framework(tmp_path: Path) -> None:
    """onnx and onnxruntime are enough."""
    model, bundle, vit = (tmp_path / name for name in ("nn.onnx", "bundle.onnx", "vit.onnx"))
    model.write_bytes(ptychonn().SerializeToString())
    loaded = _loaded(COMMAND, "adopt", model, "-o", bundle, *DECLARED)
    loaded |= _loaded(COMMAND, "export", bundle, "--profile", "ptychovit", "--batch", 2, "-o", vit)
    assert vit.exists()
    assert not loaded & (set(FRAMEWORKS) - {"onnx"})


@pytest.mark.parametrize("verb", ["reconstruct", "verify", "diff", "adopt"])
def test_nothing_is_reported_to_the_makers_of_onnxruntime(verb: str, tmp_path: Path) -> None:
    """Where telemetry is on, loading onnxruntime leaves its session file in the folder for temporary files."""
    bundle, other = (make_bundle(tmp_path / f"{seed}.onnx", seed=seed).path for seed in (0, 1))
    words = {
        "reconstruct": (bundle, "--data", ROOT / "samples" / "siemens_star_64.npz", "-o", tmp_path / "result.h5"),
        "verify": (bundle,),
        "diff": (bundle, other, "--tolerance", "inf"),
        "adopt": (tmp_path / "nn.onnx", "-o", tmp_path / "adopted.onnx", *DECLARED),
    }[verb]
    (tmp_path / "nn.onnx").write_bytes(ptychonn().SerializeToString())
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "ptyonnx", verb, *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment |= {"TMPDIR": str(temporary), "HOME": str(temporary)}
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
    assert list(temporary.iterdir()) == []


def test_the_face_is_sorted_and_every_name_is_there_for_the_taking() -> None:
    assert ptyonnx.__all__ == sorted(ptyonnx.__all__)
    assert dir(ptyonnx) == ptyonnx.__all__
    for name in ptyonnx.__all__:
        assert getattr(ptyonnx, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'reconstrukt'"):
        _ = ptyonnx.reconstrukt


def test_no_name_of_the_face_is_hidden_by_a_module_of_that_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(ptyonnx.__path__)}
    assert not modules & set(ptyonnx.__all__)
    for name in ptyonnx.__all__:
        assert not isinstance(getattr(ptyonnx, name), types.ModuleType)


def test_what_type_checkers_see_of_the_face_is_what_it_hands_on() -> None:
    declared = inspect.getsource(ptyonnx).split("if TYPE_CHECKING:")[1].split("__all__")[0]
    for name, (module, attribute) in ptyonnx._ORIGINS.items():
        shown = attribute if attribute == name else f"{attribute} as {name}"
        line = next(
            line for line in declared.splitlines() if line.strip().startswith(f"from {module} import") and shown in line
        )
        assert shown in line
    assert set(ptyonnx._ORIGINS) | {"__version__"} == set(ptyonnx.__all__)


@pytest.mark.parametrize("floor", ["ptyonnx", "ptyonnx_bundles", "ptyonnx_converters", "ptyonnx_runtime"])
def test_all_of_every_module_is_sorted(floor: str) -> None:
    package = importlib.import_module(floor)
    for module in pkgutil.walk_packages(package.__path__, f"{floor}."):
        if (
            module.name.startswith(("ptyonnx.backends.", "ptyonnx_converters.from_"))
            or module.name == "ptyonnx.__main__"
        ):
            continue  # they need their framework
        loaded = importlib.import_module(module.name)
        names = [name for name in getattr(loaded, "__all__", ()) if name != "__version__"]
        assert all(hasattr(loaded, name) for name in names), module.name


def test_the_contracts_between_packages_are_kept() -> None:
    outcome = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_in_its_help(verb: str) -> None:
    command = importlib.import_module(f"ptyonnx.cli.{verb}").command
    assert "Example" in command.help
    assert f"\n  ptyonnx {verb} " in inspect.cleandoc(command.help)


def test_every_verb_stands_in_one_small_file() -> None:
    for path in (ROOT / "ptyonnx").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 350, path
