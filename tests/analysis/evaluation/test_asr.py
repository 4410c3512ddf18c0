"""ASR evaluation: hand-worked rates over a few utterances."""

import numpy as np
import pytest

from analysis.evaluation import asr
from analysis.statistic import Statistic
from model.events import Turn
from model.tasks.asr import ASR
from model.tasks.base import Example
from model.training.corpus import Clip
from model.training.corpus import Row as MadeClip


def _row(reference: str, said: str, number: int = 0) -> asr.Row:
    example = Example(f"e{number}", (), reference, {"language": "en"})
    turn = Turn(said, "", (), (), (), "stop", 0, 0, 0.0)
    return asr.Row(
        MadeClip(Clip(f"e{number}", "world", "en", reference), 0, 0, 1, 1), example, turn, ASR.score(said, example)
    )


ROWS = [_row("turn left", "turn left"), _row("stop the big car", "stop a big cat", 1), _row("go", "go", 2)]


def test_error_rate_counts_words_not_utterances():
    metric = asr.error_metric("WER", ROWS)
    assert metric.value == pytest.approx(100 * 2 / 7)
    assert metric.low <= metric.value <= metric.high and metric.n == 3


def test_share_of_right_answers():
    assert asr.right_metric("right", ROWS).value == pytest.approx(100 * 2 / 3)


def test_constant_answer_baseline():
    rows = [_row("yes", "no"), _row("yes", "yes", 1), _row("no", "no", 2), _row("up", "no", 3)]
    assert asr.most_frequent(rows) == "50.0 % (constant answer)"


def test_pointing_is_reported_in_milliseconds():
    found = Statistic("median |dt|", np.array(0.08), unit="s", low=np.array(0.07), high=np.array(0.1), n=50)
    metric = asr.pointing_metric("pointing", found)
    assert (metric.value, metric.low, metric.high) == pytest.approx((80.0, 70.0, 100.0)) and metric.unit == "ms"
