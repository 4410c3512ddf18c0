"""However a thought ends, the next prompt goes on from its own ids."""

import pytest

from model.chat import THINK_PREFIX, THINK_SUFFIX
from model.errors import OptionsError
from model.events import ThoughtDelta, TurnDone
from model.messages import RawIds, Text, Thought
from model.thought_budget import FREE_TOKENS, check_budget, finish_thought, most_tokens


def deltas(*pieces):
    """Pieces of a thought, one id each, from 10 on."""
    return [ThoughtDelta(text, (10 + n,), 0.1 * n) for n, text in enumerate(pieces)]


def done(reason, *ids):
    return TurnDone(reason, ids, 5, len(ids), 1.0)


def test_one_that_ends_itself_keeps_every_id():
    thought = finish_thought(deltas("Hm", ".\n"), "", done("stop", 10, 11))
    assert thought.closed_itself and thought.text == "Hm."
    assert thought.parts == (Text(THINK_PREFIX), RawIds((10, 11)), Text("\n\n"))


@pytest.mark.parametrize(("after", "rest"), [("\n", (Text("\n"),)), ("\n\n", ())])
def test_what_came_with_the_tag_is_not_written_twice(after, rest):
    thought = finish_thought(deltas("Hm\n"), after, done("stop", 10))
    assert thought.parts == (Text(THINK_PREFIX), RawIds((10,)), *rest)


def test_one_that_runs_on_into_the_answer_is_written_anew():
    thought = finish_thought(deltas("Hm\n"), "So", done("stop", 10))
    assert thought.parts == (Thought("Hm\n"),)


@pytest.mark.parametrize("end", [done("length", 10, 11), done("stop", 10, 11, 2)], ids=["budget", "end of turn"])
def test_one_that_is_ended_is_closed_on_a_line_of_its_own(end):
    thought = finish_thought(deltas("It was", " a dog"), "", end)
    assert not thought.closed_itself
    assert thought.parts == (Text(THINK_PREFIX), RawIds((10, 11)), Text("\n" + THINK_SUFFIX))


def test_a_line_that_is_over_needs_no_other():
    thought = finish_thought(deltas("It was a dog.\n"), "", done("length", 10))
    assert thought.parts[-1] == Text(THINK_SUFFIX)


@pytest.mark.parametrize("loose", ["", "</thi", " dog</"])
def test_loose_ends_go(loose):
    thought = finish_thought(deltas("It was", loose), "", done("length", 10, 11))
    assert thought.parts[1] == RawIds((10,)) and thought.text == "It was"


def test_a_cycle_goes():
    thought = finish_thought(deltas("a", *["my"] * 12), "", done("repetition", *range(10, 23)), repetition_window=12)
    assert thought.parts[1] == RawIds((10,)) and thought.text == "a"


def test_an_empty_thought_is_one_too():
    assert finish_thought([], "", done("stop", 2)).parts == (Text(THINK_PREFIX + THINK_SUFFIX),)


def test_a_backend_without_ids_gets_the_words():
    thought = finish_thought([ThoughtDelta("Hm.", (), 0.1)], "", TurnDone("stop", (), 0, 0, 0.2))
    assert thought.parts == (Thought("Hm.\n"),) and thought.closed_itself


def test_budgets():
    assert [most_tokens(b) for b in ("none", 0, 7, "free", 10**6)] == [0, 0, 7, FREE_TOKENS, FREE_TOKENS]
    for wrong in (-1, True, "long", 1.5, None):
        with pytest.raises(OptionsError):
            check_budget(wrong)
