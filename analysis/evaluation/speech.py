"""How well a model speaks: is it understood by somebody else, and does it sound like the voice it was given?

    held-out texts --speak()--> sound --pocketsphinx--> WER        beside the engine's own sound of the same texts
                                      --speaker network--> is the nearest built-in voice the one that was asked for?

The engine's sound is the test corpus of the voice (`model.training.voice.corpus`): unseen sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from analysis.evaluation.recogniser import listen
from analysis.evaluation.report import Metric, mean_metric
from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.backends.local import LocalBackend
from model.checkpoint import LoadedModel
from model.events import collect
from model.options import GenerationOptions
from model.speaking import speak
from model.tasks.asr import ASR
from model.tasks.base import Example, Score
from model.tasks.tts import TTS
from model.token2wav.voice import Voice
from model.training.voice.corpus import VoiceCorpus, VoiceRow

SENTENCES = 200
SEED = 0


@dataclass(frozen=True, eq=False)
class Spoken:
    """One text, read by the model and by the engine."""

    row: VoiceRow
    voice: str
    sound: Waveform | None
    """What the model made; None if it made nothing."""
    engine: Waveform


def read_all(loaded: LoadedModel, corpus: VoiceCorpus, language: str, limit: int) -> list[Spoken]:
    """Read test sentences of one language, each in the next of the built-in voices."""
    backend, token2wav = LocalBackend(loaded), loaded.token2wav
    voices = list(token2wav.voices.names)
    options = GenerationOptions(**{**vars(TTS.options), "seed": SEED})
    rows = [row for row in corpus.rows if row.clip.language == language][:limit]
    found = []
    for k, row in enumerate(tqdm(rows, desc=f"speaking {language}", unit="sentence")):
        voice = voices[k % len(voices)]
        turn = collect(speak(backend, token2wav, row.clip.text, voice, options))
        found.append(Spoken(row, voice, turn.waveform, corpus.waveform(row)))
    return found


def _error(text: str, heard: str, language: str) -> Score:
    return ASR.score(heard, Example("", (), text, {"language": language}))


def _error_metric(name: str, scores: Sequence[Score], **texts: str) -> Metric:
    return mean_metric(name, [s.value for s in scores], [s.weight for s in scores], of="sentences", **texts)


def again(loaded: LoadedModel, corpus: VoiceCorpus, language: str, limit: int) -> list[Spoken]:
    """What the engine said, in codes and made sound again in the built-in voices: the best that speaking can be."""
    token2wav = loaded.token2wav
    voices = list(token2wav.voices.names)
    rows = [row for row in corpus.rows if row.clip.language == language][:limit]
    found = []
    for k, row in enumerate(tqdm(rows, desc=f"codes to sound {language}", unit="sentence")):
        engine, voice = corpus.waveform(row), voices[k % len(voices)]
        codes = token2wav.maker.tokenizer.encode(engine.resample(INPUT_SAMPLE_RATE_HZ))
        found.append(Spoken(row, voice, token2wav.speak(codes, voice, SEED), engine))
    return found


def understood(spoken: Sequence[Spoken], what: str = "TTS en") -> list[Metric]:
    """WER of the independent recogniser on the model's speech and on the engine's; English only."""
    ours = [_error(s.row.clip.text, listen(s.sound) if s.sound else "", "en") for s in spoken]
    theirs = [_error(s.row.clip.text, listen(s.engine), "en") for s in spoken]
    base = _error_metric(f"{what}, the same recogniser on the engine's own speech, WER", theirs)
    silent = sum(s.sound is None for s in spoken)
    return [
        _error_metric(f"{what}, WER of an independent recogniser (pocketsphinx)", ours,
                      bar=f"<= {base.value + 10:.1f} %", baseline=f"{base.value:.1f} % (engine)",
                      note=f"{silent} without sound" if silent else ""),
        base,
    ]  # fmt: skip


def nearest_voice(sound: Waveform, voices: Sequence[Voice], embed) -> int:
    """Which of the voices a sound is most like, by the cosine of speaker vectors."""
    heard = embed(sound)
    return int(np.argmax([_cosine(heard, voice.speaker) for voice in voices]))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))


def similar(loaded: LoadedModel, spoken: Sequence[Spoken], what: str = "TTS") -> Metric:
    """Share of sentences whose sound is nearer to its own voice than to any other built-in one."""
    maker = loaded.token2wav.maker
    voices = list(loaded.token2wav.voices)
    names = [voice.name for voice in voices]
    right = [
        float(s.sound is not None and names[nearest_voice(s.sound, voices, maker.speaker.embed)] == s.voice)
        for s in spoken
    ]
    return mean_metric(f"{what}, sound nearest to its own among the built-in voices", right, of="sentences",
                        bar=">= 95 %", baseline=f"{100 / len(voices):.1f} % (chance)")  # fmt: skip


def understood_by_nano(loaded: LoadedModel, spoken: Sequence[Spoken], language: str) -> Metric:
    """Error rate of the model's own ear on its own speech: no independent judge, and says so."""
    from model.generation import generate_batch

    scores = []
    for one in tqdm(spoken, desc=f"listening {language}", unit="sentence"):
        heard = ""
        if one.sound is not None:
            asked = ASR.conversation(one.sound)
            heard = generate_batch(loaded.model, loaded.processor, [asked], ASR.options)[0].text
        scores.append(_error(one.row.clip.text, heard, language))
    rate = "WER" if language == "en" else "CER"
    return _error_metric(f"TTS {language}, {rate} of the model's own recognition", scores, note="no independent judge")


def tts(loaded: LoadedModel, folder: Path, limit: int | None = None) -> list[Metric]:
    """All rows of the model card about speaking; none for a model without a voice."""
    if not loaded.has_voice or not len(corpus := VoiceCorpus(folder / "test")):
        return []
    heard = again(loaded, corpus, "en", limit or SENTENCES)
    what = "Codes of an engine's speech made sound again"
    ceiling = [*understood(heard, what), similar(loaded, heard, what)]
    if loaded.info.trained_tasks is not None and TTS.name not in loaded.info.trained_tasks:
        return ceiling
    english = read_all(loaded, corpus, "en", limit or SENTENCES)
    mandarin = read_all(loaded, corpus, "zh", (limit or SENTENCES) // 4)
    own = [understood_by_nano(loaded, part, name) for part, name in ((english, "en"), (mandarin, "zh")) if part]
    return [*ceiling, *understood(english), *own, similar(loaded, english + mandarin)]
