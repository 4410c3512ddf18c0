"""The sound that nano learns to speak from: clean sentences at 24 kHz, with every feature the stages need.

    plan         what is said, by whom, in which guise                      list[Clip], the same for the same seed
    build        speak, trim, measure; shards, resumable                    shard_0000.{pcm,mel128,mel80,jsonl}
    VoiceCorpus  read back, float16 and int16 views of the files

A clip is cut to whole codes, so that everything lines up without rounding:

    1 code (40 ms) = 4 frames of the 128-band log-mel = 2 frames of the 80-band mel = 960 samples at 24 kHz

`python -m model.training.voice.corpus --out runs/voice --recordings DIR` makes four corpora: `runs/voice` itself,
`runs/voice/test` (unseen sentences, unseen voices), `runs/voice/people` and `runs/voice/people_test` (real readers,
different ones; as wide as their recordings, 16 kHz).
"""

import argparse
import json
import logging
import zlib
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, OUTPUT_SAMPLE_RATE_HZ, Waveform, log_mel
from model.errors import StepAudioError
from model.token2wav.config import CODE_RATE_HZ
from model.token2wav.features import N_BINS, prompt_mel
from model.training import voices
from model.training.corpus import HELD_OUT_SEED, Clip
from model.training.mandarin import Mandarin
from model.training.recordings import Recordings
from model.training.synthesis import synthesize
from model.training.voice.teachers import dressed, guises, teachers
from model.training.world import grammar

logger = logging.getLogger(__name__)
SHARD_CLIPS = 250
MIN_SECONDS, MAX_SECONDS = 0.6, 9.0
SALAD_SHARE = 0.15
AS_IS_SHARE = 0.5
"""Share of the clips in which a voice speaks as it is."""
CODE_SAMPLES = OUTPUT_SAMPLE_RATE_HZ // CODE_RATE_HZ
CODE_SAMPLES_16K = INPUT_SAMPLE_RATE_HZ // CODE_RATE_HZ
MEL_FRAMES, PROMPT_FRAMES, N_MELS = 4, 2, 128
"""Frames of both mels for one code, and bands of the log-mel."""
QUIET_DB = -48.0
LEAD_S, TAIL_S = 0.08, 0.12
"""Quiet that stays before and after the speech; engines add up to half a second."""
PEOPLE_SETS = ("librispeech", "ljspeech")


@dataclass(frozen=True)
class VoiceRow:
    """One made clip: where it lies, counted in codes, and what is known about it. `words` are (text, start_s, end_s).

    `clip.labels` holds `speaker` (who speaks, guise included) and `band_hz` (up to where the clip has sound).
    """

    clip: Clip
    shard: int
    start: int
    codes: int
    words: tuple[tuple[str, float, float], ...] = ()

    @property
    def frames(self) -> int:
        """Frames of the 128-band log-mel at 100 Hz."""
        return self.codes * MEL_FRAMES

    @property
    def speaker(self) -> str:
        """Who speaks: the voice, with the number of its guise; or the name of a person."""
        return str(self.clip.labels["speaker"])

    @property
    def band_hz(self) -> float:
        """Frequency above which the clip has no sound: 12 kHz for a 24 kHz engine, else about 8 kHz."""
        return float(self.clip.labels["band_hz"])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.codes / CODE_RATE_HZ


# --- plan ---------------------------------------------------------------------------------------------------------


def plan_speech(
    name: str, language: str, count: int, *, split: str, recordings: Recordings, seed: int, held_out: bool = False
) -> list[Clip]:
    """Plan `count` sentences of the world: half in the voices as they are, half in their guises.

    Raises:
        StepAudioError: When no teacher of this language and split is present.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}{language}".encode())])
    found = teachers(language, split, Mandarin(recordings).inventories)
    if not found:
        raise StepAudioError(
            f"plan {count} clips of {language} speech",
            found=f"no voice of the split {split!r}",
            expected="at least one engine, for Mandarin the recordings",
            todo="Install the engines that the README names, or pass --recordings.",
        )
    shares = np.asarray([weight for _, weight in found])
    sentences = grammar.sample_many(
        count, int(rng.integers(2**31)), held_out=held_out, salad_share=0 if held_out else SALAD_SHARE
    )
    plan = []
    for i, sentence in enumerate(sentences):
        voice = found[rng.choice(len(found), p=shares / shares.sum())][0]
        choices = guises(voice)
        guise = choices[0] if rng.random() < AS_IS_SHARE else choices[rng.integers(1, len(choices))]
        labels = {"speaker": guise.speaker(voice), "guise": guise.number, "gender": voice.gender}
        labels["band_hz"] = min(voice.sample_rate, OUTPUT_SAMPLE_RATE_HZ) / 2 * min(guise.formant, 1.0)
        if voice.engine == voices.CONCATENATION:
            labels["band_hz"] = voice.sample_rate / 2  # WORLD moves formants below its own band's end
        text = sentence.text(language)
        plan.append(Clip(f"{name}-{language}-{i:05d}", name, language, text, voice=voice.name, labels=labels))
    return plan


def plan_people(recordings: Recordings, count: int, *, split: str | Collection[str], seed: int) -> list[Clip]:
    """Plan at most `count` clips of people who read, evenly over the people of one split or of several."""
    rng = np.random.default_rng([seed, 12])
    rows = [r for r in recordings.select(dataset=PEOPLE_SETS, split=split, with_text=True) if r.speaker]
    rows = [r for r in rows if 1.5 <= r.duration_s <= MAX_SECONDS]
    by_person: dict[str, list] = {}
    for i in rng.permutation(len(rows)):
        by_person.setdefault(rows[i].speaker, []).append(rows[i])
    turns = sorted(((turn, name) for name, own in by_person.items() for turn in range(len(own))))[:count]
    return [_person_clip(by_person[name][turn]) for turn, name in turns]


def _person_clip(row) -> Clip:
    labels = {"speaker": row.speaker, "guise": 0, "band_hz": INPUT_SAMPLE_RATE_HZ / 2}
    if row.more.get("gender"):
        labels["gender"] = row.more["gender"]
    return Clip(row.id.replace("/", "__"), row.dataset, row.language, row.text, recording=row.id, labels=labels)


def plans(
    recordings: Recordings, *, english: int, mandarin: int, tests: int, people: int, seed: int
) -> dict[str, list[Clip]]:
    """All corpora by the folder below the output folder that they go to; empty plans are left out."""
    made: dict[str, list[Clip]] = {"": [], "test": []}
    for language, count in (("en", english), ("zh", mandarin)):
        if count:
            made[""] += plan_speech("voice", language, count, split=voices.TRAIN, recordings=recordings, seed=seed)
        if count and tests:
            options = {"split": voices.HELD_OUT_VOICE, "recordings": recordings, "held_out": True}
            made["test"] += plan_speech("voice_test", language, tests, seed=HELD_OUT_SEED, **options)
    np.random.default_rng(seed).shuffle(made[""])
    made["people"] = plan_people(recordings, people, split="train", seed=seed)
    made["people_test"] = plan_people(recordings, min(people, tests), split=("dev", "test"), seed=seed)
    return {name: plan for name, plan in made.items() if plan}


# --- build --------------------------------------------------------------------------------------------------------


class _Speaker:
    """What one worker process needs to turn a plan into sound."""

    def __init__(self, recordings: Recordings, cache: Path):
        self.recordings = recordings
        self.rows = {row.id: row for row in recordings.select()}
        self.mandarin = Mandarin(recordings, cache / "units")

    def make(self, clip: Clip) -> tuple[Waveform, tuple] | None:
        """Sound (24 kHz, whole codes) and word times of a clip; None if the voice cannot say it or it is too long."""
        rng = np.random.default_rng(zlib.crc32(clip.id.encode()))
        try:
            sound, words = self._said(clip, rng)
        except StepAudioError as error:
            logger.warning("left out: %s", error)
            return None
        sound, words = trimmed(sound, words)
        return (sound, words) if MIN_SECONDS <= sound.duration_s <= MAX_SECONDS else None

    def _said(self, clip: Clip, rng: np.random.Generator) -> tuple[Waveform, tuple]:
        if clip.recording:
            return self.recordings.load(self.rows[clip.recording]).resample(OUTPUT_SAMPLE_RATE_HZ), ()
        voice = voices.find_voice(clip.voice)
        voice, prosody = dressed(voice, guises(voice)[int(clip.labels["guise"])], rng)
        speech = synthesize(
            clip.text, voice, rng=rng, prosody=prosody, mandarin=self.mandarin, sample_rate_hz=OUTPUT_SAMPLE_RATE_HZ
        )
        return speech.waveform, tuple((w.text, w.start_s, w.end_s) for w in speech.words or ())


def trimmed(sound: Waveform, words: tuple = ()) -> tuple[Waveform, tuple]:
    """Cut the quiet around speech to `LEAD_S` and `TAIL_S`, and fill the end with silence to whole codes.

    Returns the sound and the words, (text, start_s, end_s), moved along with it.
    """
    block = sound.sample_rate_hz // 100
    n_blocks = max(1, len(sound.samples) // block)
    power = np.square(sound.samples[: n_blocks * block]).reshape(n_blocks, -1).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (QUIET_DB / 10))
    rate = sound.sample_rate_hz
    first = max(0, loud[0] * block - round(LEAD_S * rate)) if len(loud) else 0
    last = (loud[-1] + 1) * block + round(TAIL_S * rate) if len(loud) else len(sound.samples)
    samples = sound.samples[first:last]
    samples = np.pad(samples, (0, -len(samples) % (rate // CODE_RATE_HZ)))
    start, end = first / rate, len(samples) / rate
    moved = ((text, *(float(np.clip(t - start, 0.0, end)) for t in times)) for text, *times in words)
    return Waveform(samples, rate), tuple(moved)


def features(sound: Waveform) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure a clip of whole codes at 24 kHz.

    Returns:
        int16 [960 * code], log-mel float16 [4 * code, 128], prompt mel float16 [2 * code, 80].
    """
    n_codes = len(sound.samples) // CODE_SAMPLES
    narrow = sound.resample(INPUT_SAMPLE_RATE_HZ).samples[: n_codes * CODE_SAMPLES_16K]
    mel = log_mel(Waveform(np.ascontiguousarray(narrow), INPUT_SAMPLE_RATE_HZ), pad_samples=0).T
    prompt = prompt_mel(sound).T
    pcm = np.round(np.clip(sound.samples, -1, 1) * 32767).astype(np.int16)
    return pcm, mel.numpy().astype(np.float16), prompt.numpy().astype(np.float16)


_SPEAKER: _Speaker | None = None


def _start_worker(recordings_dir: str | None, cache: str) -> None:
    global _SPEAKER
    import torch

    torch.set_num_threads(1)
    _SPEAKER = _Speaker(Recordings(recordings_dir), Path(cache))


_FILES = ("pcm", "mel128", "mel80")


def _build_shard(folder: str, number: int, clips: list[Clip]) -> int:
    """Make one shard; a shard that is already there is left alone. Returns how many clips it holds."""
    rows_path = Path(folder) / f"shard_{number:04d}.jsonl"
    if rows_path.exists():
        return sum(1 for _ in rows_path.open(encoding="utf-8"))
    rows, parts, at = [], [], 0
    for clip in clips:
        made = _SPEAKER.make(clip)
        if made is None:
            continue
        sound, words = made
        rows.append(VoiceRow(clip, number, at, len(sound.samples) // CODE_SAMPLES, words))
        parts.append(features(sound))
        at += rows[-1].codes
    for suffix, arrays in zip(_FILES, zip(*parts)):
        np.concatenate(arrays).tofile(rows_path.with_suffix(f".{suffix}"))
    partial = rows_path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.rename(rows_path)
    return len(rows)


def build(plan: list[Clip], folder: Path, *, recordings_dir: str | None, cache: Path, workers: int = 1) -> int:
    """Make every clip of `plan` in `folder`, `workers` processes side by side; resumes by shard.

    Returns the number of clips made. Clips that a voice cannot say, or that are too long, are left out.
    """
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    parts = [plan[i : i + SHARD_CLIPS] for i in range(0, len(plan), SHARD_CLIPS)]
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(recordings_dir, str(cache))) as pool:
        jobs = [pool.submit(_build_shard, str(folder), i, part) for i, part in enumerate(parts)]
        return sum(job.result() for job in tqdm(jobs, desc=folder.name, unit="shard"))


# --- read ---------------------------------------------------------------------------------------------------------


class VoiceCorpus:
    """Clips made by `build`; incomplete corpora can be read while they grow.

    It also stands in for `model.training.corpus.Corpus` where only rows and log-mels are asked for.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.rows: list[VoiceRow] = []
        self._views: dict[tuple[int, str], np.ndarray] = {}
        for path in sorted(self.folder.glob("shard_*.jsonl")):
            self.rows += [_row_from_json(line) for line in path.open(encoding="utf-8")]
        if not self.rows:
            raise StepAudioError(
                f"read the voice corpus '{self.folder}'",
                found="no finished shard",
                expected="shard_0000.jsonl and its sound",
                todo="Run: python -m model.training.voice.corpus --out FOLDER.",
            )

    def __len__(self) -> int:
        return len(self.rows)

    def mel(self, row: VoiceRow) -> np.ndarray:
        """Log-mel of a clip at 16 kHz, without any padding, float16 [4 * code, 128]."""
        return self._view(row, "mel128", np.float16, N_MELS * MEL_FRAMES).reshape(-1, N_MELS)

    def prompt_mel(self, row: VoiceRow) -> np.ndarray:
        """Mel of a clip at 24 kHz, float16 [2 * code, 80]; its transpose is what `prompt_mel` returns."""
        return self._view(row, "mel80", np.float16, N_BINS * PROMPT_FRAMES).reshape(-1, N_BINS)

    def samples(self, row: VoiceRow) -> np.ndarray:
        """Samples of a clip at 24 kHz, int16 [960 * code]."""
        return self._view(row, "pcm", np.int16, CODE_SAMPLES).reshape(-1)

    def waveform(self, row: VoiceRow) -> Waveform:
        """Sound of a clip at 24 kHz."""
        return Waveform(self.samples(row).astype(np.float32) / 32767, OUTPUT_SAMPLE_RATE_HZ)

    def split(self) -> tuple[list[VoiceRow], list[VoiceRow]]:
        """Training rows, and the rows of the first shard, kept to watch a training run."""
        first = self.rows[0].shard
        return [r for r in self.rows if r.shard != first], [r for r in self.rows if r.shard == first]

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Everyone who speaks, sorted."""
        return tuple(sorted({row.speaker for row in self.rows}))

    def _view(self, row: VoiceRow, suffix: str, dtype: type, per_code: int) -> np.ndarray:
        key = (row.shard, suffix)
        if key not in self._views:
            path = self.folder / f"shard_{row.shard:04d}.{suffix}"
            self._views[key] = np.memmap(path, dtype=dtype, mode="r").reshape(-1, per_code)
        return self._views[key][row.start : row.start + row.codes]


def training_corpora(folder: Path) -> list[VoiceCorpus]:
    """Open a voice corpus, and the people below it if they are there."""
    return [VoiceCorpus(folder), *_below(folder, "people").values()]


def test_corpora(folder: Path) -> dict[str, VoiceCorpus]:
    """Open what lies below a voice corpus and is never trained on."""
    return _below(folder, "test", "people_test")


def _below(folder: Path, *names: str) -> dict[str, VoiceCorpus]:
    return {name: VoiceCorpus(folder / name) for name in names if any((folder / name).glob("shard_*.jsonl"))}


def _row_from_json(line: str) -> VoiceRow:
    data = json.loads(line)
    row = VoiceRow(**{**data, "clip": Clip(**data["clip"])})
    return replace(row, words=tuple(tuple(w) for w in row.words))


def build_parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/voice"))
    parser.add_argument("--recordings", help="folder of recordings; without it use --mandarin 0")
    parser.add_argument("--cache", type=Path, help="folder of analysed Mandarin units, default OUT/cache")
    parser.add_argument("--english", type=int, default=5000)
    parser.add_argument("--mandarin", type=int, default=3500)
    parser.add_argument("--tests", type=int, default=250, help="held-out clips of each kind")
    parser.add_argument("--people", type=int, default=1400, help="clips of real readers")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def main() -> None:
    """Command line."""
    args = build_parser().parse_args()
    recordings = Recordings(args.recordings)
    made = plans(
        recordings, english=args.english, mandarin=args.mandarin, tests=args.tests, people=args.people, seed=args.seed
    )
    cache = args.cache or args.out / "cache"
    for name, plan in made.items():
        folder = args.out / name
        count = build(plan, folder, recordings_dir=args.recordings, cache=cache, workers=args.workers)
        print(f"{folder}: {count} of {len(plan)} clips made")


if __name__ == "__main__":
    main()
