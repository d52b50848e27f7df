"""The names that packages offer stay what they are, whatever is imported in which order.

Python sets every imported submodule as an attribute of its package: a submodule called `verify` would replace a
function `verify` of the same package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pkgutil import iter_modules

import ptyonnx

ROOTS = ("ptyonnx", "ptyonnx_runtime", "ptyonnx_bundles", "ptyonnx_converters")
# Prints, as JSON, the names of all packages whose values change while every submodule is imported.
# The frameworks' own modules are left out: they take seconds to import, and their packages offer no names.
IMPORT_EVERYTHING = """
import json, sys
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType

def below(root, packages):
    for module in walk_packages(import_module(root).__path__, root + "."):
        words = module.name.replace("_", ".").split(".")
        if module.ispkg >= packages and not {"pytorch", "tensorflow", "main"} & set(words):
            yield import_module(module.name)

packages = [import_module(root) for root in sys.argv[1:]]
packages += [package for root in sys.argv[1:] for package in below(root, packages=True)]
before = {(package.__name__, name): getattr(package, name)
          for package in packages for name in getattr(package, "__all__", ())}
imported = [module for root in sys.argv[1:] for module in below(root, packages=False)]
changed = [f"{package}.{name}" for (package, name), value in before.items()
           if getattr(sys.modules[package], name) != value or isinstance(value, ModuleType)]
print(json.dumps({"names": len(before), "imported": len(imported), "changed": changed}))
"""


def test_every_name_is_what_it_was_after_every_submodule_is_imported() -> None:
    command = [sys.executable, "-c", IMPORT_EVERYTHING, *ROOTS]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(outcome.stdout.splitlines()[-1])
    assert found["names"] > 100
    assert found["imported"] > 150
    assert found["changed"] == []


def test_no_submodule_has_the_name_of_a_function_or_class_of_the_face() -> None:
    assert {module.name for module in iter_modules(ptyonnx.__path__)} & set(ptyonnx.__all__) == set()


def test_every_package_below_the_face_is_reached_without_an_import_of_its_own() -> None:
    packages = sorted(each.name for each in iter_modules(ptyonnx.__path__) if each.ispkg and each.name != "cli")
    program = f"import ptyonnx\nprint([getattr(ptyonnx, package).__name__ for package in {packages}])"
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert outcome.stdout.strip() == str([f"ptyonnx.{package}" for package in packages])
