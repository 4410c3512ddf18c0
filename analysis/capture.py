"""Measure a finished turn by reading it again: one teacher-forced pass, only the wanted attention rows.

    conversation + reply ids --(1) lay out--> token table --(2) budget--> refuse what would not fit
        --(3) one forward pass, model as it is, hooks on--> rows reduced to audio frames and segments, layer by layer;
                                                            residuals at audio positions and reply rows, if wanted
        --(4) log-softmax of the reply's logits--> log-prob and entropy of each reply token --> Trace

Any backend may have produced the reply: given the same ids, a causal decoder attends in this pass exactly as it did
while decoding. Nothing of the model is changed, and nothing of the full query x key square is ever kept.

Which row is "the attention of" a reply token is a choice, `CaptureSpec.offset`: by default the row that predicted it.

    position    n_prompt-1     n_prompt      n_prompt+1
    token       <header>         "good"        "day"
    row         predicts good  predicts day  ...              <- offset "predicts"
                               reads good    reads day        <- offset "reads"
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.hooks import Site, attention_rows, decoder_of, recorded
from analysis.trace import Alternatives, CaptureSpec, TokenTable, Trace, TraceMeta, on_grid
from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform, token_time_s
from model.chat import THINK_END, THINK_START, Audio, Conversation
from model.errors import TraceError
from model.events import AudioDelta, Event, SoundMark
from model.tokens import Kind

FIRST, REPLY, THOUGHT, CODES = "first token", "reply", "thought", "codes"
"""Segments besides the spans of the prompt (system, human, audio, assistant ...). Every trace has the first two: the
first token is kept apart because decoders park unused attention there, and the reply is the answer. Where the reply
also thinks or speaks, its thought and its speech codes are segments of their own."""
LOGIT_ROWS = 64
"""Reply positions whose full-vocabulary distribution is worked out at a time."""
LONGEST_CHARACTER = 4
"""Tokens that one character of byte-level BPE can be spread over."""


def capture_trace(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int],
    *,
    events: Iterable[Event] = (),
    spec: CaptureSpec | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    backend: str = "local",
    audio_features: list[Tensor] | None = None,
    on_layer: Callable[[int], None] | None = None,
) -> Trace:
    """Measure one finished turn.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`, `.info`.
        conversation: What the model was given; its last turn is the one it continued.
        reply_ids: What it answered, exactly as generated (`Turn.ids`).
        events: What happened in the turn; pieces of sound become marks, their sound goes to `audio["output"]`.
        spec: What to measure; by default all layers and heads, rows that predict.
        options: Generation options as plain values, for the record.
        seed: Seed of the generation, for the record.
        backend: Who generated the reply, for the record.
        audio_features: Clips as `model.get_audio_features` encoded them, to skip the encoder.
        on_layer: Called with the number of each layer that is done; an exception raised there stops the pass.

    Returns:
        The trace. The model is as it was before, whatever happens.

    Raises:
        TraceError: If the measurement would be larger than `spec.max_megabytes`, or asks for layers that are not there.
    """
    spec, events = spec or CaptureSpec(), tuple(events)
    model, processor, info = loaded.model, loaded.processor, loaded.info
    prompt = processor.encode(conversation)
    layout = lay_out(prompt, reply_ids, processor)
    layers = tuple(range(len(decoder_of(model).layers))) if spec.layers is None else spec.layers
    n_heads = 1 if spec.heads == "mean" else decoder_of(model).config.num_attention_heads
    width = decoder_of(model).config.hidden_size if spec.residuals else 0
    _check_budget(spec, layout, layers=len(layers), heads=n_heads, width=width)

    inputs = {"audio_features": audio_features} if audio_features is not None else sound_inputs(processor, prompt)
    tensors, logprob, entropy, ids = _measure(model, layout, inputs, spec, layers, on_layer)

    clips = [part for message in conversation for part in message.parts if isinstance(part, Audio)]
    audio = {f"input_{k}": on_grid(clip.waveform.resample(INPUT_SAMPLE_RATE_HZ)) for k, clip in enumerate(clips)}
    meta = TraceMeta(
        model=str(info.name),
        revision=str(info.revision or ""),
        dtype=str(info.dtype).removeprefix("torch."),
        n_prompt=layout.n_prompt,
        layers=layers,
        n_heads=n_heads,
        segments=layout.segment_names,
        width=width,
        clips=tuple(clip.name for clip in clips),
        capture=spec,
        alignment_heads=getattr(model.config, "alignment_heads", None) or (),
        backend=backend,
        seed=seed,
        options=dict(options or {}),
        versions=_versions(),
        audio_sha256={name: hashlib.sha256(sound.samples.tobytes()).hexdigest() for name, sound in audio.items()},
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Trace(meta, layout.table(logprob, entropy), _quiet(events), audio | _spoken(events), tensors,
                 _alternatives(processor, *ids) if spec.alternatives else None)  # fmt: skip


# --- (1) lay out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything is in prompt + reply; the token table without what must be measured."""

    ids: np.ndarray
    """int64 [token]."""
    n_prompt: int
    segment: np.ndarray
    """Index into `segment_names`, int32 [token]."""
    segment_names: tuple[str, ...]
    clip: np.ndarray
    """Clip of each audio position, int32 [token]; -1 elsewhere."""
    start_s: np.ndarray
    """Start of each audio position inside its clip, float64 [token]; NaN elsewhere."""
    end_s: np.ndarray
    text: tuple[str, ...]
    kind: tuple[str, ...]
    turn: np.ndarray
    """Message each token belongs to, int32 [token]."""

    @property
    def frames(self) -> np.ndarray:
        """Places of the audio positions, int64 [frame]."""
        return np.flatnonzero(self.clip >= 0)

    def table(self, logprob: np.ndarray, entropy: np.ndarray) -> TokenTable:
        """Return the token table, given log-probs and entropies of the reply, [query] each."""
        unmeasured = np.full(self.n_prompt, np.nan, dtype=np.float32)
        return TokenTable(
            ids=self.ids,
            text=self.text,
            kind=self.kind,
            turn=self.turn,
            start_s=self.start_s,
            end_s=self.end_s,
            logprob=np.concatenate([unmeasured, logprob]),
            entropy=np.concatenate([unmeasured, entropy]),
            segment=self.segment,
            clip=self.clip,
        )


def lay_out(prompt: Any, reply_ids: Sequence[int], processor: Any) -> Layout:
    """Say of every position of prompt + reply what it is.

    Args:
        prompt: What `processor.encode` returned: `ids` and `spans`.
        reply_ids: Generated ids.
        processor: Gives the tokenizer and the control ids.
    """
    ids = np.array([*prompt.ids, *reply_ids], dtype=np.int64)
    n, token_ids = len(ids), processor.ids
    clip, start_s, end_s = np.full(n, -1, np.int32), np.full(n, np.nan), np.full(n, np.nan)
    for span in prompt.spans:
        if span.kind == "audio":
            places = span.start + np.flatnonzero(ids[span.start : span.end] == token_ids.audio_patch)
            times = np.array([token_time_s(i) for i in range(len(places))]).reshape(-1, 2) + span.start_s
            clip[places], start_s[places], end_s[places] = span.clip_index, times[:, 0], times[:, 1]
    text, kind = token_texts(processor, ids.tolist()), [token_ids.kind(int(i)).value for i in ids]
    parts = _reply_parts(text, kind, len(prompt.ids))
    thought = [len(prompt.ids) + place for place, part in enumerate(parts) if part == THOUGHT]
    for place in thought:
        kind[place] = THOUGHT if kind[place] == Kind.TEXT.value else kind[place]
    segment, names = _segments(prompt.spans, parts)
    return Layout(
        ids=ids,
        n_prompt=len(prompt.ids),
        segment=segment,
        segment_names=names,
        clip=clip,
        start_s=start_s,
        end_s=end_s,
        text=text,
        kind=tuple(kind),
        turn=_turns(prompt.spans, n),
    )


def _segments(spans: Sequence[Any], parts: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give every token one segment: the kind of its span, its part of the reply, or the first token on its own."""
    names = tuple(dict.fromkeys([FIRST, *(span.kind for span in spans), REPLY, *parts]))
    n_prompt = max((span.end for span in spans), default=0)
    segment = np.array([0] * n_prompt + [names.index(part) for part in parts], np.int32)
    for span in spans:
        segment[span.start : span.end] = names.index(span.kind)
    segment[:1] = names.index(FIRST)
    return segment, names


def _reply_parts(text: Sequence[str], kind: Sequence[str], n_prompt: int) -> list[str]:
    """Say of each reply token whether it belongs to the thought (tags included), the speech codes or the answer."""
    prompt, reply = "".join(text[:n_prompt]), "".join(text[n_prompt:])
    inside = prompt.rfind(THINK_START) > prompt.rfind(THINK_END)
    closed = reply.find(THINK_END)
    until = 0  # characters of the reply that are thought
    if inside or reply.lstrip().startswith(THINK_START):
        until = len(reply) if closed < 0 else closed + len(THINK_END)
    starts = np.cumsum([0, *map(len, text[n_prompt:])])[:-1]
    parts = [THOUGHT if start < until else REPLY for start in starts]
    return [CODES if one == Kind.AUDIO_OUT.value else part for part, one in zip(parts, kind[n_prompt:])]


def _turns(spans: Sequence[Any], n: int) -> np.ndarray:
    """Return the message each token belongs to; the reply continues the last one."""
    turn = np.full(n, max((span.message_index for span in spans), default=0), np.int32)
    for span in spans:
        turn[span.start : span.end] = span.message_index
    return turn


def token_texts(processor: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Return what each token adds to the text; joined they are the whole text, control tokens by name.

    A character that is spread over several tokens stands at its last one, the others get an empty text.
    """
    texts: list[str] = []
    waiting: list[int] = []
    for place, token_id in enumerate(ids):
        waiting.append(int(token_id))
        text = processor.decode(waiting, keep_special=True)
        is_last = place + 1 == len(ids) or processor.ids.kind(int(ids[place + 1])) is not Kind.TEXT
        incomplete = text.endswith("\ufffd") and not is_last and len(waiting) < LONGEST_CHARACTER
        texts.append("" if incomplete else text)
        if not incomplete:
            waiting = []
    return tuple(texts)


# --- (2) budget ---------------------------------------------------------------------------------------------------


def predicted_megabytes(
    layers: int,
    heads: int,
    queries: int,
    columns: int,
    *,
    residual_rows: int = 0,
    width: int = 0,
    residual_bytes: int = 2,
) -> float:
    """Return the size of the kept arrays in megabytes.

    Attention is float16 [layer, head, query, frame + segment]; residuals, if any, are [layer, row, width] with
    `residual_bytes` for each number, where the rows are the frames and the queries.
    """
    return layers * (2 * heads * queries * columns + residual_bytes * residual_rows * width) / 1e6


def _check_budget(spec: CaptureSpec, layout: Layout, *, layers: int, heads: int, width: int) -> None:
    queries, columns = len(layout.ids) - layout.n_prompt, len(layout.frames) + len(layout.segment_names)
    rows, n_bytes = queries + len(layout.frames), 4 if spec.residuals == "float32" else 2
    megabytes = predicted_megabytes(
        layers, heads, queries, columns, residual_rows=rows, width=width, residual_bytes=n_bytes
    )
    if megabytes > spec.max_megabytes:
        kept = f"{layers} layers, {heads} heads, {queries} tokens, {columns} columns"
        kept += f", residuals of {rows} rows x {width}" if width else ""
        mean = predicted_megabytes(layers, 1, queries, columns)
        without = "heads='mean', residuals=None" if width else "heads='mean'"
        raise TraceError(
            "capture this turn",
            found=f"{megabytes:,.0f} MB to keep ({kept})",
            expected=f"at most {spec.max_megabytes:,.0f} MB",
            todo=f"Use CaptureSpec({without}), which takes {mean:,.1f} MB, or name fewer layers",
        )


# --- (3, 4) measure -----------------------------------------------------------------------------------------------


def _measure(
    model: nn.Module,
    layout: Layout,
    inputs: Mapping[str, Any],
    spec: CaptureSpec,
    layers: Sequence[int],
    on_layer: Callable[[int], None] | None,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Run the model once; return the kept rows, log-prob and entropy of each reply token, and its likeliest ids."""
    device = next(model.parameters()).device
    ids = torch.as_tensor(layout.ids, device=device)[None]
    before = torch.arange(layout.n_prompt - 1, len(layout.ids) - 1)
    queries = before if spec.offset == "predicts" else before + 1
    reduce = _reducers(layout, heads=spec.heads)
    sites, places = _residual_places(layout, queries, spec, layers)
    with evaluating(model), torch.inference_mode():
        with (
            attention_rows(model, queries, reduce, layers=layers, on_layer=on_layer) as rows,
            recorded(model, sites, lambda residual: _rounded(residual[0, places.to(device)], spec)) as residuals,
        ):
            keep = before.to(device)
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=keep, **inputs).logits[0]
        logprob, entropy = surprise(logits, ids[0, layout.n_prompt :])
        best = likeliest(logits, spec.alternatives)
    tensors = {f"attention.{name}": rows.stacked(name) for name in reduce}
    if sites:
        kept, n_frames = torch.stack([residuals[site] for site in sites]).numpy(), len(layout.frames)
        tensors |= {"resid_post.audio": kept[:, :n_frames], "resid_post.reply": kept[:, n_frames:]}
    return tensors, logprob, entropy, best


def _residual_places(
    layout: Layout, queries: Tensor, spec: CaptureSpec, layers: Sequence[int]
) -> tuple[list[Site], Tensor]:
    """Return where residuals are kept: the sites, none if they are not wanted, and the positions, frames first."""
    sites = [Site("resid_post", layer) for layer in layers] if spec.residuals else []
    return sites, torch.cat([torch.as_tensor(layout.frames), queries])


def _rounded(residual: Tensor, spec: CaptureSpec) -> Tensor:
    """Return residuals on the CPU in the wanted precision; large models have some that float16 cannot hold."""
    rounded = residual.to("cpu", getattr(torch, spec.residuals))
    if not torch.isfinite(rounded).all():
        raise TraceError(
            "keep the residual stream",
            found=f"values up to {float(residual.abs().max()):.3g} in it",
            expected=f"values that {spec.residuals} can hold",
            todo="Use CaptureSpec(residuals='float32')",
        )
    return rounded


def _reducers(layout: Layout, *, heads: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Keep of each row its audio frames, and its sum over each segment."""
    frames = torch.as_tensor(layout.frames)
    members = torch.nn.functional.one_hot(torch.as_tensor(layout.segment).long(), len(layout.segment_names)).float()

    def over_heads(rows: Tensor) -> Tensor:
        return rows.mean(dim=0, keepdim=True) if heads == "mean" else rows

    return {
        "audio": lambda rows: over_heads(rows[..., frames.to(rows.device)]),
        "segments": lambda rows: over_heads(rows @ members.to(rows.device)),
    }


def surprise(logits: Tensor, ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return natural log-probability of the ids and entropy in nat, float32 [query] each.

    Args:
        logits: [query, vocabulary], any dtype.
        ids: What came, [query].
    """
    logprob, entropy = [], []
    for block, wanted in zip(logits.split(LOGIT_ROWS), ids.to(logits.device).split(LOGIT_ROWS), strict=True):
        log_p = block.float().log_softmax(dim=-1)
        logprob.append(log_p.gather(1, wanted[:, None])[:, 0])
        entropy.append(torch.special.entr(log_p.exp()).sum(dim=-1))
    return torch.cat(logprob).cpu().numpy(), torch.cat(entropy).cpu().numpy()


def likeliest(logits: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k likeliest ids, best first, int64 [query, k], and their natural log-probabilities, float32.

    Args:
        logits: [query, vocabulary], any dtype.
        k: How many; all of the vocabulary where it is smaller.
    """
    k = min(k, logits.shape[-1])
    blocks = [block.float().log_softmax(dim=-1).topk(k, dim=-1) for block in logits.split(LOGIT_ROWS)]
    ids, logprob = (torch.cat(part).cpu().numpy() for part in zip(*((block.indices, block.values) for block in blocks)))
    return ids, logprob


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and give every module its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


# --- records ------------------------------------------------------------------------------------------------------


def sound_inputs(processor: Any, prompt: Any) -> dict[str, Tensor]:
    """Return the clips of an encoded prompt as the model wants them."""
    batch = processor.collate([prompt])
    return {name: batch[name] for name in ("wavs", "wav_lens") if name in batch}


def _alternatives(processor: Any, ids: np.ndarray, logprob: np.ndarray) -> Alternatives:
    """Spell out the likeliest ids, each on its own."""
    spelled = {int(i): processor.decode([int(i)], keep_special=True) for i in np.unique(ids)}
    return Alternatives(ids, tuple(tuple(spelled[int(i)] for i in row) for row in ids), logprob)


def _spoken(events: Iterable[Event]) -> dict[str, Waveform]:
    """Return the sound of the reply as `output`, if it spoke."""
    sounds = [event.waveform for event in events if isinstance(event, AudioDelta)]
    if not sounds:
        return {}
    return {"output": Waveform(np.concatenate([sound.samples for sound in sounds]), sounds[0].sample_rate_hz)}


def _quiet(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return the events with a mark in place of each piece of sound."""
    quiet, at_s = [], 0.0
    for event in events:
        if isinstance(event, AudioDelta):
            start_s, at_s = at_s, at_s + event.waveform.duration_s
            event = SoundMark(start_s, at_s, event.t_s)
        quiet.append(event)
    return tuple(quiet)


def _versions() -> dict[str, str]:
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
