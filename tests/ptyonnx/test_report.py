"""The page as text: what stands in it, what it may do, and that nothing in it is lost or obeyed."""

import base64
import hashlib
import io
import json
import math
import re
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float32_bounds import of_polar, of_roundings
from matplotlib import colormaps
from PIL import Image
from report_factory import (
    HOSTILE,
    INSIDE,
    LAYERS,
    SHAPE,
    SQUARE,
    UNKNOWN_A,
    UNKNOWN_B,
    A,
    B,
    make_report,
    objects,
    shown,
)
from skimage.transform import downscale_local_mean

from ptyonnx.report import LayerError, Picture, Report, RingCorrelation, Table, Verdict, write_report
from ptyonnx.report.page import render
from ptyonnx.report.pixels import encode_pixels
from ptyonnx.report.plots import NARROW, WIDE, Frame, Label, draw_curves, draw_layers, draw_ring
from ptyonnx.report.previews import make_previews
from ptyonnx_bundles.errors import MissingDependencyError, OutputError

VOID = {"meta", "input", "link", "br", "img", "hr"}
LARGEST_PAGE_BYTES = 5_000_000


class Elements(HTMLParser):
    """What a browser would see: elements with their attributes and the text directly in them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.found) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.found[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[self._open[-1]][2].append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]


def _plane(plane: dict, shape: tuple[int, int]) -> np.ndarray:
    high, low = np.frombuffer(zlib.decompress(base64.b64decode(plane["bytes"])), np.uint8).reshape(2, *shape)
    return plane["low"] + (256.0 * high + low) / 65535 * (plane["high"] - plane["low"])


def _decoded(data: dict, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B and B - A of a quantity, by the description of the format."""
    shape = (data["height"], data["width"])
    known = np.frombuffer(zlib.decompress(base64.b64decode(data["known"])), np.uint8).reshape(shape)
    base, difference = _plane(data[name]["base"], shape), _plane(data[name]["difference"], shape)
    a, b = np.where(known & 1, base, np.nan), np.where(known & 2, base + difference, np.nan)
    return a, b, difference


def _noise(shape: tuple[int, int], seed: int) -> np.ndarray:
    amplitude, phase = np.random.default_rng(seed).standard_normal((2, *shape))
    return ((1 + 0.1 * amplitude) * np.exp(0.4j * phase)).astype(np.complex64)


def test_all_tags_are_closed_and_every_part_is_there() -> None:
    page = Elements(render(make_report()))
    headings = [text for _, text in page.all("h2")]
    assert headings == ["Verdicts", "Images", "Activations, layer by layer", "Weights", "Training", "Manifests"]
    assert [text for _, text in page.all("caption")] == ["Figures", "Weights", "Manifests"]
    words = [text for attributes, text in page.all("span") if attributes.get("class") == "word"]
    assert words == ["not compared", "differ", "beyond tolerance", "within tolerance"]
    assert [text for _, text in page.all("strong")] == ["B.onnx is beyond the tolerance"]
    drawings = [attributes for attributes, _ in page.all("svg") if attributes.get("role") == "img"]
    assert len(drawings) == 6  # three plots, for wide and for narrow screens
    assert all(attributes["aria-label"] for attributes in drawings)


def test_a_report_without_images_curves_and_layers_has_no_empty_sections() -> None:
    page = Elements(render(Report("a and b")))
    assert page.all("h2") == []
    assert page.all("canvas") == []
    assert [text for _, text in page.all("h1")] == ["a and b"]


def test_the_policy_allows_exactly_the_style_sheet_and_the_script_that_stand_in_the_page() -> None:
    page = Elements(render(make_report()))
    (policy,) = [m["content"] for m, _ in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    ((_, style),) = page.all("style")
    (script,) = [text for attributes, text in page.all("script") if "type" not in attributes]
    for kind, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "img-src data:;" in policy
    assert "unsafe" not in policy


def test_nothing_in_the_page_points_outside() -> None:
    text = render(make_report())
    assert not re.search(r"(?i)\w:/|url\(|@import", text)
    page = Elements(text)
    assert not [attributes for _, attributes, _ in page.found if {"href", "action", "style"} & attributes.keys()]
    sources = [(tag, attributes["src"]) for tag, attributes, _ in page.found if "src" in attributes]
    assert len(sources) == 6
    assert all(tag == "img" and (source or "").startswith("data:image/png;base64,") for tag, source in sources)


def test_a_hostile_name_is_shown_and_not_obeyed() -> None:
    page = Elements(render(make_report(HOSTILE)))
    assert len(page.all("script")) == 3
    assert all("onerror" not in attributes and attributes["src"] != "x" for attributes, _ in page.all("img"))
    assert not [name for _, attributes, _ in page.found for name in attributes if name.startswith("on")]
    shown = HOSTILE.replace("\u202e", "\\u202e")  # would turn the direction of the text
    assert f"a.onnx and {shown}" in [text for _, text in page.all("h1")]
    assert shown in [text for _, text in page.all("td")]
    (pixels,) = [text for attributes, text in page.all("script") if attributes.get("id") == "pixels"]
    assert json.loads(pixels)["labels"] == {"a": "a.onnx", "b": HOSTILE}
    assert "</script" not in pixels


def _steps(data: dict[str, Any], quantity: str, *parts: str) -> float:
    """Half a step of the 16 bits that each plane has for its spread, and the rounding of float32 in front of it."""
    ends = [(data[quantity][part]["low"], data[quantity][part]["high"]) for part in parts]
    return sum((high - low) / (2 * 65535) + of_roundings(4, max(abs(low), abs(high))) for low, high in ends)


def test_what_the_page_stores_is_both_objects() -> None:
    a, b = _noise((37, 51), 0), _noise((37, 51), 1)
    a[:5], b[:, :7] = np.nan, np.nan
    data = encode_pixels(Picture("a", a), Picture("b", b)).data
    amplitude_a, amplitude_b, _ = _decoded(data, "amplitude")
    np.testing.assert_allclose(amplitude_a, np.abs(a), atol=_steps(data, "amplitude", "base"))
    np.testing.assert_allclose(amplitude_b, np.abs(b), atol=_steps(data, "amplitude", "base", "difference"))
    phase_a, phase_b, _ = _decoded(data, "phase")
    step = _steps(data, "phase", "base", "difference")
    known = np.isfinite(a)
    turn = np.mean(np.exp(1j * (phase_a - np.angle(a)))[known])  # one global phase for both
    assert abs(turn) == pytest.approx(1, abs=step**2 + of_polar())  # cosines of what is missing
    for phase, image in ((phase_a, a), (phase_b, b)):
        np.testing.assert_allclose(
            np.exp(1j * phase), turn * np.exp(1j * np.angle(image)), atol=2 * step + of_polar(1, np.pi)
        )  # of the image, and of the turn
        np.testing.assert_array_equal(np.isnan(phase), np.isnan(image))


def test_a_difference_of_a_millionth_is_kept_to_three_digits() -> None:
    a = _noise((40, 40), 0).astype(np.complex128)
    error = np.random.default_rng(3).uniform(-1e-6, 1e-6, a.shape)
    data = encode_pixels(Picture("a", a), Picture("b", a * (1 + error))).data
    *_, difference = _decoded(data, "amplitude")
    np.testing.assert_allclose(difference, np.abs(a) * error, atol=_steps(data, "amplitude", "difference"))


def test_phases_at_the_branch_cut_differ_by_little() -> None:
    a = np.exp(1j * np.linspace(-np.pi, np.pi, 400)).reshape(20, 20)
    data = encode_pixels(Picture("a", a), Picture("b", a * np.exp(0.01j))).data
    *_, difference = _decoded(data, "phase")
    np.testing.assert_allclose(difference, 0.01, atol=_steps(data, "phase", "difference") + of_polar())
    assert data["phase"]["cyclic"]


def test_a_wild_pixel_does_not_cost_the_others_their_resolution() -> None:
    a = _noise((60, 60), 0)
    b = a.copy()
    a[3, 3] = 1e6
    data = encode_pixels(Picture("a", a), Picture("b", b)).data
    amplitude, *_ = _decoded(data, "amplitude")
    ordinary = np.ones(a.shape, bool)
    ordinary[3, 3] = False
    np.testing.assert_allclose(amplitude[ordinary], np.abs(a)[ordinary], atol=_steps(data, "amplitude", "base"))
    assert _steps(data, "amplitude", "base") < 1e-3  # of amplitudes about 1


def test_objects_without_a_known_pixel_and_of_one_value_are_drawn() -> None:
    for value in (np.nan, 0.0, 1.0):
        image = np.full((9, 4), value, np.complex64)
        json.dumps(encode_pixels(Picture("a", image), Picture("b", image)).data, allow_nan=False)


def test_a_large_object_is_averaged_over_blocks_until_the_page_is_small_enough(tmp_path: Path) -> None:
    a, b = _noise((1200, 1000), 0), _noise((1200, 1000), 1)
    pixels = encode_pixels(Picture("a", a), Picture("b", b), 1e-8)
    assert pixels.binning > 1
    assert pixels.data["pixelSize"] == pytest.approx(pixels.binning * 1e-8)
    height, width = (size // pixels.binning * pixels.binning for size in a.shape)
    expected = np.abs(downscale_local_mean(a[:height, :width], (pixels.binning, pixels.binning)))
    np.testing.assert_allclose(
        _decoded(pixels.data, "amplitude")[0], expected, atol=_steps(pixels.data, "amplitude", "base")
    )
    write_report(tmp_path / "large.html", make_report(picture_a=Picture("a", a), picture_b=Picture("b", b)))
    assert (tmp_path / "large.html").stat().st_size < LARGEST_PAGE_BYTES


def test_a_block_is_the_mean_of_its_known_pixels() -> None:
    a = np.ones((4, 6), np.complex64)
    a[0, 0], a[:2, 2:4] = np.nan, np.nan
    a[0, 1] = 4
    pixels = encode_pixels(Picture("a", a), Picture("b", a), largest_bytes=100)
    assert pixels.binning == 2
    amplitude, *_ = _decoded(pixels.data, "amplitude")
    np.testing.assert_allclose(amplitude, [[2, np.nan, 1], [1, 1, 1]], atol=_steps(pixels.data, "amplitude", "base"))


def test_errors_of_layers_stand_at_their_logarithm_and_the_first_beyond_is_named() -> None:
    values = [1e-6, 1e-5, 1e-3, 1e-2]
    names = [f"encoder.0.conv.{index}" for index in range(4)]
    plot = draw_layers([LayerError(name, value, value, 1e-4) for name, value in zip(names, values, strict=True)])
    dots = [marker for marker in plot.markers if marker.shape != "ring"]
    assert [marker.shape for marker in dots] == ["dot", "dot", "cross", "cross"]
    heights = np.array([marker.y for marker in dots])
    slopes = np.diff(heights) / np.diff(np.log10(values))
    np.testing.assert_allclose(slopes, slopes[0])
    (tolerance,) = [line for line in plot.lines if line.style == "tolerance"]
    places = [float(point.split(",")[1]) for point in tolerance.points.split()]
    np.testing.assert_allclose(
        places, (heights[1] + heights[2]) / 2, atol=0.05 + 1e-9
    )  # 1e-4 lies halfway; points have one decimal
    assert [label.text for label in plot.labels if label.style == "callout"] == [names[2]]
    assert names[2] in plot.description


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 1e-300, 1e300])
def test_a_layer_of_any_error_stands_in_the_frame(value: float) -> None:
    plot = draw_layers([LayerError("a", value, value, 1e-4), LayerError("b", 1e-5, 1e-6, 1e-4)])
    assert all(0 < marker.y < WIDE.height and math.isfinite(marker.y) for marker in plot.markers)
    beyond = [label.text for label in plot.labels if label.style == "callout"]
    assert beyond == ([] if value <= 1e-4 else ["a"])


def test_layers_that_all_agree_exactly_can_be_drawn() -> None:
    plot = draw_layers([LayerError(name, 0.0, 0.0, 0.0) for name in LAYERS])
    assert "all within" in plot.description


def test_the_resolution_stands_at_its_frequency_with_its_length() -> None:
    report = make_report()
    assert report.ring is not None
    plot = draw_ring(report.ring)
    (line,) = [line for line in plot.lines if line.style == "parting"]
    x = float(line.points.split(",")[0])
    width = WIDE.right - WIDE.left
    assert (x - WIDE.left) / width == pytest.approx(1 / 2.57 / 0.5, abs=1 / width)  # a pixel of the plot
    assert "2.57 px = 25.7 nm" in plot.description


@pytest.mark.parametrize(
    "resolution_px, said", [(math.inf, "agree at no frequency"), (None, "agree at every frequency")]
)
def test_images_that_agree_at_no_frequency_or_at_every_one_have_no_resolution(
    resolution_px: float | None, said: str
) -> None:
    frequency = np.arange(1, 31) / 60
    ring = RingCorrelation(frequency, np.full(30, 0.22), np.full(30, 0.63), resolution_px, resolution_px)
    plot = draw_ring(ring)
    assert not [line for line in plot.lines if line.style == "parting"]
    assert said in plot.description
    assert "resolution" not in plot.description
    callouts = [label.text for label in plot.labels if label.style == "callout"]
    assert callouts == ([] if resolution_px is None else [plot.description.partition(": ")[2]])


@pytest.mark.parametrize("frame", [WIDE, NARROW], ids=lambda frame: frame.name)
def test_labels_of_every_plot_lie_inside_its_frame_and_do_not_overlap(frame: Frame) -> None:
    report = make_report()
    assert report.ring is not None
    for plot in (draw_layers(report.layers, frame), draw_curves(report.curves, frame), draw_ring(report.ring, frame)):
        boxes = [_box(label) for label in plot.labels]
        assert all(left >= 0 and right <= frame.width for left, right, *_ in boxes), plot.name
        assert all(top >= 0 and bottom <= frame.height for *_, top, bottom in boxes), plot.name
        for index, a in enumerate(boxes):
            for b in boxes[index + 1 :]:
                assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2], (plot.name, plot.labels[index])


def _box(label: Label) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of a label of 12 px letters, whose mean width is at most 7 px."""
    width = 7.0 * len(label.text)
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return left, left + width, label.y - 10, label.y + 2


def test_the_narrow_plot_of_layers_names_the_branches() -> None:
    names = [f"{part}.{level}.conv.{index}" for part in ("encoder", "decoder.amplitude", "decoder.phase")
             for level in range(3) for index in range(4)]  # fmt: skip
    plot = draw_layers([LayerError(name, 1e-6, 1e-6, 1e-4) for name in names], NARROW)
    assert [label.text for label in plot.labels if label.style == "part"] == [
        "encoder", "decoder", "amplitude", "decoder", "phase",
    ]  # fmt: skip


def test_previews_show_both_objects_in_the_colours_of_their_range() -> None:
    report = make_report()
    assert report.picture_a is not None
    assert report.picture_b is not None
    previews = make_previews(report.picture_a, report.picture_b)
    for name, colours in (("amplitude", "gray"), ("phase", "viridis")):
        preview = previews[name]
        high, middle, low = preview.ticks
        assert middle == (high + low) / 2
        for png, side, unknown in ((preview.a, A, UNKNOWN_A), (preview.b, B, UNKNOWN_B)):
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")).astype(int)
            assert picture.shape == (*SHAPE, 4)
            assert (picture[unknown, :, 3] == 0).all()
            assert (picture[..., 3] > 0).sum() == np.prod(SHAPE) - (unknown.stop - unknown.start) * SHAPE[1]
            for value, place in ((shown(name, side), (40, 20)), (shown(name, INSIDE), (60, 90))):
                fraction = min(max((value - low) / (high - low), 0), 1)
                # one of 255 steps beside it, in a colour map that changes by at most 4 of 255 from step to step
                expected = np.array(colormaps[colours](fraction, bytes=True)[:3]).astype(int)
                np.testing.assert_allclose(picture[place][:3], expected, atol=4)


def test_previews_of_a_large_object_are_small() -> None:
    a, b = _noise((1200, 500), 0), _noise((1200, 500), 1)
    preview = make_previews(Picture("a", a), Picture("b", b))["phase"]
    assert (preview.height, preview.width) == (400, 166)
    assert preview.bytes < 2 * 400 * 166 * 1.5


def test_a_verdict_states_its_question_and_a_difference_of_two_networks_is_no_failure() -> None:
    verdict = Verdict("images", False, "they differ", "Are they equal?")
    for must_pass, style in ((True, "failed"), (False, "differs")):
        page = Elements(render(Report("t", verdicts=(replace(verdict, must_pass=must_pass),))))
        assert [attributes.get("class") for attributes, _ in page.all("li")] == [style]
        assert [text for attributes, text in page.all("p") if attributes.get("class") == "question"] == [
            "Are they equal?"
        ]


def test_numbers_have_four_digits_and_a_minus() -> None:
    rows = ((-1.234567e-5, 3, None, True, math.inf, "at 3.1e-04, x-ray"),)
    page = Elements(render(Report("t", tables=(Table("T", ("a",) * 6, rows),))))
    cells = [text for _, text in [*page.all("th"), *page.all("td")]][6:]
    assert cells == ["−1.235e−5", "3", "–", "yes", "∞", "at 3.1e−4, x-ray"]


def test_a_long_table_says_what_it_leaves_out() -> None:
    rows = tuple((f"weight.{index}", index) for index in range(1500))
    text = render(Report("t", tables=(Table("T", ("name", "value"), rows, "weights"),)))
    assert "500 more rows are left out" in text
    assert len(Elements(text).all("tr")) == 1001


def test_reports_that_cannot_be_drawn_are_refused() -> None:
    first, second = objects()
    with pytest.raises(ValueError, match="alone"):
        Report("t", picture_a=Picture("a", first))
    with pytest.raises(ValueError, match="same pixels"):
        Report("t", picture_a=Picture("a", first), picture_b=Picture("b", second[SQUARE]))
    with pytest.raises(ValueError, match="as long as its header"):
        Report("t", tables=(Table("T", ("a", "b"), (("c",),)),))


def test_without_jinja2_one_line_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError) as error:
        write_report(tmp_path / "page.html", make_report())
    assert error.value.remedy == "pip install 'ptyonnx[compare]'"
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as error:
        write_report(tmp_path / "page.pdf", make_report())
    assert error.value.file == str(tmp_path / "page.pdf")
    assert error.value.found == "'.pdf'"
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    write_report(path, make_report())
    before = path.read_bytes()
    assert before.decode("utf-8") == render(make_report())
    monkeypatch.setattr("ptyonnx.report.page.encode_pixels", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(path, make_report("other.onnx"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
