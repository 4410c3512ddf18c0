"""Tool scripts: calls that the real tools accept, replies that follow from their results, two sides that never meet."""

import re

import numpy as np
import pytest

from model.tasks.tool_calls import ToolUse
from model.tools.arguments import check_arguments
from model.tools.standard import STANDARD_NAMES, standard_toolbox
from model.training.world import tool_scripts as t

BOX = standard_toolbox(online=False)


def draw(language, count, *, held_out=False, seed=0, **options):
    rng = np.random.default_rng(seed)
    return [t.sample(rng, language, held_out=held_out, **options) for _ in range(count)]


@pytest.mark.parametrize("language", t.LANGUAGES)
def test_calls_are_what_the_tools_accept(language):
    for script in draw(language, 40) + draw(language, 20, held_out=True):
        if script.call is None:
            assert script.kind == "none" and not script.result and not script.lead
            continue
        tool = BOX.tools[script.call.name]
        assert check_arguments(tool.name, script.call.arguments, tool.parameters) == dict(script.call.arguments)
        assert script.result and script.reply and script.lead == t.LEADS[language]
        assert not re.search(r"[{}]", script.human + script.reply + str(script.call.arguments.values()))


def test_replies_follow_from_the_results():
    for script in draw("en", 25, tools=("get_weather",), kinds=("explicit",), seed=1):
        low, high = re.search(r"(\d+) to (\d+) degrees", script.result).groups()
        if "degrees" in script.reply:
            assert f"{t.number(int(low)).english} to {t.number(int(high)).english} degrees" in script.reply
    for script in draw("en", 25, tools=("get_date_time",), kinds=("explicit",), seed=2):
        assert "Today is" not in script.reply or any(day in script.reply for day in (*t.WEEKDAYS, *t.MONTHS))
        if "it is" in script.reply.lower():
            hour = int(re.search(r"(\d\d):\d\d", script.result)[1])
            assert t.number(hour % 12 or 12).english in script.reply


@pytest.mark.parametrize("language", t.LANGUAGES)
def test_the_search_knows_everything_that_is_searched(language):
    side = t.LANGUAGES.index(language)
    for thing, _ in t.things("search"):
        query = t._argument(thing, language)
        found = t.WebSearch(engine=None).run(
            {"query": query}, t._context(t.datetime(2026, 1, 1, tzinfo=t.UTC), language)
        )
        assert found.data["results"], (thing.english, thing.chinese)[side]


@pytest.mark.parametrize("language", t.LANGUAGES)
def test_the_sides_never_meet(language):
    train = draw(language, 100, seed=3)
    held = draw(language, 40, seed=4, held_out=True)
    assert not {s.human for s in train} & {s.human for s in held}
    assert not any(t.rows()[int(s.template.split(":")[1])].held for s in train)
    assert not any(map(t.sides.gives_away, (s.human for s in train)))


def test_all_tools_and_kinds_have_both_sides():
    assert {row.tool for row in t.rows()} == set(STANDARD_NAMES)
    cells = {(row.tool, row.kind, row.held) for row in t.rows()}
    assert cells == {(tool, kind, held) for tool in STANDARD_NAMES for kind in t.KINDS for held in (False, True)}
    assert draw("en", 5, seed=5) == draw("en", 5, seed=5)


def test_the_task_finds_the_scripts_right():
    import json

    for script in draw("en", 12, seed=6) + draw("zh", 12, seed=7):
        near = "" if script.call else script.tool
        example = ToolUse.example(script.human, script.reply, id="x", call=script.call, near=near)
        reply = script.reply
        if script.call:
            arguments = json.dumps(dict(script.call.arguments), ensure_ascii=False)
            reply = f"{script.lead}<tool_call>function\n{script.call.name}\n{arguments}</tool_call>"
        assert ToolUse.score(reply, example).value == 1.0
