"""What is asked with a clip of talk: the same for training, with stored sound, and for tests, with sound that is heard.

Row + sound  -->  Example of chat | thinking | tools          typed where the sound is None
"""

from functools import cache

import numpy as np

from model.audio import Waveform
from model.tasks import paralinguistics
from model.tasks.base import Example
from model.tasks.thinking import Thinking
from model.tasks.tool_calls import ToolUse
from model.tools.clock import date_words
from model.tools.standard import standard_toolbox
from model.tools.toolbox import Toolbox
from model.training import talk_corpus
from model.training.corpus import Row
from model.training.world import dialogue
from model.training.world.dialogue import Dialogue
from model.training.world.tool_scripts import ToolScript

MAX_TOOLS = 2
"""Tools on offer: schemas are long."""


def sound_labels(row: Row) -> dict[str, str]:
    """What is truly in a recording, dimension -> label."""
    known = row.clip.labels
    return {d: str(known[d]) for d in paralinguistics.DIMENSIONS if known.get(d) in paralinguistics.labels(d)}


def _said(talk: Dialogue, sound: Waveform | None) -> list[Waveform | str]:
    """What the person says in each turn: earlier turns typed."""
    said: list[Waveform | str] = [exchange.human for exchange in talk.exchanges]
    return said if sound is None else [*said[:-1], sound]


def chat_example(row: Row, sound: Waveform | None) -> Example:
    """Reply to the last turn of a dialogue."""
    talk = talk_corpus.from_plan(row.clip.plan["talk"])
    assert isinstance(talk, Dialogue), "a row of talk"
    return dialogue.as_example(talk, _said(talk, sound), id=row.clip.id)


def thinking_example(row: Row, sound: Waveform | None) -> Example:
    """Think about the last turn of a dialogue, then reply; the reference has no thought."""
    talk = talk_corpus.from_plan(row.clip.plan["talk"])
    assert isinstance(talk, Dialogue), "a row of talk"
    last, said = talk.exchanges[-1], _said(talk, sound)
    history = list(zip(said, (exchange.reply for exchange in talk.exchanges), strict=True))[:-1]
    return Thinking.example(
        said[-1], last.reply, id=row.clip.id, language=last.language, sound=sound_labels(row) if sound else {},
        history=history, key=last.key, others=last.others, register=last.register, topic=last.topic,
    )  # fmt: skip


@cache
def _toolbox() -> Toolbox:
    return standard_toolbox(online=False)


def offered(script: ToolScript, rng: np.random.Generator) -> Toolbox:
    """The tool a request is about and at times another one, in the standard order."""
    names = [name for name in _toolbox().names if name != script.tool]
    others = rng.permutation(names)[: int(rng.integers(MAX_TOOLS))].tolist()
    return _toolbox().only({script.tool, *others})


def tool_example(row: Row, sound: Waveform | None, rng: np.random.Generator) -> tuple[Example, ToolScript]:
    """Decide on a tool; with the script, which tells what follows."""
    script = talk_corpus.from_plan(row.clip.plan["talk"])
    assert isinstance(script, ToolScript), "a row of tools"
    box = offered(script, rng)
    example = ToolUse.example(
        script.human if sound is None else sound, script.lead if script.call else script.reply, id=row.clip.id,
        call=script.call, offered=box.message(), today=date_words(script.now, "zh"), tools=box.names, kind=script.kind,
        near="" if script.call else script.tool, language=script.language,
    )  # fmt: skip
    return example, script
