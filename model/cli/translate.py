"""`translate FILE... --to zh|en`: say in the other language what is said."""

import argparse

from model.cli.command import file_command
from model.tasks.translation import PROMPTS, Translation


def _add_language(parser: argparse.ArgumentParser) -> None:
    languages = sorted({language for language, _ in PROMPTS})
    parser.add_argument("--to", required=True, choices=languages, help="language of the translation")


TRANSLATE = file_command(
    "translate",
    "translate what is said into Chinese or English",
    tasks=(Translation.name,),
    options=Translation.options,
    asked=lambda waveform, file, args: Translation.conversation(waveform, name=file, target=args.to),
    add_arguments=_add_language,
)
