"""The example sounds that ship with nano: synthetic speech with captions that say how hard it is.

    python -m model.training.examples --out model/nano/examples
        NAME.flac + NAME.txt (what it is) + NAME.csv (when each word sounds, as the engine says)

English is spoken by held-out voices; two sentences are of held-out patterns, and say so. Mandarin is spoken by
espeak-ng, whose tones are weak: joined recordings sound better but contain pieces of other people's clips.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.audio import save_waveform
from model.training.synthesis import Prosody, synthesize
from model.training.voices import find_voice

PLAIN = Prosody(rate=0.95, pitch=1.0, size=1.0)


@dataclass(frozen=True)
class Example:
    """One sound: file name, words, voice, and how the button in the app calls it."""

    name: str
    text: str
    voice: str
    caption: str


EXAMPLES = (
    Example(
        "1_television",
        "Please turn off the television in the living room.",
        "flite-rms",
        "Turn off the television",
    ),
    Example("2_coffee", "Can I have a large iced coffee with some milk.", "flite-rms", "A coffee order"),
    Example(
        "3_weather",
        "What is the weather like in Paris tomorrow?",
        "festival-ked_diphone",
        "Weather, an engine never trained on",
    ),
    Example(
        "4_window",
        "Please open the window in the kitchen.",
        "flite-rms",
        "Hard: “open the window”, a pattern never trained on",
    ),
    Example("5_tianqi", "北京明天天气怎么样？", "espeak-cmn-latn-pinyin", "北京明天天气怎么样"),
    Example(
        "6_chuanghu",
        "请把厨房的窗户打开。",
        "espeak-cmn-latn-pinyin",
        "Hard: 请把厨房的窗户打开, a pattern never trained on",
    ),
)


def write(example: Example, folder: Path) -> Path:
    """Speak one example into `folder`, with its caption and word times; returns the sound file."""
    folder.mkdir(parents=True, exist_ok=True)
    speech = synthesize(example.text, find_voice(example.voice), rng=np.random.default_rng(0), prosody=PLAIN)
    path = folder / f"{example.name}.flac"
    save_waveform(path, speech.waveform)
    path.with_suffix(".txt").write_text(example.caption + "\n", encoding="utf-8")
    if speech.words is not None:
        lines = [f"{word.text},{word.start_s:.3f},{word.end_s:.3f}\n" for word in speech.words]
        path.with_suffix(".csv").write_text("word,start_s,end_s\n" + "".join(lines), encoding="utf-8")
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("model/nano/examples"))
    folder = parser.parse_args().out
    for example in EXAMPLES:
        print(write(example, folder))


if __name__ == "__main__":
    main()
