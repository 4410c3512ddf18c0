"""Sound and labels of the nano world, made once and kept on disk as log-mels.

    plan     what is to be said, by which voice or recording           list[Clip], the same for the same seed
    build    speak / read, augment, log-mel, in parallel, resumable     shard_0000.f16 + shard_0000.jsonl, ...
    Corpus   read back: one row per clip, mels as float16 views of the files

A corpus of test clips also keeps its sound (`sound/ID.flac`), so that scores are measured through the very door that
visitors use. `python -m model.training.corpus --out runs/corpus --recordings DIR` makes all corpora of the ASR stages.
"""

import argparse
import json
import logging
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.audio import Waveform, log_mel, save_waveform
from model.errors import StepAudioError
from model.training import augment, voices
from model.training.mandarin import Mandarin
from model.training.recordings import Recordings
from model.training.synthesis import synthesize
from model.training.world import grammar, salad

logger = logging.getLogger(__name__)
SHARD_CLIPS = 250
MIN_SECONDS, MAX_SECONDS = 0.3, 9.0
AUGMENTED_SHARE = 0.55
HELD_OUT_SEED = 91
SALAD_SHARE = 0.6
"""Share of word salad among the training sentences. Without it a decoder learned 150 patterns by heart and wrote the
nearest one over what it heard: 69 % WER on patterns it did not know, 7.5 % on those it did, in the same voices."""


@dataclass(frozen=True)
class Clip:
    """One clip to make: `text` spoken by `voice`, or the recording `recording`.

    `language` is "en", "zh", "pinyin" (spaced syllables) or "" for a sound without words; `source` names the data set.
    `plan` is what other makers do with it: how it is said, what else sounds (`task_corpus`).
    """

    id: str
    source: str
    language: str
    text: str
    voice: str = ""
    recording: str = ""
    augmented: bool = False
    labels: dict[str, str | float] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One made clip: where its mel lies and what is known about it. `words` are (text, start_s, end_s)."""

    clip: Clip
    shard: int
    start: int
    frames: int
    samples: int
    words: tuple[tuple[str, float, float], ...] = ()


# --- plan ---------------------------------------------------------------------------------------------------------


def _voice_draw(language: str, split: str, recordings: Recordings, rng: np.random.Generator):
    choices = voices.available_voices(language, split, inventories=Mandarin(recordings).inventories)
    if not choices:
        raise RuntimeError(
            f"Planning {language} speech found no voice of the split {split}; install the engines that the README "
            "names, or pass --recordings."
        )
    weights = np.asarray([voice.weight for voice in choices])
    return lambda: choices[rng.choice(len(choices), p=weights / weights.sum())]


def plan_synthetic(
    name: str, language: str, count: int, *, split: str, held_out: bool, recordings: Recordings, seed: int
):
    """Plan `count` spoken sentences of the world; test plans are never augmented."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}{language}".encode())])
    draw = _voice_draw(language, split, recordings, rng)
    sentences = grammar.sample_many(count, seed, held_out=held_out, salad_share=0 if held_out else SALAD_SHARE)
    plan = []
    for i, sentence in enumerate(sentences):
        voice = draw()
        augmented = not held_out and rng.random() < AUGMENTED_SHARE
        labels = {"gender": voice.gender} if voice.gender != "child" else {}
        if sentence.template != salad.TEMPLATE:
            labels["translation"] = sentence.text("zh" if language == "en" else "en")
        if held_out:
            labels["unseen"] = "pattern" if grammar.templates()[sentence.template].held else "pair"
        plan.append(
            Clip(f"{name}-{language}-{i:05d}", name, language, sentence.text(language), voice=voice.name,
                 augmented=augmented, labels=labels)
        )  # fmt: skip
    return plan


_RECORDED_TRAIN = {
    "librispeech": 2600, "speech_commands": None, "fsdd": None, "picovoice_intent": None, "hymel_keywords": None,
    "picovoice_wake": 300, "mycroft_wake": 250, "mycroft_words": None, "ljspeech": None, "asterisk_prompts": None,
    "aishell_sample": None, "cmn_hsk_words": 3000, "pinyin_sounds": 700, "csemotions": None, "esc": None,
}  # fmt: skip
"""Recorded sets of the training corpus and how many clips of each at most (None: all). The syllables of `chenwang`
stay out: that voice is the Mandarin speaker never trained on."""


def _recorded_clip(row, augmented: bool) -> Clip:
    text, language = row.text or "", row.language or ""
    if not text and row.more.get("pinyin"):
        text, language = row.more["pinyin"], "pinyin"
    labels = {name: row.more[name] for name in ("gender", "emotion", "event") if row.more.get(name)}
    source = row.dataset
    return Clip(
        row.id.replace("/", "__"),
        source,
        language,
        text.strip("﻿ "),
        recording=row.id,
        augmented=augmented,
        labels=labels,
    )


def plan_recorded(recordings: Recordings, *, split: str, limits: dict[str, int | None], seed: int) -> list[Clip]:
    """Plan the recorded clips of one split, at most `limits[dataset]` of each set."""
    rng = np.random.default_rng([seed, 11])
    plan = []
    for dataset, limit in limits.items():
        rows = [r for r in recordings.select(dataset=dataset, split=split) if r.duration_s <= MAX_SECONDS]
        keep = sorted(rng.permutation(len(rows))[:limit])
        for i in keep:
            plan.append(_recorded_clip(rows[i], split == "train" and rng.random() < AUGMENTED_SHARE / 2))
    return plan


def sentence_case(text: str) -> str:
    """Write a bare transcript the way the world writes its sentences: "turn left" -> "Turn left."."""
    text = text.strip()
    text = " ".join("I" + word[1:] if word == "i" or word.startswith("i'") else word for word in text.split())
    return text if not text or text[-1] in ".?!。？！" else text[0].upper() + text[1:] + "."


def plans(recordings: Recordings, *, english: int, mandarin: int, tests: int, seed: int) -> dict[str, list[Clip]]:
    """All corpora by name: `train`, and the held-out `test_*` sets that the model card reports."""
    train = plan_synthetic("world", "en", english, split=voices.TRAIN, held_out=False, recordings=recordings, seed=seed)
    train += plan_synthetic(
        "world", "zh", mandarin, split=voices.TRAIN, held_out=False, recordings=recordings, seed=seed
    )
    train += plan_recorded(recordings, split="train", limits=_RECORDED_TRAIN, seed=seed)
    np.random.default_rng(seed).shuffle(train)
    made = {"train": train}
    for split, name in ((voices.HELD_OUT_VOICE, "test_voices"), (voices.HELD_OUT_ENGINE, "test_engine")):
        for language in ("en", "zh"):
            made[f"{name}_{language}"] = plan_synthetic(
                name, language, tests, split=split, held_out=True, recordings=recordings, seed=HELD_OUT_SEED
            )
    people = {"commands": ("speech_commands", None), "digits": ("fsdd", None), "orders": ("picovoice_intent", None)}
    for name, (dataset, limit) in people.items():
        made[f"test_people_{name}"] = plan_recorded(recordings, split="test", limits={dataset: limit}, seed=seed)
    return made


# --- build --------------------------------------------------------------------------------------------------------


class _Maker:
    """What one worker process needs to turn a plan into sound."""

    def __init__(self, recordings: Recordings, cache: Path):
        self.recordings = recordings
        self.rows = {row.id: row for row in recordings.select()}
        self.mandarin = Mandarin(recordings, cache / "units")
        self.noises = recordings.noises("train", limit=150)

    def make(self, clip: Clip) -> tuple[Waveform, tuple] | None:
        """Sound (16 kHz) and word times of a clip; None when the voice cannot say the text or it is too long."""
        rng = np.random.default_rng(zlib.crc32(clip.id.encode()))
        words: tuple = ()
        if clip.recording:
            sound = _middle(self.recordings.load(self.rows[clip.recording]), clip.language)
        else:
            try:
                speech = synthesize(clip.text, voices.find_voice(clip.voice), rng=rng, mandarin=self.mandarin)
            except StepAudioError as error:
                logger.warning("left out: %s", error)
                return None
            sound = speech.waveform
            words = tuple((w.text, w.start_s, w.end_s) for w in speech.words or ())
        if clip.augmented:
            sound = augment.augment(sound, rng, noises=self.noises)
        sound = _padded(sound, rng)
        return (sound, words) if MIN_SECONDS <= sound.duration_s <= MAX_SECONDS else None


def _middle(sound: Waveform, language: str, seconds: float = 3.0) -> Waveform:
    """Clips without words are cut to their first seconds: an event needs no more, and batches stay small."""
    return sound if language else sound.slice_s(0.0, min(seconds, sound.duration_s))


def _padded(sound: Waveform, rng: np.random.Generator) -> Waveform:
    """A very short clip gets some quiet on both sides, like a microphone that was opened early."""
    missing = int(0.5 * sound.sample_rate_hz) - len(sound.samples)
    if missing <= 0:
        return sound
    left = int(rng.integers(missing + 1))
    quiet = rng.standard_normal(len(sound.samples) + missing).astype(np.float32) * 1e-4
    quiet[left : left + len(sound.samples)] += sound.samples
    return Waveform(quiet, sound.sample_rate_hz)


_MAKER: _Maker | None = None


def _start_worker(recordings_dir: str | None, cache: str, maker: type[_Maker] = _Maker) -> None:
    global _MAKER
    import torch

    torch.set_num_threads(1)
    _MAKER = maker(Recordings(recordings_dir), Path(cache))


def _build_shard(folder: str, number: int, clips: list[Clip], keep_sound: bool) -> int:
    """Make one shard; a shard that is already there is left alone. Returns how many clips it holds."""
    rows_path = Path(folder) / f"shard_{number:04d}.jsonl"
    if rows_path.exists():
        return sum(1 for _ in rows_path.open())
    rows, mels, at = [], [], 0
    for clip in clips:
        made = _MAKER.make(clip)
        if made is None:
            continue
        sound, words, *labels = made
        if labels:  # what only the making tells, such as when a sound is heard
            clip = replace(clip, labels=labels[0])
        mel = log_mel(sound).T.contiguous().numpy().astype(np.float16)
        if keep_sound:
            save_waveform(Path(folder) / "sound" / f"{clip.id}.flac", sound)
        rows.append(Row(clip, number, at, len(mel), len(sound.samples), words))
        mels.append(mel)
        at += len(mel)
    np.concatenate(mels).tofile(rows_path.with_suffix(".f16"))
    partial = rows_path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.rename(rows_path)
    return len(rows)


def build(
    plan: list[Clip],
    folder: Path,
    *,
    recordings_dir: str | None,
    cache: Path,
    workers: int = 2,
    keep_sound=False,
    maker: type[_Maker] = _Maker,
) -> int:
    """Make every clip of `plan` under `folder`, `workers` processes side by side; resumes by shard.

    A `maker` may add a third part to what `make` returns: the labels that hold for the finished clip.

    Returns the number of clips made. Clips that a voice cannot say are left out.
    """
    from tqdm import tqdm

    (folder / "sound").mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    parts = [plan[i : i + SHARD_CLIPS] for i in range(0, len(plan), SHARD_CLIPS)]
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(recordings_dir, str(cache), maker)) as pool:
        jobs = [pool.submit(_build_shard, str(folder), i, part, keep_sound) for i, part in enumerate(parts)]
        return sum(job.result() for job in tqdm(jobs, desc=folder.name, unit="shard"))


def build_all(plans: dict[str, list[Clip]], args: argparse.Namespace, maker: type[_Maker] = _Maker) -> Iterator[str]:
    """Make the corpora that the command line asks for; says of each how many clips were made."""
    for name, plan in plans.items():
        if args.only and not name.startswith(args.only):
            continue
        count = build(plan, args.out / name, recordings_dir=args.recordings, cache=args.out / "cache",
                      workers=args.workers, keep_sound=name.startswith("test"), maker=maker)  # fmt: skip
        yield f"{name}: {count} of {len(plan)} clips made"


# --- read ---------------------------------------------------------------------------------------------------------


class Corpus:
    """Clips made by `build`; incomplete corpora can be read while they grow."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.rows: list[Row] = []
        self._mels: dict[int, np.ndarray] = {}
        for path in sorted(self.folder.glob("shard_*.jsonl")):
            self.rows += [_row_from_json(line) for line in path.open(encoding="utf-8")]

    def __len__(self) -> int:
        return len(self.rows)

    def mel(self, row: Row) -> np.ndarray:
        """Log-mel of a clip, float16 [frames, 128]."""
        if row.shard not in self._mels:
            path = self.folder / f"shard_{row.shard:04d}.f16"
            self._mels[row.shard] = np.memmap(path, dtype=np.float16, mode="r").reshape(-1, 128)
        return self._mels[row.shard][row.start : row.start + row.frames]

    def split(self) -> tuple[list[Row], list[Row]]:
        """Training rows, and the rows of the first shard, kept to watch a training run."""
        return [r for r in self.rows if r.shard], [r for r in self.rows if not r.shard]

    def sound_path(self, row: Row) -> Path:
        """The clip's sound file; kept for test corpora only."""
        return self.folder / "sound" / f"{row.clip.id}.flac"


def _row_from_json(line: str) -> Row:
    data = json.loads(line)
    row = Row(**{**data, "clip": Clip(**data["clip"])})
    return replace(row, words=tuple(tuple(w) for w in row.words))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/corpus"))
    parser.add_argument("--recordings", help="folder with manifest.jsonl and the zips of recordings (optional)")
    parser.add_argument("--english", type=int, default=8000, help="synthetic English training sentences")
    parser.add_argument("--mandarin", type=int, default=6500, help="synthetic Mandarin training sentences")
    parser.add_argument("--tests", type=int, default=300, help="sentences in each held-out set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="make only the corpora whose name begins like this")
    args = parser.parse_args()
    recordings = Recordings(args.recordings)
    made = plans(recordings, english=args.english, mandarin=args.mandarin, tests=args.tests, seed=args.seed)
    for told in build_all(made, args):
        print(told)


if __name__ == "__main__":
    main()
