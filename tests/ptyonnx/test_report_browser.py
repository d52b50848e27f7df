"""The page in a real Chromium: what moves, what follows, and that nothing leaves the machine."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from report_factory import HOSTILE, INSIDE, SHAPE, SQUARE, A, B, make_report, shown

from ptyonnx.report import write_report
from ptyonnx.report.previews import make_previews

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
QUANTITIES = ("amplitude", "phase")
ONE_STEP = 2  # of 255: rounding of a colour on its way through a canvas
READABLE = 4.5  # contrast of text, by WCAG 2
LEAST_LETTER_PX = 9  # of labels of a plot
TOUCH_PX = 44  # width and height of a control, by WCAG 2.5.5
SHOWN_PX = 2000  # pixels of one object in a screenshot, at least

Open = Callable[..., Page]


def _chromium() -> str:
    """Path of the browser."""
    names = (os.environ.get("PTYONNX_CHROMIUM"), *NAMES)
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    assert program, "no Chromium: install the package chromium, or leave these tests out with -m 'not browser'"
    return program


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_chromium(), args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Write a report and open it; at the end nothing may have been complained about or asked for."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []
    path = tmp_path / "page.html"

    def opened(name: str = "b.onnx", width: int = 1200, **options: object) -> Page:
        write_report(path, make_report(name))
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector(".images[data-ready]")
            _settle(page)
            assert not page.locator(".unready").is_visible()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) == {path.as_uri()}


def _settle(page: Page) -> None:
    """Wait for what the page draws in its next frame."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def _canvas(page: Page, quantity: str, kind: str = "wipe") -> np.ndarray:
    """Colours of a panel, (y, x, 3), as they are on the screen."""
    _settle(page)
    shot = page.locator(f'[data-quantity="{quantity}"] [data-kind="{kind}"] .view canvas').screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def _colour(quantity: str, value: float, low: float, high: float) -> np.ndarray:
    table = colormaps["gray" if quantity == "amplitude" else "viridis"]
    return np.array(table(min(max((value - low) / (high - low), 0.0), 1.0), bytes=True)[:3]).astype(int)


def _range(page: Page, quantity: str) -> tuple[float, float]:
    ends = page.locator(f'[data-quantity="{quantity}"] [data-end]')
    return tuple(float(ends.nth(index).input_value()) for index in (0, 1))


def _square(page: Page, quantity: str) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the square on the screen, in a panel that shows A alone."""
    low, high = _range(page, quantity)
    like = (
        np.abs(_canvas(page, quantity) - _colour(quantity, shown(quantity, INSIDE), low, high)).max(2) <= 2 * ONE_STEP
    )
    like[:, -8:] = False  # the divider
    rows, columns = np.flatnonzero(like.sum(1) > 6), np.flatnonzero(like.sum(0) > 6)
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _zoom(page: Page) -> float:
    """The factor that the page states."""
    _settle(page)
    return float(page.locator("#zoom").text_content().removesuffix("×"))


def _only_a(page: Page) -> None:
    page.locator("#divider").press("End")


def _view(page: Page, quantity: str = "amplitude") -> object:
    return page.locator(f'[data-quantity="{quantity}"] [data-kind="wipe"] .view')


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_slider_moves_the_wipe_in_both_quantities(open_page: Open, quantity: str) -> None:
    page = open_page()
    low, high = _range(page, quantity)
    a, b = (_colour(quantity, shown(quantity, side), low, high) for side in (A, B))
    slider = page.locator("#divider")
    for percent in (50, 25, 80, 0, 100):
        slider.fill(str(percent))
        canvas = _canvas(page, quantity)
        row = canvas[canvas.shape[0] // 4]
        width = len(row)
        for place in (0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9):
            expected = a if place < percent / 100 else b
            assert np.abs(row[round(place * width)] - expected).max() <= ONE_STEP, (percent, place)


def test_the_slider_is_moved_by_keys_and_the_divider_by_the_mouse(open_page: Open) -> None:
    page = open_page()
    slider = page.locator("#divider")
    slider.focus()
    before = _canvas(page, "amplitude")
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "40"
    assert (_canvas(page, "amplitude") != before).any(2).mean() > 0.05
    box = _view(page, "phase").bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    assert float(slider.input_value()) == pytest.approx(70, abs=1)
    assert _zoom(page) == 1


def _by_wheel(page: Page) -> None:
    box = _view(page, "phase").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -200)


def _by_key(page: Page) -> None:
    _view(page, "phase").press("+")
    page.keyboard.press("+")


def _by_button(page: Page) -> None:
    page.get_by_role("button", name="Zoom in").click(click_count=2)


@pytest.mark.parametrize("zoom", [_by_wheel, _by_key, _by_button])
def test_amplitude_and_phase_zoom_together(open_page: Open, zoom: Callable[[Page], None]) -> None:
    page = open_page()
    _only_a(page)
    before = [_square(page, quantity) for quantity in QUANTITIES]
    assert before[0] == before[1]
    page.locator(".images").scroll_into_view_if_needed()
    page.wait_for_timeout(400)  # a wheel that has just scrolled does not zoom
    zoom(page)
    page.wait_for_function("() => document.querySelector('#zoom').textContent !== '1×'")
    after = [_square(page, quantity) for quantity in QUANTITIES]
    assert after[0] == after[1]
    factor = _zoom(page)
    assert factor > 1.4
    height = before[0][1] - before[0][0]
    assert after[0][1] - after[0][0] == pytest.approx(factor * height, abs=0.05 * factor * height + 2)


def test_amplitude_and_phase_move_together_by_dragging_and_by_arrows(open_page: Open) -> None:
    page = open_page()
    _only_a(page)
    _by_key(page)
    start = _square(page, "amplitude")
    box = _view(page).bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 40, middle[1] + 30, steps=4)
    page.mouse.up()
    dragged = [_square(page, quantity) for quantity in QUANTITIES]
    assert dragged[0] == dragged[1]
    np.testing.assert_allclose(np.subtract(dragged[0], start), (30, 30, -40, -40), atol=2)
    _view(page).press("ArrowLeft")  # shows more of the left: the square goes right
    moved = [_square(page, quantity) for quantity in QUANTITIES]
    assert moved[0] == moved[1]
    assert moved[0][2] > dragged[0][2] + 10
    assert moved[0][0] == pytest.approx(dragged[0][0], abs=1)
    _view(page, "phase").press("0")
    assert _zoom(page) == 1
    height, width = _canvas(page, "phase").shape[:2]
    whole = [_square(page, quantity) for quantity in QUANTITIES]
    assert whole[0] == whole[1]
    expected = (
        *(edge / SHAPE[0] * height for edge in (SQUARE[0].start, SQUARE[0].stop)),
        *(edge / SHAPE[1] * width for edge in (SQUARE[1].start, SQUARE[1].stop)),
    )
    np.testing.assert_allclose(whole[0], expected, atol=2)


def test_a_wheel_that_scrolls_the_page_is_left_alone(open_page: Open) -> None:
    page = open_page()
    box = _view(page).bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.wheel(0, 300)  # outwards, and the whole is shown already
    page.wait_for_function("() => window.scrollY > 100")
    assert _zoom(page) == 1


def test_the_range_of_the_difference_changes_its_colours(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("radio", name="Difference").check(force=True)
    slider = page.locator('[data-quantity="phase"] [data-action="difference"]')
    output = page.locator('[data-quantity="phase"] .of-differences output')
    slider.fill("100")
    canvas = _canvas(page, "phase", "difference")
    ends = [np.array(colormaps["RdBu_r"](fraction, bytes=True)[:3]) for fraction in (0.5, 1.0)]
    height, width = canvas.shape[:2]
    inside, beside = canvas[height // 2, int(0.56 * width)], canvas[height // 3, width // 5]
    assert np.abs(inside - ends[0]).max() <= 3  # B - A is 0 in the square
    assert np.abs(beside - ends[1]).max() <= ONE_STEP  # and the largest beside it
    assert output.text_content() == "± 1 rad"
    slider.focus()
    page.keyboard.press("Home")
    assert output.text_content() == "± 0.001 rad"
    ticks = page.locator('[data-quantity="phase"] [data-kind="difference"] .ticks').text_content()
    assert "e−4" in ticks
    other = page.locator('[data-quantity="amplitude"] .of-differences output').text_content()
    assert other == "± 0.4"  # each quantity has its own


def test_the_range_of_the_colours_can_be_typed_and_set_back(open_page: Open) -> None:
    page = open_page()
    _only_a(page)
    low = page.get_by_role("spinbutton", name="Amplitude: lowest value of the colours")
    start = _range(page, "amplitude")
    low.fill("0.4")
    canvas = _canvas(page, "amplitude")
    expected = _colour("amplitude", shown("amplitude", A), 0.4, start[1])
    assert np.abs(canvas[canvas.shape[0] // 3, canvas.shape[1] // 5] - expected).max() <= ONE_STEP
    low.fill("7")  # above the upper end
    assert low.get_attribute("aria-invalid") == "true"
    assert (_canvas(page, "amplitude") == canvas).all()
    page.get_by_role("button", name="Amplitude: range of the percentiles").click()
    assert _range(page, "amplitude") == start
    assert low.get_attribute("aria-invalid") == "false"


def test_a_pixel_is_read_where_the_mouse_points(open_page: Open) -> None:
    page = open_page()
    box = _view(page).bounding_box()
    page.mouse.move(box["x"] + (90.5 / SHAPE[1]) * box["width"], box["y"] + (60.5 / SHAPE[0]) * box["height"])
    inside = page.locator("#readout").text_content()
    assert inside.startswith("row 60, column 90 (600 nm, 900 nm);")
    page.mouse.move(box["x"] + (20.5 / SHAPE[1]) * box["width"], box["y"] + (5.5 / SHAPE[0]) * box["height"])
    assert "A unknown, B 1.200, B − A unknown" in page.locator("#readout").text_content()


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_pixels_of_which_nothing_is_known_are_hatched_grey(open_page: Open, quantity: str) -> None:
    page = open_page()
    _only_a(page)
    canvas = _canvas(page, quantity)
    unknown = canvas[8 : int(canvas.shape[0] * 9 / SHAPE[0]), 30:-30]
    assert np.ptp(unknown, axis=2).max() <= 1
    assert unknown.std() > 3  # two greys
    page.locator("#divider").press("Home")
    assert np.abs(_canvas(page, quantity) - canvas)[12:20].mean() > 10  # B is known there


def test_every_control_is_reached_by_tab_and_shows_that_it_is(open_page: Open) -> None:
    page = open_page()
    for mode in ("Wipe", "Difference", "Side by side"):
        page.get_by_role("radio", name=mode, exact=True).check(force=True)
        _settle(page)
        wanted = page.evaluate(
            """() => [...document.querySelectorAll('button, select, input, [tabindex="0"]')]
            .filter((each) => each.offsetParent && !each.disabled && !(each.type === 'radio' && !each.checked)).length"""
        )
        page.evaluate("() => document.activeElement.blur()")
        page.mouse.click(5, 5)
        reached = []
        for _ in range(wanted + 5):
            page.keyboard.press("Tab")
            outlined = page.evaluate(
                """() => { const at = document.activeElement;
                if (at === document.body) return null;
                at.dataset.reached = '1';
                const seen = at.type === 'radio' ? at.nextElementSibling : at;
                return getComputedStyle(seen).outlineStyle; }"""
            )
            if outlined is not None:
                reached.append(outlined)
        assert page.evaluate("() => document.querySelectorAll('[data-reached]').length") == wanted
        assert set(reached) == {"solid"}
        page.evaluate(
            "() => document.querySelectorAll('[data-reached]').forEach((each) => delete each.dataset.reached)"
        )


def _luminance(colour: str) -> float:
    channels = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
    return float(
        np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
    )


def _contrasts(page: Page) -> list[tuple[float, str]]:
    """Of every visible text with its background, by WCAG 2's formula."""
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('main *, header *')].filter((each) => each.getClientRects().length &&
            !each.closest('.unseen, option, canvas') && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .map((each) => { let at = each; const clear = 'rgba(0, 0, 0, 0)';
            while (at.parentElement && getComputedStyle(at).backgroundColor === clear) at = at.parentElement;
            const style = getComputedStyle(each);
            return [each.closest('svg') ? style.fill : style.color, getComputedStyle(at).backgroundColor === clear ?
                getComputedStyle(document.body).backgroundColor : getComputedStyle(at).backgroundColor, each.textContent.trim()]; })"""
    )
    lights = [(sorted((_luminance(a), _luminance(b))), text) for a, b, text in pairs]
    return [((high + 0.05) / (low + 0.05), text) for (low, high), text in lights]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system_and_is_readable_in_both_colours(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert (_luminance(page.evaluate(background)) < 0.1) == (scheme == "dark")
    contrasts = _contrasts(page)
    assert len(contrasts) > 60
    assert min(contrasts)[0] >= READABLE, min(contrasts)
    other = "Dark" if scheme == "light" else "Light"
    page.get_by_role("radio", name=other).check(force=True)
    page.wait_for_timeout(200)  # the switch fades
    assert (_luminance(page.evaluate(background)) < 0.1) == (scheme == "light")
    assert min(_contrasts(page))[0] >= READABLE, min(_contrasts(page))


def test_on_paper_both_images_stand_beside_each_other_without_controls(open_page: Open) -> None:
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    _settle(page)
    for quantity in QUANTITIES:
        kinds = {
            kind: page.locator(f'[data-quantity="{quantity}"] [data-kind="{kind}"]').is_visible()
            for kind in ("wipe", "a", "b", "difference")
        }
        assert kinds == {"wipe": False, "a": True, "b": True, "difference": True}
        places = [
            page.locator(f'[data-quantity="{quantity}"] [data-kind="{kind}"] .view').bounding_box() for kind in "ab"
        ]
        assert places[0]["y"] == places[1]["y"]
        assert places[0]["x"] + places[0]["width"] <= places[1]["x"]
    assert not [control for control in page.locator("button, input, select").all() if control.is_visible()]
    assert _luminance(page.evaluate("() => getComputedStyle(document.body).backgroundColor")) == pytest.approx(1)
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("quantity", ["amplitude", "phase"])
def test_the_mark_of_a_tick_begins_on_the_bar_and_cannot_be_read_as_a_minus(open_page: Open, quantity: str) -> None:
    page = open_page()
    _settle(page)
    bar = page.locator(f'[data-quantity="{quantity}"] [data-kind="wipe"] .bar')
    edge = bar.locator("canvas").evaluate("(canvas) => canvas.getBoundingClientRect().right")
    right = bar.evaluate("(bar) => bar.getBoundingClientRect().right")
    ticks = bar.locator(".ticks span").evaluate_all(
        """(ticks) => ticks.map((tick) => {
            const mark = getComputedStyle(tick, "::before"), box = tick.getBoundingClientRect();
            return [box.left + parseFloat(mark.left), parseFloat(mark.width), box.left, box.right];
        })"""
    )
    assert len(ticks) > 2
    for begin, length, left, end in ticks:
        assert begin < edge < begin + length
        assert left - (begin + length) >= 4
        assert end <= right


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_scrolls_downwards_only(open_page: Open, width: int) -> None:
    page = open_page(width=width)
    boxes = [box for plot in page.locator("figure.plot > svg").all() if (box := plot.bounding_box())]
    assert len(boxes) == 3  # one of the two frames of each plot
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    letters = page.locator("figure.plot svg text").evaluate_all(
        """(texts) => texts.filter((text) => text.getClientRects().length).map((text) => {
            const scale = text.getScreenCTM().a;
            return parseFloat(getComputedStyle(text).fontSize) * scale;
        })"""
    )
    assert min(letters) >= LEAST_LETTER_PX
    for mode in ("Wipe", "Side by side", "Difference"):
        page.get_by_role("radio", name=mode, exact=True).check(force=True)
        _settle(page)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_controls_on_a_telephone_are_large_enough_for_a_finger(open_page: Open) -> None:
    page = open_page(width=390, has_touch=True, is_mobile=True, device_scale_factor=3)
    for mode in ("Wipe", "Side by side", "Difference"):
        page.get_by_role("radio", name=mode, exact=True).check(force=True)
        _settle(page)
        boxes = page.locator("button, select, input").evaluate_all(
            """(controls) => controls.filter((each) => each.offsetParent).map((each) => {
                const { width, height } = each.getBoundingClientRect();
                return [each.outerHTML, width, height];
            })"""
        )
        assert len(boxes) > 8
        assert [each for each, width, height in boxes if width < TOUCH_PX or height < TOUCH_PX] == []


@pytest.mark.parametrize("name", ["page.html", "without-script.html"])
@pytest.mark.parametrize("size", [(390, 1600), (1280, 900)])
def test_a_plain_screenshot_shows_the_images(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    page, shot = tmp_path / name, tmp_path / "shot.png"
    report = make_report()
    write_report(page, report)
    if name == "without-script.html":  # as a preview of an attachment shows it
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL), encoding="utf-8")
    width, height = size
    subprocess.run(
        [_chromium(), *ARGUMENTS, "--headless", "--hide-scrollbars", f"--screenshot={shot}",
         f"--window-size={width},{height}", f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    picture = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert picture.shape == (height, width, 3)
    assert report.picture_a is not None
    assert report.picture_b is not None
    high, _, low = make_previews(report.picture_a, report.picture_b)["phase"].ticks
    for side in (A, B):
        expected = _colour("phase", shown("phase", side), low, high)
        found = (np.abs(picture - expected).max(2) <= 2 * ONE_STEP).sum()
        assert found > SHOWN_PX, f"{found} pixels of the phase of {side}"


def test_a_hostile_name_is_text_everywhere(open_page: Open) -> None:
    page = open_page(HOSTILE)
    assert page.evaluate("() => window.hostile") is None
    assert page.locator("img[onerror], img[src=x]").count() == 0
    assert page.title() == "a.onnx and " + HOSTILE.replace("\u202e", "\\u202e")
    assert HOSTILE.split("\u202e")[0] in page.locator('[data-label="b"]').first.text_content()


def test_the_policy_forbids_scripts_and_requests_that_somebody_adds(open_page: Open, browser: Browser) -> None:
    page = open_page()
    path = page.url
    context = browser.new_context()
    refused: list[tuple[str, str | None]] = []
    arrived: list[str] = []
    context.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    context.on("requestfinished", lambda request: arrived.append(request.url))
    other = context.new_page()
    other.goto(path)
    other.evaluate(
        """() => { const script = document.createElement('script'); script.textContent = 'window.added = 1';
        document.body.append(script); const image = new Image(); image.src = 'http://127.0.0.1:9/x.png';
        document.body.append(image); return fetch('http://127.0.0.1:9/').catch(() => null); }"""
    )
    other.wait_for_timeout(200)
    assert other.evaluate("() => window.added") is None
    assert arrived == [path]
    assert refused == [("http://127.0.0.1:9/x.png", "csp")]
    context.close()


def test_without_scripts_previews_stand_in_for_the_images(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator(".verdicts li").count() == 4
    assert page.locator("figure.plot svg[role=img]:visible").count() == 3
    assert page.locator("table").count() == 3
    assert page.get_by_text("These previews need no script").is_visible()
    assert page.locator(".pair img.unknown:visible").count() == 4
    assert not page.locator(".toolbar").is_visible()
