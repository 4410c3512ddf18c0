"""Pictures of lens, probes, patching and segments show what the Statistic says, on screen and on paper."""

import warnings

import numpy as np
import pytest
from matplotlib.font_manager import get_font_names

from analysis.figures.curves import curves, print_curves
from analysis.figures.effects import effect_map, print_effect_map
from analysis.figures.lens import lens_grid, print_lens_grid
from analysis.figures.segments import print_token_shares, token_shares
from analysis.lens import attribute_curves, logit_lens
from analysis.neurons import Neuron, dose_response
from analysis.patching import patch_positions
from analysis.probes import probe
from analysis.segments import at_layer, segment_shares
from analysis.statistic import Axis, Statistic
from model.errors import TraceError
from tests.analysis import circuit
from tests.analysis.planted import planted_trace
from tests.analysis.test_lens import short  # noqa: F401


@pytest.fixture(scope="module")
def probed():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    return probe({"encoder 0": rng.normal(size=(60, 4)), "encoder 1": rng.normal(size=(60, 4)) + y[:, None]}, y)


@pytest.fixture(scope="module")
def pair():
    return circuit.planted_pair()


@pytest.mark.parametrize("dark", [False, True])
def test_probe_curves_have_bands_baselines_and_chance(probed, dark):
    figure = curves(probed.scores, dark=dark)
    drawn = {line.name: line for line in figure.data if line.name}
    assert list(drawn) == ["probe", "control", "shuffled"] and len(figure.data) == 9
    np.testing.assert_allclose(drawn["probe"].y, probed.scores.values[0])
    np.testing.assert_allclose(figure.data[1].y, probed.scores.low[0])
    assert len({line.line.dash for line in drawn.values()}) == 3  # not told apart by colour alone
    assert figure.layout.shapes[0].y0 == 0.5 and figure.layout.xaxis.ticktext == ("encoder 0", "encoder 1")


def test_a_single_curve_needs_no_legend(probed):
    figure = curves(probed.selectivity)
    assert figure.layout.showlegend is False and figure.layout.yaxis.title.text == "selectivity (share)"
    np.testing.assert_allclose(figure.data[-1].y, probed.selectivity.values)


def test_curves_of_cases_that_do_not_exist_are_left_out(tiny_loaded, short):  # noqa: F811
    found = attribute_curves(tiny_loaded, [(short, "river")], ["river", "world"]).by_depth()
    assert len([line for line in curves(found).data if line.name]) == 2


def test_doses_are_drawn_at_their_place(pair):
    curve = dose_response(pair.clean, [Neuron(*circuit.NEURON)], n_controls=3)
    figure = curves(curve)
    np.testing.assert_allclose(figure.data[-1].x, curve.axes[1].values)
    assert figure.layout.xaxis.title.text == "dose"


@pytest.mark.parametrize("dark", [False, True])
def test_effect_maps_reach_equally_far_to_both_sides_and_leave_gaps(pair, dark):
    stat = patch_positions(pair).change
    values = stat.values.copy()
    values[0, 0] = np.nan
    figure = effect_map(Statistic(stat.name, values, stat.axes), dark=dark)
    heat = figure.data[0]
    assert heat.zmax == -heat.zmin == pytest.approx(np.nanmax(np.abs(values)))
    assert heat.z[0][0] is None and heat.z[1][8] == pytest.approx(values[1, 8])
    assert figure.layout.xaxis.ticktext[3] == "p3"
    nothing = effect_map(Statistic("x", np.zeros((2, 2)), (Axis("layer", labels="01"), Axis("head", labels="01"))))
    assert nothing.data[0].zmax == 1


def test_the_lens_writes_the_best_token_into_each_cell(tiny_loaded, short):  # noqa: F811
    best = logit_lens(tiny_loaded, short, tiny_loaded.processor.encode_text("good morning")).best()
    heat = lens_grid(best).data[0]
    np.testing.assert_allclose(heat.z, best.values)
    assert heat.texttemplate and len(heat.text) == 4 and (heat.zmin, heat.zmax) == (0, 1)
    times = logit_lens(tiny_loaded, short, where="audio").best()
    figure = lens_grid(times)
    assert (
        figure.layout.xaxis.title.text == "frame (s)"
        and figure.layout.xaxis.ticktext[1] == f"{times.axes[1].values[1]:.2f}"
    )
    axes = Axis("depth", labels="01"), Axis("frame", values=np.arange(60))
    many = Statistic("p", np.zeros((2, 60)), axes, texts=np.full((2, 60), "a"))
    assert lens_grid(many).data[0].texttemplate is None


def test_tokens_of_the_same_text_keep_their_own_bar():
    trace = planted_trace((" a", " b", " a", " b", " a"))[0]
    shares = at_layer(segment_shares(trace), 1)
    figure = token_shares(shares)
    assert len(figure.data[0].x) == trace.n_reply
    np.testing.assert_allclose(sum(np.array(bar.y) for bar in figure.data), 1, atol=5e-3)
    assert len({bar.marker.pattern.shape for bar in figure.data}) == len(figure.data)


def test_print_figures_carry_the_same_values(pair, probed, tiny_loaded, short, tmp_path):  # noqa: F811
    effect = patch_positions(pair).recovered
    best = logit_lens(tiny_loaded, short, tiny_loaded.processor.encode_text("good 你好")).best()
    shares = at_layer(segment_shares(planted_trace()[0]))
    drawn = {
        "curves": print_curves(probed.scores),
        "effects": print_effect_map(effect),
        "lens": print_lens_grid(best),
        "segments": print_token_shares(shares),
    }
    np.testing.assert_allclose(drawn["curves"].axes[0].lines[0].get_ydata(), probed.scores.values[0])
    np.testing.assert_allclose(drawn["effects"].axes[0].images[0].get_array(), effect.values)
    np.testing.assert_allclose(drawn["lens"].axes[0].images[0].get_array(), best.values)
    assert len(drawn["lens"].axes[0].texts) == best.values.size
    assert sum(bar.get_height() for bar in drawn["segments"].axes[0].patches) == pytest.approx(shares.values.sum())
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")


def test_chinese_is_printed_with_characters_not_boxes(tmp_path):
    if "Noto Sans CJK SC" not in get_font_names():
        pytest.skip("without the font there is nothing to print Chinese with")
    axes = Axis("depth", labels=("0", "1")), Axis("query", labels=("北", "京"))
    best = Statistic("p", [[0.2, 0.3], [0.5, 0.9]], axes, texts=[["北", "了"], ["a", "京"]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of every missing glyph
        print_lens_grid(best).savefig(tmp_path / "lens.png")


def test_other_statistics_are_refused():
    number = Statistic("x", 1.0)
    for draw in (curves, print_curves, effect_map, lens_grid, token_shares):
        with pytest.raises(TraceError, match="0 axes"):
            draw(number)
