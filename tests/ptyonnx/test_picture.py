"""Pictures of a reconstruction: what they show, how large it is, and what can be chosen."""

import base64
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bundle_factory import make_bundle
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray
from PIL import Image

from ptyonnx.results.panels import known_window, scale_bar
from ptyonnx.results.phase import phase_ramp, without_global_phase, without_ramp
from ptyonnx.results.picture_options import PANELS
from ptyonnx.results.reconstruction import Reconstruction
from ptyonnx_bundles import Recipe
from ptyonnx_bundles.errors import SettingsError
from ptyonnx_runtime.flux import Flux

N = 16
HOLE = 5  # pixels beyond the known part
ORIGIN_PX = (-3, 7)


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Reconstruction:
    bundle = make_bundle(tmp_path_factory.mktemp("picture") / "b.onnx", Recipe(N=32, filters_scale=0.0625))
    return Reconstruction(
        **arrays((40, 40)),
        origin_px=ORIGIN_PX,
        r_factor=0.1,
        vacuum_r_factor=0.4,
        flux=Flux(1e4, 1e4, 1.0, "as-is"),
        provider="cpu",
        bundle=bundle,
        object_pixel_size_m=20e-9,
        photon_energy_eV=None,
        detector_distance_m=None,
        scan_name="scan.npz",
    )


def arrays(shape: tuple[int, int], modes: int = 1) -> dict[str, Any]:
    """An object that is known everywhere but in a frame, its patterns, and a probe."""
    generator = np.random.default_rng(0)
    whole = tuple(size + 2 * HOLE for size in shape)
    mask = np.ones(whole, bool)
    mask[HOLE:-HOLE, HOLE:-HOLE] = False
    obj = generator.uniform(0.8, 1, whole) * np.exp(1j * generator.normal(0, 0.2, whole))
    return {
        "object": np.where(mask, np.nan, obj).astype(np.complex64),
        "mask": mask,
        "positions_px": np.array(ORIGIN_PX) + HOLE + generator.uniform(0, 1, (30, 2)) * shape,
        "residual": generator.uniform(0.1, 0.2, 30),
        "probe": np.stack([np.full((N, N), 0.5**mode, np.complex64) for mode in range(modes)]),
    }


def with_shape(result: Reconstruction, shape: tuple[int, int], modes: int = 1) -> Reconstruction:
    return replace(result, **arrays(shape, modes))


def panels_of(figure: Figure) -> list[Any]:
    """The axes that are not colour bars; each is followed by its colour bar."""
    return list(figure.axes[::2])


def size_in(figure: Figure, axes: Any) -> NDArray[np.float64]:
    """(height, width) of axes, inches."""
    box = axes.get_position()
    width, height = figure.get_size_inches()
    return np.array([box.height * height, box.width * width])


def extent(figure: Figure, axes: Any) -> Any:
    """What axes and their labels cover, in pixels of the figure."""
    return axes.get_tightbbox(FigureCanvasAgg(figure).get_renderer())


@pytest.mark.parametrize("shape", [(40, 40), (30, 90), (90, 30), (64, 64), (8, 160)])
@pytest.mark.parametrize("panels", [None, ["phase"], ["residual", "amplitude"]])
def test_panels_have_the_aspect_of_the_known_object_and_do_not_overlap(
    square: Reconstruction, shape: tuple[int, int], panels: list[str] | None
) -> None:
    figure = with_shape(square, shape).plot(panels=panels)
    boxes = []
    for axes, bar in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        height, width = size_in(figure, axes)
        assert width / height == pytest.approx(shape[1] / shape[0])
        assert axes.get_xlim() == (-0.5, shape[1] - 0.5)
        assert axes.get_ylim() == (shape[0] - 0.5, -0.5)
        assert size_in(figure, bar)[0] == pytest.approx(height)
        boxes += [extent(figure, axes), extent(figure, bar)]
    assert all(np.min(box.min) >= 0 and (box.max <= figure.bbox.max).all() for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_wide_objects_lie_one_below_the_other_and_others_side_by_side(square: Reconstruction) -> None:
    wide, tall = (with_shape(square, shape).plot().axes[:3:2] for shape in ((30, 90), (90, 30)))
    assert wide[0].get_position().y0 > wide[1].get_position().y1
    assert tall[0].get_position().x1 < tall[1].get_position().x0


def test_points_lie_where_the_probe_was(square: Reconstruction) -> None:
    axes = panels_of(square.plot(panels=["residual"]))[0]
    offsets = np.concatenate([collection.get_offsets() for collection in axes.collections])
    expected = (square.positions_px - square.origin_px - HOLE)[:, ::-1]
    np.testing.assert_allclose(offsets, expected)


def test_the_title_states_the_r_factor_and_bars_state_units(square: Reconstruction) -> None:
    figure = square.plot(probe=True)
    assert "R-factor 0.100 (vacuum 0.400)" in figure.texts[0].get_text()
    assert "scan.npz" in figure.texts[0].get_text()
    labels = [bar.get_ylabel() for bar in figure.axes[1::2]]
    assert labels == ["amplitude (vacuum = 1)", "phase (rad)", "R-factor", "amplitude (√photons)"]


def test_a_flat_panel_states_its_unit_in_its_title(square: Reconstruction) -> None:
    figure = with_shape(square, (8, 160)).plot()
    assert [axes.get_title("left") for axes in panels_of(figure)][:2] == ["amplitude (vacuum = 1)", "phase (rad)"]


def test_long_names_are_cut_and_stay_within_the_figure(square: Reconstruction) -> None:
    figure = replace(square, scan_name="long_name_" * 60).plot(panels=["phase"])
    box = figure.texts[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_panels_and_their_order_are_chosen(square: Reconstruction) -> None:
    titles = [axes.get_title("left") for axes in panels_of(square.plot(panels=["probe", "phase"]))]
    assert titles == ["probe", "phase"]


def test_colour_maps_and_ranges_are_chosen(square: Reconstruction) -> None:
    figure = square.plot(cmap={"phase": "twilight", "residual": "cividis"}, ranges={"phase": (-1, 2)})
    amplitude, phase, residual = panels_of(figure)
    assert phase.images[0].get_cmap().name == "twilight"
    assert phase.images[0].get_clim() == (-1, 2)
    assert residual.collections[-1].get_cmap().name == "cividis"
    assert amplitude.images[0].get_cmap().name == "gray"
    both = panels_of(square.plot(cmap="plasma"))
    assert [axes.images[0].get_cmap().name for axes in both[:2]] == ["plasma", "plasma"]


def test_a_bar_has_arrows_where_values_lie_beyond_it(square: Reconstruction) -> None:
    figure = square.plot(panels=["amplitude"], ranges={"amplitude": (0, 2)})
    assert panels_of(figure)[0].images[0].colorbar.extend == "neither"
    figure = square.plot(panels=["amplitude"], ranges={"amplitude": (0, 0.9)})
    assert panels_of(figure)[0].images[0].colorbar.extend == "max"


@pytest.mark.parametrize("modes, tiles", [(1, (1, 1)), (2, (2, 1)), (3, (2, 2)), (4, (2, 2))])
def test_all_modes_of_the_probe_are_shown_with_their_photons(
    square: Reconstruction, modes: int, tiles: tuple[int, int]
) -> None:
    result = with_shape(square, (40, 40), modes)
    axes = panels_of(result.plot(probe=True))[-1]
    image = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert image.shape == (tiles[0] * N, tiles[1] * N)
    np.testing.assert_array_equal(image[:N, :N], np.abs(result.probe[0]))
    if modes > 1:
        power = 0.25 ** np.arange(modes)
        assert [text.get_text() for text in axes.texts] == [f"{each:.1%}" for each in power / power.sum()]


def test_dark_patterns_are_crosses_and_counted(square: Reconstruction) -> None:
    residual = square.residual.copy()
    residual[:2] = np.nan
    axes = panels_of(replace(square, residual=residual, dark=2).plot(panels=["residual"]))[0]
    assert len(axes.collections[0].get_offsets()) == 2
    assert "2 dark: ×" in axes.get_title("left")


@pytest.mark.parametrize(
    "choice, key",
    [
        ({"panels": []}, "panels"),
        ({"panels": ["modulus"]}, "panels"),
        ({"panels": ["phase", "phase"]}, "panels"),
        ({"cmap": "virids"}, "cmap"),
        ({"cmap": {"modulus": "gray"}}, "cmap"),
        ({"ranges": {"modulus": (0, 1)}}, "ranges"),
        ({"ranges": {"phase": (1, 0)}}, "ranges"),
        ({"ranges": {"phase": (0, np.nan)}}, "ranges"),
        ({"ranges": {"phase": 1}}, "ranges"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(square: Reconstruction, choice: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as error:
        square.plot(**choice)
    assert error.value.key == key


@pytest.mark.parametrize("ramp", [(0.0, 0.0), (0.004, -0.003), (0.31, -0.2), (-2.5, 3.0)])
def test_a_linear_ramp_is_found_between_holes(ramp: tuple[float, float]) -> None:
    """The tolerance is the standard error of the slope of a plane: sigma / (sqrt(pixels) * size / sqrt(12))."""
    height, width = 90, 60
    y, x = np.indices((height, width))
    generator = np.random.default_rng(3)
    sigma = 0.3
    obj = np.exp(1j * (ramp[0] * y + ramp[1] * x + 1.0 + generator.normal(0, sigma, (height, width))))
    obj[20:30, 10:50] = np.nan
    found = phase_ramp(obj.astype(np.complex64))
    for one, size, other in zip(ramp, (height, width), found, strict=True):
        assert other == pytest.approx(one, abs=5 * sigma * np.sqrt(12) / (np.sqrt(height * width) * size))


def test_an_object_without_data_has_no_ramp() -> None:
    assert phase_ramp(np.full((8, 8), complex(np.nan, np.nan), np.complex64)) == (0.0, 0.0)
    assert phase_ramp(np.ones((1, 8), np.complex64)) == (0.0, 0.0)


def test_the_picture_says_that_the_ramp_was_removed(square: Reconstruction) -> None:
    tilted = replace(square, object=without_ramp(square.object, (-0.4, 0.25)))
    phase = panels_of(tilted.plot(panels=["phase"], ramp=False))[0]
    assert "linear ramp removed" in phase.get_title("left")
    assert "0.4 rad/px along y, −0.25 rad/px along x" in phase.get_title("left")
    flat = panels_of(square.plot(panels=["phase"], ramp=False))[0]
    np.testing.assert_allclose(phase.images[0].get_array(), flat.images[0].get_array(), atol=1e-3)
    assert "ramp" not in panels_of(tilted.plot(panels=["phase"]))[0].get_title("left")


def test_the_global_phase_is_removed() -> None:
    obj = np.exp(1j * np.random.default_rng(0).normal(0, 0.3, (50, 50))).astype(np.complex64)
    turned = obj * np.complex64(np.exp(2.9j))
    turned[0, 0] = np.nan
    assert abs(np.nanmean(np.angle(without_global_phase(turned)))) < 0.02


def test_the_known_window_is_the_smallest() -> None:
    mask = np.ones((9, 11), bool)
    mask[3, 4] = mask[6, 2] = False
    assert known_window(mask) == (slice(3, 7), slice(2, 5))
    assert known_window(np.ones((9, 11), bool)) == (slice(0, 9), slice(0, 11))


@pytest.mark.parametrize(
    "pixel_size, label", [(None, "50 px"), (12e-9, "500 nm"), (40e-9, "2 µm"), (1e-6, "50 µm"), (21.2e-9, "1 µm")]
)
def test_the_scale_bar_has_a_round_length_and_a_dark_box(pixel_size: float | None, label: str) -> None:
    axes = Figure().subplots()
    scale_bar(axes, (238, 236), pixel_size)
    (bar,) = (artist for artist in axes.artists if isinstance(artist, AnchoredSizeBar))
    assert bar.txt_label.get_text() == label
    (line,) = bar.size_bar.get_children()
    value, unit = label.split()
    metres = float(value) * {"px": pixel_size or 1, "nm": 1e-9, "µm": 1e-6}[unit]
    assert line.get_width() * (pixel_size or 1) == pytest.approx(metres)
    assert line.get_facecolor()[:3] == to_rgb("white")
    assert luminance(1 - bar.patch.get_alpha()) < luminance(1) / 4.5  # white on the box, which lies on white


def luminance(grey: float) -> float:
    """Relative luminance plus 0.05, as contrast is defined by WCAG 2."""
    return float(((grey + 0.055) / 1.055) ** 2.4) + 0.05


def test_a_notebooks_picture_is_transparent_and_its_text_is_legible_on_white_and_on_black(
    square: Reconstruction,
) -> None:
    cell = square._repr_html_()
    encoded = re.search(r"base64,([^\"]+)\"", cell)
    assert encoded
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded[1]))).convert("RGBA"))
    assert picture[0, 0, 3] == 0
    titles = picture[: picture.shape[0] // 10]  # above the images
    colours, counts = np.unique(titles[titles[..., 3] == 255], axis=0, return_counts=True)
    text = luminance(colours[counts.argmax()][0] / 255)
    assert luminance(1) / text > 4.3
    assert text / luminance(0x11 / 255) > 4.3
    assert "R-factor 0.100" in re.sub("<img.*?>", "", cell)


def test_every_panel_has_a_name_that_can_be_chosen(square: Reconstruction) -> None:
    assert len(panels_of(square.plot(panels=PANELS))) == len(PANELS)
