"""`ask FILE... --question TEXT`: a question about each recording, answered in writing."""

import argparse

from model.audio import Waveform
from model.cli.command import file_command
from model.messages import Conversation
from model.tasks.audio_questions import AudioQuestions
from model.tasks.paralinguistics import Paralinguistics

CHOICE_MARK = "<RESPONSE>"
"""What the official multiple-choice question ends in; such a question gets the prompt that belongs to it."""


def asked(waveform: Waveform, question: str, *, name: str = "") -> Conversation:
    """Ask about a recording: the sound, then the question, behind the prompt that models were trained with."""
    task = AudioQuestions if CHOICE_MARK in question else Paralinguistics
    return task.conversation(waveform, name=name, question=question)


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--question", required=True, metavar="TEXT", type=_words, help="what to ask about each of them")


def _words(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("there is no question in it")
    return text.strip()


ASK = file_command(
    "ask",
    "answer a question about each recording",
    tasks=(Paralinguistics.name, AudioQuestions.name),
    options=AudioQuestions.options,
    asked=lambda waveform, file, args: asked(waveform, args.question, name=file),
    add_arguments=_add_question,
)
