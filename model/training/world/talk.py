"""Everything that is said in the tasks beyond single sentences, as plain texts for whoever has to cover their words.

Only the training side is drawn. A tokenizer is made from these texts, and a test counts their words.
"""

import json
from collections.abc import Iterator

import numpy as np

from model.tasks import paralinguistics
from model.tools.standard import standard_toolbox
from model.training.world import dialogue, facts, thoughts, tool_scripts

LANGUAGES = ("en", "zh")


def texts(count: int, seed: int) -> Iterator[str]:
    """Draw `count` questions, dialogues, feelings and tool scripts in each language."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        for language in LANGUAGES:
            yield from _drawn(rng, language)


def _drawn(rng: np.random.Generator, language: str) -> Iterator[str]:
    exchanges = [facts.sample(rng, language), dialogue.sample_feeling(rng, language)]
    exchanges += dialogue.sample(rng, language).exchanges
    for exchange in exchanges:
        sound = {"emotion": exchange.manner} if exchange.manner else {}
        yield exchange.human
        yield exchange.reply
        yield thoughts.think(exchange, sound, rng).thought
    script = tool_scripts.sample(rng, language)
    yield from filter(None, (script.human, script.lead, script.result, script.reply))
    if script.call:
        yield json.dumps(script.call.arguments, ensure_ascii=False)


def fixed_texts() -> Iterator[str]:
    """Questions and replies of the paralinguistic dimensions, and the schemas of the tools."""
    for dimension in paralinguistics.DIMENSIONS:
        for language in LANGUAGES:
            yield from paralinguistics.questions(dimension, language)
            yield from (
                paralinguistics.reply(dimension, label, language) for label in paralinguistics.labels(dimension)
            )
    yield json.dumps(standard_toolbox().schemas(), ensure_ascii=False)
