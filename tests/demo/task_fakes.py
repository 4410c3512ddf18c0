"""A scripted model that answers every task by what it is asked: transcripts, translations, eleven dimensions."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from demo.workbench import Engine
from model.messages import Text
from model.tasks import prompts
from model.tasks.paralinguistics import DIMENSIONS, labels, questions, reply
from tests.demo.fakes import WORDS, replay_engine, script

TRANSLATION = ("打开", "厨房", "的", "灯", "，", "放", "音乐")
BACK = ("turn", " on", " the", " light")
RIGHT = 1
"""Which label of each dimension is the answer: the second one of the table."""


def asked_dimension(conversation) -> tuple[str, str] | None:
    """Return dimension and language of the question in a conversation."""
    texts = [part.text for message in conversation for part in message.parts if isinstance(part, Text)]
    for dimension in DIMENSIONS:
        for language in ("en", "zh"):
            if questions(dimension, language)[0] in texts:
                return dimension, language
    return None


def right_label(dimension: str) -> str:
    """Name the label that the script answers."""
    return list(labels(dimension))[RIGHT]


def task_script(conversation, options):
    """Answer whatever is asked, in tokens of one word or character."""
    system = conversation[0].parts[0].text
    asked = asked_dimension(conversation)
    if asked:
        sentence = reply(asked[0], right_label(asked[0]), asked[1])
        return script([word + " " for word in sentence[:-1].split(" ")][:-1] + [sentence.rsplit(" ", 1)[-1]])
    if system in (prompts.TRANSLATE_TO_ZH, prompts.TRANSLATE_TO_ZH_SPOKEN):
        return script(TRANSLATION)
    if system in (prompts.TRANSLATE_TO_EN, prompts.TRANSLATE_TO_EN_SPOKEN):
        return script(BACK)
    return script(WORDS)


def weigh(conversation, replies, cancel):
    """Give the label that is answered 3/4 of the whole, and the others the rest, each less than the one before."""
    logprob = -np.arange(len(replies)) - 3.0
    logprob[RIGHT] = np.log(3 * np.exp(np.delete(logprob, RIGHT)).sum())
    probability = np.exp(logprob)
    return SimpleNamespace(logprob=logprob, shares=probability / probability.sum(), coverage=float(probability.sum()))


def task_engine(*, pause_s: float = 0.0, trained_tasks: tuple[str, ...] | None = None, weigh=weigh) -> Engine:
    """Return an engine that answers every task and can weigh candidates."""
    engine = replay_engine(task_script, pause_s=pause_s)
    return replace(engine, weigh=weigh, facts=replace(engine.facts, trained_tasks=trained_tasks))
