"""Hand-made traces whose answer is known: one head points at every word, the others do not.

The sound is a row of tone bursts, one for each word, so that a screenshot shows where the words are. Nothing here
comes from a model; the model name says so.
"""

import numpy as np

from analysis.attention import WordTime
from analysis.trace import CaptureSpec, TokenTable, Trace, TraceMeta
from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform, n_audio_tokens, split_chunks, token_time_s
from model.events import StageTiming, TextDelta, TurnDone

N_LAYERS, N_HEADS = 3, 4
POINTING = (1, 2)
"""Layer and head that look at the words."""
ENGLISH = ("good", " morning", " I", " would", " like", " a", " coff", "ee", " please", ".")
CHINESE = ("今天", "天气", "很", "好", "。")
PROMPT = (
    *("<|BOT|>", "system\n", "Write", "<|EOT|>", "<|BOT|>", "human\n", "<audio_start>"),
    *("...", "<audio_end>", "<|EOT|>", "<|BOT|>", "assistant\n"),
)
SEGMENTS = ("first token", "system", "human", "audio", "assistant", "reply")


def planted_trace(
    pieces: tuple[str, ...] = ENGLISH, *, seconds: float = 4.2, seed: int = 0, lag_s: float = 0.0
) -> tuple[Trace, list[WordTime]]:
    """Return a trace and its true word times.

    Args:
        pieces: Text tokens of the reply; an end token is added.
        seconds: Length of the sound.
        seed: Seed of everything random.
        lag_s: How far behind the word the pointing head looks.
    """
    rng = np.random.default_rng(seed)
    times = _spread(pieces, seconds, rng)
    sound = _bursts(times, seconds, rng)
    counts = [n_audio_tokens(len(chunk.samples)) for chunk in split_chunks(sound)]
    frame_s = np.array([token_time_s(i, chunk_index=k) for k, count in enumerate(counts) for i in range(count)])
    owner = _owners(pieces)
    tensors = _attention(frame_s.mean(axis=1), [times[k] if k is not None else None for k in owner], rng, lag_s)
    tokens, n_prompt = _table((*pieces, "<|EOT|>"), frame_s, rng)
    meta = TraceMeta(
        model="planted test trace, no model",
        n_prompt=n_prompt,
        layers=tuple(range(N_LAYERS)),
        n_heads=N_HEADS,
        segments=SEGMENTS,
        clips=("planted.wav",),
        capture=CaptureSpec(),
        dtype="float32",
        seed=seed,
        options={"temperature": 0.0},
        created_utc="2026-11-22T12:00:00+00:00",
    )
    ids = tuple(int(i) for i in tokens.ids[n_prompt:])
    events = (
        StageTiming("encode", 0.0, 0.1, 0.1),
        TextDelta("".join(pieces), ids[:-1], 0.4, (-0.5,) * len(pieces)),
        TurnDone("stop", ids, n_prompt, len(ids), 0.5),
    )
    return Trace(meta, tokens, events, {"input_0": sound}, tensors), times


def _owners(pieces: tuple[str, ...]) -> list[int | None]:
    """Return which word each token belongs to; None for punctuation and the end token."""
    owner: list[int | None] = []
    for piece in pieces:
        if not any(map(str.isalnum, piece)):
            owner.append(None)
        elif owner and piece[0] != " " and piece.isascii():
            owner.append(owner[-1])
        else:
            owner.append(max((k for k in owner if k is not None), default=-1) + 1)
    return [*owner, None]


def _spread(pieces: tuple[str, ...], seconds: float, rng: np.random.Generator) -> list[WordTime]:
    """Place the words one after the other, longer words longer, with small gaps."""
    owner = _owners(pieces)
    texts = [
        "".join(p.strip() for p, o in zip(pieces, owner) if o == k)
        for k in range(max(k for k in owner if k is not None) + 1)
    ]
    lengths = np.array([1.5 + len(text) for text in texts]) * rng.uniform(0.8, 1.2, len(texts))
    edges = 0.25 + (seconds - 0.5) * np.concatenate([[0], lengths.cumsum()]) / lengths.sum()
    return [WordTime(text, edges[k] + 0.03, edges[k + 1] - 0.03) for k, text in enumerate(texts)]


def _bursts(times: list[WordTime], seconds: float, rng: np.random.Generator) -> Waveform:
    """Return a tone with overtones for each word, in light noise."""
    t = np.arange(int(seconds * INPUT_SAMPLE_RATE_HZ)) / INPUT_SAMPLE_RATE_HZ
    samples = 0.004 * rng.standard_normal(len(t))
    for word in times:
        inside = (t >= word.start_s) & (t < word.end_s)
        shape = np.sin(np.pi * (t[inside] - word.start_s) / (word.end_s - word.start_s)) ** 0.7
        pitch = rng.uniform(110, 220) * (1 + 0.2 * np.sin(9 * t[inside]))
        phase = 2 * np.pi * np.cumsum(pitch) / INPUT_SAMPLE_RATE_HZ
        voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**0.8 for k in range(1, 14))
        samples[inside] += 0.12 * shape * voice * rng.uniform(0.5, 1)
    return Waveform(np.rint(np.clip(samples, -1, 1) * 32767).astype(np.float32) / 32768, INPUT_SAMPLE_RATE_HZ)


def _attention(centre_s: np.ndarray, words: list[WordTime | None], rng: np.random.Generator, lag_s: float) -> dict:
    """Return the attention tensors: sinks and noise everywhere, a bump on the word in the pointing head."""
    shape = (N_LAYERS, N_HEADS, len(words), len(centre_s))
    audio = (
        rng.dirichlet(np.full(len(centre_s), 0.4), size=shape[:3]) * rng.uniform(0.05, 0.3, shape[:2])[..., None, None]
    )
    audio[0, 1, :, 0] += 0.4  # a head that always looks at the first frame
    for query, word in enumerate(words):
        if word is not None:
            width = (word.end_s - word.start_s) / 4 + 0.02
            bump = np.exp(-0.5 * ((centre_s - lag_s - word.centre_s) / width) ** 2)
            audio[*POINTING, query] = (
                0.06 * audio[*POINTING, query] / audio[*POINTING, query].sum() + 0.6 * bump / bump.sum()
            )
    rest = rng.dirichlet(np.ones(len(SEGMENTS) - 1), size=shape[:3]) * (1 - audio.sum(axis=-1, keepdims=True))
    where = SEGMENTS.index("audio")
    segments = np.concatenate([rest[..., :where], audio.sum(axis=-1, keepdims=True), rest[..., where:]], axis=-1)
    return {"attention.audio": audio.astype(np.float16), "attention.segments": segments.astype(np.float16)}


def _table(reply: tuple[str, ...], frame_s: np.ndarray, rng: np.random.Generator) -> tuple[TokenTable, int]:
    """Return the token table of prompt and reply, and the length of the prompt."""
    place, n_frames = PROMPT.index("..."), len(frame_s)
    text = (*PROMPT[:place], *("<audio_patch>",) * n_frames, *PROMPT[place + 1 :], *reply)
    n, n_prompt = len(text), len(text) - len(reply)
    frames = slice(place, place + n_frames)
    kind = np.array(["special" if piece.startswith("<") else "text" for piece in text], dtype=object)
    kind[frames] = "audio_in"
    clip, segment = np.full(n, -1), np.full(n, SEGMENTS.index("human"))
    clip[frames], segment[frames] = 0, SEGMENTS.index("audio")
    segment[1:4], segment[n_prompt - 2 :], segment[n_prompt:], segment[0] = 1, 4, 5, 0
    start_s, end_s = np.full(n, np.nan), np.full(n, np.nan)
    start_s[frames], end_s[frames] = frame_s.T
    logprob, entropy = np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32)
    logprob[n_prompt:] = -rng.exponential(0.25, len(reply))
    entropy[n_prompt:] = rng.exponential(0.5, len(reply))
    turn = np.repeat([0, 1, 2], [4, n_prompt - 6, len(reply) + 2])
    ids = np.array([sum(map(ord, piece)) for piece in text])
    return TokenTable(ids, text, tuple(kind), turn, start_s, end_s, logprob, entropy, segment, clip), n_prompt
