"""Statistic and Effect: shapes are checked, numbers come back as JSON."""

import json

import numpy as np
import pytest

from analysis.statistic import Axis, Effect, Statistic
from model.errors import TraceError

LAYER, HEAD = Axis("layer", labels=("0",)), Axis("head", labels=("6", "7"))


def test_values_must_fit_the_axes():
    axis = Axis("layer", labels=("0", "1"))
    assert Statistic("x", [1, 2], (axis,)).axis("layer") is axis
    with pytest.raises(TraceError, match=r"values \(3,\) on axes"):
        Statistic("x", [1, 2, 3], (axis,))
    with pytest.raises(TraceError, match="no axis 'head'"):
        Statistic("x", [1, 2], (axis,)).axis("head")


def test_an_interval_has_two_ends_of_the_same_shape():
    with pytest.raises(TraceError, match="only one end"):
        Statistic("x", 1.0, low=0.5)
    with pytest.raises(TraceError, match="with an interval"):
        Statistic("x", 1.0, low=[0.5], high=[2.0])


def test_an_axis_has_one_label_per_value():
    with pytest.raises(TraceError, match="2 labels and 3 values"):
        Axis("frame", labels=("a", "b"), values=np.arange(3))
    assert Axis("frame", values=[0.5, 1]).ticks == ("0.5", "1")


def test_a_single_number_is_a_float():
    assert float(Statistic("x", 2.5)) == 2.5
    with pytest.raises(TraceError, match="1 axes"):
        float(Statistic("x", [1.0], (Axis("a", labels=("0",)),)))


def test_to_dict_is_json_and_has_no_nan():
    stat = Statistic("x", [1.0, np.nan], (Axis("layer", values=[0, 1]),), unit="s", n=3, notes={"seed": 1})
    assert json.loads(json.dumps(stat.to_dict(), allow_nan=False))["values"] == [1.0, None]


def test_an_effect_is_the_change_against_the_baseline():
    index = (Axis("layer", labels=("0", "1")),)
    effect = Effect("log-probability", -1.0, [-1.0, -3.0], index)
    np.testing.assert_array_equal(effect.change.values, [0, -2])
    with pytest.raises(TraceError, match="effects"):
        Effect("log-probability", -1.0, [-1.0], index)


def test_one_line_says_value_unit_interval_and_n():
    assert (
        str(Statistic("error", 0.0361, unit="s", low=0.031, high=0.0424, n=48))
        == "error 0.0361 s [0.031, 0.0424], n 48"
    )
    assert str(Statistic("share", 0.5)) == "share 0.5"
    assert str(Statistic("mass", np.zeros((1, 2)), (LAYER, HEAD))) == "mass [1 layer, 2 head]"


def test_selecting_a_place_leaves_the_other_axes():
    values = np.arange(6.0).reshape(3, 2)
    texts = [["a", "b"], ["c", "d"], ["e", "f"]]
    three = Axis("layer", labels=("in", "0", "1"))
    stat = Statistic("x", values, (three, HEAD), unit="s", low=values - 1, high=values + 1, n=4, texts=texts)
    by_label, by_place = stat.select("layer", "1"), stat.select("layer", 1)
    np.testing.assert_array_equal(by_label.values, [4, 5])
    np.testing.assert_array_equal(by_place.values, [2, 3])
    assert (
        by_label.axes == (HEAD,) and by_label.texts.tolist() == ["e", "f"] and by_label.unit == "s" and by_label.n == 4
    )
    assert float(stat.select("head", "7").select("layer", -1)) == 5
    assert stat.select("head", 0).low.tolist() == [-1, 1, 3]


@pytest.mark.parametrize("place", ["9", 2, -3])
def test_a_place_that_is_not_there_is_refused(place):
    with pytest.raises(TraceError, match="no place"):
        Statistic("x", [1.0, 2.0], (HEAD,)).select("head", place)
    with pytest.raises(TraceError, match="no axis 'query'"):
        Statistic("x", [1.0, 2.0], (HEAD,)).select("query", 0)
