"""What the shell offers for the value of an option: known words, file names, or both.

Nothing is checked here: the libraries accept or refuse a value. The words are repeated, because the libraries load
NumPy, which the user would wait for after pressing Tab.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

__all__ = ["WORDS", "Words", "offer_values"]

# Option -> words that it accepts. Plots and pages have file names, which are completed as such.
WORDS = {
    "backend": ("pytorch", "tensorflow", "tf", "torch"),
    "backends": ("tf,torch", "tf", "torch"),
    "engine": ("onnxruntime", "tensorflow", "torch"),
    "provider": ("auto", "cpu", "cuda", "tensorrt", "openvino", "coreml", "directml"),
    "values": ("amplitude", "intensity"),
    "zero_frequency": ("centre", "corner"),
    "flux": ("match", "as-is"),
    "phases": ("auto", "overlap", "network"),
    "positions": ("raster", "fermat", "random"),
    "system": ("ptychonn", "ptychovit"),
    "transform": ("none", "log1p", "log10p"),
    "mean_photons": ("unknown",),
    "profile": ("ptychovit",),
}
_ALSO_FILES = {"positions"}
_FILES = {"FILE", "DIR", "BUNDLE", "RUN", "IMAGE", "YAML", "A", "B"}  # what a value is called that names a file


class Words(click.types.StringParamType):
    """A text, for which the shell offers words."""

    def __init__(self, words: tuple[str, ...], *, also_files: bool = False) -> None:
        self.words = words
        self.also_files = also_files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """Offer the words that begin like this; where there is none, files."""
        offered = [CompletionItem(word) for word in self.words if word.startswith(incomplete)]
        return offered if offered or not self.also_files else [CompletionItem(incomplete, type="file")]


def offer_values(param: click.Parameter) -> None:
    """Give a parameter that takes any text a type for which the shell has something to offer."""
    if param.type is not click.STRING:
        return
    if param.name in WORDS:
        param.type = Words(WORDS[param.name], also_files=param.name in _ALSO_FILES)
    elif param.metavar in _FILES:
        param.type = click.Path()
