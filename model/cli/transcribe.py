"""`transcribe FILE...`: write down what is said."""

from model.cli.command import file_command
from model.tasks.asr import ASR

TRANSCRIBE = file_command(
    "transcribe",
    "write down what is said",
    tasks=(ASR.name,),
    options=ASR.options,
    asked=lambda waveform, file, args: ASR.conversation(waveform, name=file),
)
