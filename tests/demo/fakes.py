"""A model that replays a script, and traces made by hand: the app without weights."""

import functools
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.trace import TokenTable, Trace, TraceMeta
from demo.settings import Settings
from demo.speech import Speech
from demo.workbench import Engine, ModelFacts, Progress, Workbench
from model.audio import Waveform, n_audio_tokens, token_time_s
from model.backends.scripted import ScriptedBackend
from model.errors import AudioError
from model.events import AudioCodesDelta, Event, StageTiming, TextDelta, TurnDone

WORDS = ("turn", " on", " the", " kitchen", " light", " and", " play", " music")
N_LAYERS, N_HEADS = 3, 4


def tone(seconds: float, hz: float = 220.0, rate: int = 16_000) -> Waveform:
    """Return a gliding tone that is neither silent nor clipped."""
    time_s = np.arange(round(seconds * rate)) / rate
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 1.7 * time_s)
    samples = 0.4 * swell * np.sin(2 * np.pi * hz * time_s * (1 + 0.15 * np.sin(time_s)))
    return Waveform(samples.astype(np.float32), rate)


def script(words: Sequence[str] = WORDS) -> list[Event]:
    """Return the events of a turn that says `words`, one token each."""
    events: list[Event] = [
        StageTiming("prepare", 0.0, 0.01, 0.01),
        StageTiming("encode", 0.01, 0.06, 0.06),
        StageTiming("prefill", 0.06, 0.1, 0.1),
    ]
    events += [TextDelta(word, (100 + i,), 0.1 + 0.03 * i, (-0.1 * i,)) for i, word in enumerate(words)]
    end_s = 0.1 + 0.03 * len(words)
    ids = (*(100 + i for i in range(len(words))), 2)
    return [*events, StageTiming("decode", 0.1, end_s, end_s), TurnDone("stop", ids, 20, len(ids), end_s)]


def trace_of(waveform: Waveform, words: Sequence[str] = WORDS, name: str = "clip.wav") -> Trace:
    """Return a trace whose attention walks along the diagonal: word i looks at its share of the sound."""
    n_frames = n_audio_tokens(len(waveform.samples))
    prompt = ["<|BOT|>", "system", *["<audio_patch>"] * n_frames, "<|EOT|>"]
    reply = [*words, "<|EOT|>"]
    n_prompt, n = len(prompt), len(prompt) + len(reply)
    audio = slice(2, 2 + n_frames)
    kind = np.array(["special"] * n, dtype=object)
    kind[audio], kind[n_prompt : n - 1] = "audio_in", "text"
    start, end = np.full(n, np.nan), np.full(n, np.nan)
    start[audio], end[audio] = np.array([token_time_s(i) for i in range(n_frames)]).T
    clip, segment = np.full(n, -1), np.zeros(n, int)
    clip[audio], segment[audio], segment[n_prompt:] = 0, 1, 2
    logprob = np.full(n, np.nan)
    logprob[n_prompt:] = -np.linspace(0.01, 2.0, len(reply))
    tokens = TokenTable(
        ids=np.arange(n), text=[*prompt, *reply], kind=list(kind), turn=(np.arange(n) >= n_prompt).astype(int),
        start_s=start, end_s=end, logprob=logprob, entropy=-logprob * 1.3, segment=segment, clip=clip,
    )  # fmt: skip
    meta = TraceMeta(
        model="script", n_prompt=n_prompt, layers=tuple(range(N_LAYERS)), n_heads=N_HEADS,
        segments=("prompt", "sound", "answer"), clips=(name,), created_utc="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    pattern = _diagonal(len(reply), n_frames)
    segments = np.stack([0.4 * np.ones_like(pattern[..., 0]), pattern.sum(-1), np.zeros_like(pattern[..., 0])], -1)
    segments[..., 2] = 1 - segments[..., :2].sum(-1)
    tensors = {"attention.audio": pattern.astype(np.float16), "attention.segments": segments.astype(np.float32)}
    return Trace(meta, tokens, tuple(script(words)), {"input_0": waveform}, tensors)


def _diagonal(n_queries: int, n_frames: int) -> np.ndarray:
    """Return attention [layer, head, query, frame] that sums to 0.5 over frames; later layers are sharper."""
    centre = (np.arange(n_queries) + 0.5) / n_queries * n_frames
    frame = np.arange(n_frames)
    width = np.array([[1.5 + 2 * (N_LAYERS - layer) + head for head in range(N_HEADS)] for layer in range(N_LAYERS)])
    near = np.exp(-0.5 * ((frame - centre[:, None]) / width[..., None, None]) ** 2)
    return 0.5 * near / near.sum(-1, keepdims=True)


def replay_engine(
    events: Sequence[Event] | None = None, *, pause_s: float = 0.0, capture_error: Exception | None = None
) -> Engine:
    """Return an engine that replays and captures by hand."""

    def capture(conversation, reply_ids, events) -> Trace:
        if capture_error is not None:
            raise capture_error
        part = next(part for message in conversation for part in message.parts if hasattr(part, "waveform"))
        return trace_of(part.waveform, name=part.name)

    backend = ScriptedBackend(script() if events is None else events, pause_s=pause_s)
    facts = ModelFacts("script", device="cpu", is_scripted=True, capabilities=("text",), card="# A card\n\nNumbers.")
    return Engine(backend, capture, facts)


def ready_workbench(engine: Engine | None = None, settings: Settings | None = None, **engine_options) -> Workbench:
    """Return a workbench whose engine loads at once."""
    engine = engine or replay_engine(**engine_options)

    def load(settings: Settings, progress: Progress) -> Engine:
        progress("weights", 0.5)
        return engine

    workbench = Workbench(settings or Settings(lang="en"), load)
    workbench.start()
    deadline = time.monotonic() + 5
    while workbench.loading.phase == "loading" and time.monotonic() < deadline:
        time.sleep(0.005)
    return workbench


# --- speaking -------------------------------------------------------------------------------------

SPOKEN_WORDS = ("turn", " on", " the", " kit", "chen", " light")
"""What a scripted model writes beside its codes."""


def spoken_script(n_codes: int = 60, words: Sequence[str] = SPOKEN_WORDS, seed: int = 0) -> list[Event]:
    """Return the events of a turn that writes `n_codes` codes of a codebook of 729, a word before every four."""
    codes = np.random.default_rng([seed, 78]).integers(0, 729, n_codes).tolist()
    events: list[Event] = [StageTiming("prefill", 0.0, 0.001, 0.001)]
    for group, place in enumerate(range(0, n_codes, 4)):
        t_s = 0.001 + 0.001 * group
        if group < len(words):
            events.append(TextDelta(words[group], (100 + group,), t_s, (-0.1,), spoken=True))
        own = tuple(codes[place : place + 4])
        events.append(AudioCodesDelta(own, tuple(900 + code for code in own), t_s))
    ids = tuple(i for event in events for i in getattr(event, "ids", ()))
    return [*events, TurnDone("stop", (*ids, 2), 12, len(ids) + 1, t_s)]


class Tones:
    """Stands for the networks of a voice: a code is 40 ms of a tone, whose pitch the voice decides."""

    block = 25

    def stream(self, voice: str, seed: int = 0, **options) -> "Tones":
        """Begin an utterance; a copy remembers it."""
        begun = Tones()
        begun.step, begun.waiting, begun.n_said = {"Grace": 1.0, "Lan": 1.5}[voice] + 0.1 * seed, [], 0
        return begun

    @property
    def codes_needed(self) -> int:
        """Count the codes until the next sound."""
        return self.block - len(self.waiting)

    def push(self, codes: Sequence[int]) -> Waveform | None:
        """Take codes; whole blocks come back as sound."""
        self.waiting += codes
        return self.finish() if len(self.waiting) >= self.block else None

    def finish(self) -> Waveform | None:
        """Return the sound of all codes that wait, if there are any."""
        if not self.waiting:
            return None
        hz = np.repeat([200.0 + code for code in self.waiting], 960)
        time_s = (self.n_said + np.arange(len(hz))) / 24_000
        self.n_said, self.waiting = self.n_said + len(hz), []
        return Waveform((0.3 * np.sin(2 * np.pi * self.step * hz * time_s)).astype(np.float32), 24_000)

    def make_voice(self, path: str, **words) -> None:
        """Refuse; only networks can."""
        raise AudioError("make a voice", found="a scripted model", expected="a real one", todo="Load one.")


def speaking_engine(
    events: Sequence[Event] | None = None, *, token2wav=None, pause_s: float = 0.0, **speech_options
) -> Engine:
    """Return an engine whose codes are scripted; without a `token2wav` small random networks make its sound."""
    from model.token2wav.voices import VoiceCard

    def load():
        if token2wav is not None:
            return token2wav
        from model.token2wav.voice import Voices
        from tests.small_voice import build_token2wav, build_voice

        return build_token2wav(voices=Voices(voices=[build_voice(0).renamed("Grace"), build_voice(1).renamed("Lan")]))

    cards = (
        VoiceCard("Grace", "hello", "Woman, clear\n女声，清晰", "CC0", 3.2),
        VoiceCard("Lan", "你好", "Woman, bright\n女声，明亮", "CC0", 3.4),
    )
    engine = replay_engine(spoken_script() if events is None else events, pause_s=pause_s)
    speech = Speech(functools.cache(load), **{"cards": cards, "makes_voices": True, "n_codes": 729, **speech_options})
    return replace(engine, speech=speech)
