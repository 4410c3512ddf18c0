"""The toy hears in layer 0 and reads in layer 1, where the text was planted to win; the page must say so."""

import numpy as np
import pytest

from analysis.conflict import BOTH, SOUND_ONLY, TEXT_ONLY, Conflict, conflict, mean_margins, who_wins
from analysis.figures.counterfactual import changes
from analysis.figures.curves import curves
from model.chat import Text
from model.errors import TraceError
from tests.analysis import toy

CLAIM, ANSWERS = " cat", (" left", " right")
HIGH = toy.clip(None, (0.6, 1.0))


@pytest.fixture(scope="module")
def loaded():
    return toy.build_toy("conflict")


@pytest.fixture(scope="module")
def found(loaded) -> Conflict:
    return conflict(loaded, toy.ask(HIGH, CLAIM, think=False), CLAIM, ANSWERS)


def case(both: float, sound: float = 2.0, text: float = -2.0) -> Conflict:
    """A case that was made up: margins at two depths, the first one for the sound."""
    whole = np.array([both, sound, text])
    return Conflict("a", "b", ("in", "0"), np.stack([np.ones(3), whole], axis=1), whole)


def test_the_planted_winner_wins_and_both_sides_alone_are_followed(found):
    assert found.said == ("right", "left", "right")
    assert found.winner == "text" and found.real
    assert (found.side(SOUND_ONLY), found.side(TEXT_ONLY)) == ("sound", "text")


def test_the_sound_leads_until_the_layer_that_reads(found):
    """Layer 0 has heard and not read yet; layer 1 decides against it."""
    margins = dict(zip(("both", "sound only", "text only"), found.margins().values))
    assert found.depths == ("in", "0", "1") and found.decided_at == "1"
    assert margins[BOTH][1] > 1 and margins[BOTH][2] < -1
    assert margins[SOUND_ONLY][2] == pytest.approx(margins[SOUND_ONLY][1], rel=0.15) and margins[SOUND_ONLY][2] > 1
    assert margins[TEXT_ONLY][1] < 0 and margins[TEXT_ONLY][2] < margins[TEXT_ONLY][1] - 1


def test_whole_answers_agree_with_the_token_where_they_part(found):
    assert np.sign(found.whole).tolist() == [-1, 1, -1]
    assert found.whole[0] == pytest.approx(found.margin[0, -1], abs=0.5)  # both end alike


def test_without_new_answers_the_likelier_one_counts(loaded, found):
    told = []
    again = conflict(
        loaded, toy.ask(HIGH, CLAIM, think=False), CLAIM, ANSWERS, regenerate=False,
        progress=lambda step, share: told.append(share),
    )  # fmt: skip
    assert again.said == () and again.winner == "text" and again.real and told == [1 / 3, 2 / 3, 1]
    np.testing.assert_allclose(again.margin, found.margin, atol=1e-4)


def test_a_side_that_nobody_would_follow_makes_no_conflict(loaded):
    """Without a high tone the sound alone does not say left: nothing is won against it."""
    asked = toy.ask(toy.clip((0.3, 0.7), None), CLAIM, think=False)
    found = conflict(loaded, asked, CLAIM, ANSWERS)
    assert not found.real and found.winner == "text"
    with pytest.raises(TraceError, match="none of them a real conflict"):
        who_wins([found])
    assert who_wins([found], only_real=False).values.tolist() == [0, 1, 0]


def test_an_answer_of_neither_side_is_neither(found):
    odd = Conflict(found.heard, found.written, found.depths, found.margin, found.whole, ("maybe", "left", "right"))
    assert odd.winner == "neither" and odd.real


def test_many_cases_are_counted_with_intervals():
    won = who_wins([case(1.0), case(-1.0), case(-3.0), case(-1.0), case(5.0, sound=-1.0)])
    assert won.axes[0].labels == ("sound", "text", "neither") and won.values.tolist() == [0.25, 0.75, 0.0]
    assert won.notes == {"cases": 5, "real": 4, "only_real": True} and won.n == 4
    assert (won.low <= won.values).all() and (won.values <= won.high).all() and won.low[1] < 0.75
    margins = mean_margins([case(1.0), case(-3.0)])
    np.testing.assert_allclose(margins.values[0], [1, -1])
    assert case(-1.0).decided_at == "0" and case(1.0).decided_at == "in"


def test_cases_can_be_drawn(found):
    lines = {line.name: line for line in curves(found.margins()).data if line.name}
    np.testing.assert_allclose(lines["both"].y, found.margin[0])
    assert list(changes(who_wins([found])).data[0].x) == [0, 1, 0]


def test_cases_of_other_models_are_not_averaged():
    other = Conflict("a", "b", ("in",), np.array([[1.0], [1.0], [-1.0]]), np.array([1.0, 1, -1]))
    with pytest.raises(TraceError, match="one model"):
        mean_margins([case(1.0), other])


@pytest.mark.parametrize(
    "claim, answers, message", [(" dog", ANSWERS, "no text ' dog'"), (CLAIM, (" left", " left"), "on both sides")]
)
def test_cases_without_a_conflict_are_refused(loaded, claim, answers, message):
    with pytest.raises(TraceError, match=message):
        conflict(loaded, toy.ask(HIGH, CLAIM, think=False), claim, answers)


def test_the_claim_is_a_part_of_its_own():
    assert Text(CLAIM) in toy.ask(HIGH, CLAIM, think=False)[0].parts
