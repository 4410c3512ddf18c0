"""The example sounds that ship with nano: synthetic speech by voices that training never heard, with honest captions.

    python -m model.training.examples --out model/nano/examples      NAME.flac + NAME.txt (what it is)

The sentences are of the held-out side of the world. Mandarin is spoken by espeak-ng, whose tones are weak: joined
recordings sound better but contain pieces of other people's clips.
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
    Example("1_window", "Please open the window in the kitchen.", "flite-rms", "Open the window (flite rms)"),
    Example(
        "2_coffee",
        "Can I have a large iced mocha with soy milk and brown sugar.",
        "flite-rms",
        "A coffee order (flite rms)",
    ),
    Example(
        "3_weather",
        "Is it sunny in Singapore now?",
        "festival-ked_diphone",
        "Weather (festival, an engine never trained on)",
    ),
    Example("4_number", "My phone number is four seven two nine.", "flite-rms", "A phone number (flite rms)"),
    Example("5_chuanghu", "请把厨房的窗户打开。", "espeak-cmn-latn-pinyin", "请把厨房的窗户打开 (espeak-ng)"),
    Example("6_tianqi", "上海现在下雨吗？", "espeak-cmn-latn-pinyin", "上海现在下雨吗 (espeak-ng)"),
)


def write(example: Example, folder: Path) -> Path:
    """Speak one example into `folder`; returns the sound file."""
    folder.mkdir(parents=True, exist_ok=True)
    speech = synthesize(example.text, find_voice(example.voice), rng=np.random.default_rng(0), prosody=PLAIN)
    path = folder / f"{example.name}.flac"
    save_waveform(path, speech.waveform)
    path.with_suffix(".txt").write_text(example.caption + "\n", encoding="utf-8")
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
