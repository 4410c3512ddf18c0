"""Figures of counterfactuals, occlusion and alignment draw what the records say, on screen and on paper."""

import numpy as np
import pytest

from analysis.alignment import align
from analysis.figures import alignment as word_figures
from analysis.figures import counterfactual as figures
from analysis.figures import occlusion as maps
from analysis.statistic import Axis, Statistic
from model.errors import TraceError
from model.tasks.metrics import align as diff_of
from tests.analysis.planted import planted_trace

TOKENS = (" turn", " left", "<|EOT|>")
CHANGE = Statistic(
    "change of log-probability", [-2.0, 0.5, 0.0], (Axis("query", labels=TOKENS),), "nat", [-3, 0, -1], [-1, 1, 1]
)
TIME = Axis("time", values=np.linspace(0.1, 0.9, 9), unit="s")
DROP = Statistic("drop", np.arange(9.0), (TIME,), "nat", np.arange(9.0) - 1, np.arange(9.0) + 1)
PATCHES = Statistic(
    "drop",
    np.arange(27.0).reshape(9, 3),
    (TIME, Axis("band", values=np.array([200.0, 800.0, 3000.0]), unit="Hz")),
    "nat",
)
AREAS = {"mode": "deletion", "area": {"occlusion": -2.5, "random": -1.0}}
SHARES = (Axis("order", labels=("occlusion", "random")), Axis("share", values=np.array([0, 0.5, 1])))
CURVES = Statistic(
    "log-probability", [[0, -4, -5], [0, -1, -5]], SHARES, "nat", [[0, -4, -5], [0, -2, -5]], [[0, -4, -5], [0, 0, -5]],
    notes=AREAS,
)  # fmt: skip
TRUST = Statistic("rank agreement", 0.6, (), "", 0.4, 0.7, 5, {"chance 95 %": 0.2})


@pytest.fixture(scope="module")
def clip():
    return planted_trace()


def save(figure, folder) -> None:
    figure.savefig(folder / "figure.png")


@pytest.mark.parametrize("dark", [False, True])
def test_bars_reach_both_sides_and_carry_intervals(dark, tmp_path):
    figure = figures.changes(CHANGE, dark=dark)
    np.testing.assert_allclose(figure.data[0].x, CHANGE.values)
    np.testing.assert_allclose(figure.data[0].error_x.array, [1, 0.5, 1])
    assert figure.layout.yaxis.ticktext == ("turn", "left", "⟨EOT⟩") and figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.xaxis.title.text == "change of log-probability (nat)"
    printed = figures.print_changes(CHANGE)
    np.testing.assert_allclose([bar.get_width() for bar in printed.axes[0].patches], CHANGE.values)
    save(printed, tmp_path)
    with pytest.raises(TraceError, match="2 axes"):
        figures.changes(PATCHES)


def test_a_diff_is_told_without_colour():
    diff = diff_of([" turn", " left", " now"], [" turn", " right", " now", " please"])
    assert figures.diff_text(diff) == "turn [left → right] now [+ please]"
    table = figures.diff_table(diff).data[0]
    assert list(table.header.values) == ["before", "turn", "left", "now", ""]
    assert [cell[0] for cell in table.cells.values] == ["after", "turn", "right", "now", "please"]
    assert [cell[1] for cell in table.cells.values] == ["", "", "left → right", "", "+ please"]
    assert figures.diff_text(diff_of(["a", "b"], ["a"])) == "a [− b]"


@pytest.mark.parametrize("dark", [False, True])
def test_drops_are_drawn_over_the_sound(clip, dark, tmp_path):
    sound = clip[0].audio["input_0"]
    figure = maps.over_waveform(DROP, sound, dark=dark)
    np.testing.assert_allclose(figure.data[-1].y, DROP.values)
    np.testing.assert_allclose(figure.data[-1].x, TIME.values)
    np.testing.assert_allclose(figure.data[3].y, DROP.high)
    assert len(figure.data[0].x) <= maps.MAX_POINTS and figure.layout.xaxis.range == (0, sound.duration_s)
    printed = maps.print_over_waveform(DROP, sound)
    np.testing.assert_allclose(printed.axes[0].lines[0].get_ydata(), DROP.values)
    save(printed, tmp_path)
    with pytest.raises(TraceError, match=r"axes \['time', 'band'\]"):
        maps.over_waveform(PATCHES, sound)


def test_patches_have_low_frequencies_at_the_bottom(tmp_path):
    figure = maps.time_mel(PATCHES)
    np.testing.assert_allclose(figure.data[0].z, PATCHES.values.T)
    assert figure.data[0].y == ("200", "800", "3000") and figure.layout.yaxis.title.text == "band (Hz)"
    printed = maps.print_time_mel(PATCHES)
    assert printed.axes[0].images[0].origin == "lower"
    np.testing.assert_allclose(printed.axes[0].images[0].get_array(), PATCHES.values.T)
    save(printed, tmp_path)


def test_curves_name_their_area_and_shade_chance_only(tmp_path):
    figure = maps.curves(CURVES)
    assert [line.name for line in figure.data] == ["occlusion (area -2.50)", None, None, "random (area -1.00)"]
    np.testing.assert_allclose(figure.data[0].y, CURVES.values[0])
    assert len({line.line.dash for line in figure.data if line.name}) == 2
    assert figure.layout.xaxis.title.text == "share of the sound taken away"
    printed = maps.print_curves(CURVES)
    np.testing.assert_allclose(printed.axes[0].lines[1].get_ydata(), CURVES.values[1])
    save(printed, tmp_path)


def test_the_trust_meter_shows_chance(tmp_path):
    figure = maps.trust_meter(TRUST)
    assert figure.data[0].x == (0.6,) and figure.layout.xaxis.range == (-1, 1)
    assert figure.layout.shapes[0].x0 == 0.2
    printed = maps.print_trust_meter(TRUST)
    assert printed.axes[0].get_xlim() == (-1, 1)
    save(printed, tmp_path)


@pytest.mark.parametrize("dark", [False, True])
def test_the_path_lies_over_the_map(clip, dark, tmp_path):
    found = align(clip[0])
    figure = word_figures.path_over_map(found.map, found.path, dark=dark)
    np.testing.assert_allclose(figure.data[0].z, found.map.values)
    timed = [k for k, row in enumerate(found.token_s) if np.isfinite(row).all()]
    np.testing.assert_allclose(figure.data[1].x, found.token_s[timed].ravel())
    np.testing.assert_allclose(figure.data[1].y, np.repeat(timed, 2))
    printed = word_figures.print_path_over_map(found.map, found.path)
    assert len(printed.axes[0].lines) == 1
    save(printed, tmp_path)


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_under_the_sound(clip, dark, tmp_path):
    trace, truth = clip
    found, sound = align(trace), trace.audio["input_0"]
    figure = word_figures.words_over_waveform(found.words, sound, truth, dark=dark)
    boxes = figure.layout.shapes
    assert len(boxes) == len(found.words) + len(truth)
    assert (boxes[0].x0, boxes[0].x1) == (found.words[0].start_s, found.words[0].end_s)
    assert {note.text for note in figure.layout.annotations} >= {"found", "true", *(word.text for word in truth)}
    assert len(word_figures.words_over_waveform(found.words, sound).layout.shapes) == len(found.words)
    save(word_figures.print_words_over_waveform(found.words, sound, truth), tmp_path)
