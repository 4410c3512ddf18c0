"""Prompt in, events out: the sound is encoded once, then one cached decoder step per new id.

    prepare   conversation -> ids, mels              (processor)
    encode    mels -> features                       once per turn
    prefill   prompt -> keys, values, first logits   once per turn
    decode    id -> logits -> next id                cancellable after every id

`stream` yields what happens while it happens; `generate_batch` is the same loop over several prompts at once. Both
share one decoder and one sampler; `model/reply.py` turns the ids into events. No prompts, tasks or sound output here.

Source: the official wrapper for what ends a reply, except that it cuts the last id; Holtzman et al. 2020 (top-p);
Keskar et al. 2019 (repetition penalty).
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model.chat import Conversation
from model.events import Event, Turn, collect
from model.options import GenerationOptions
from model.processing_step_audio_2 import EncodedPrompt, StepAudio2Processor, pad_mels
from model.reply import Choice, Clock, Reply

__all__ = ["CachedDecoder", "GenerationOptions", "Sampler", "encode_sound", "generate_batch", "stream"]

CLIPS_PER_CALL = 8
"""Pieces of 25 s encoded between two looks at the cancel flag."""


def stream(
    model: Any,
    processor: StepAudio2Processor,
    conversation: Conversation | Sequence[Any],
    options: GenerationOptions | None = None,
    *,
    cancel: threading.Event | None = None,
) -> Iterator[Event]:
    """Generate one reply.

    Args:
        model: A `StepAudio2ForCausalLM`.
        processor: Its processor.
        conversation: Messages, or the official list. If the last turn is closed, an assistant turn is opened as
            the options say (`model.chat.with_reply`).
        options: Defaults to greedy, 256 ids.
        cancel: Looked at after every id and between pieces of sound; when set, the reply ends there.

    Yields:
        Timings and deltas; `TurnDone` always comes last. If something fails, `TurnDone("error")` with what was
        generated so far is followed by the exception itself.
    """
    options, cancel = options or GenerationOptions(), cancel or threading.Event()
    clock, reply = Clock(), Reply(processor, options)
    try:
        yield from _turn(model, reply, conversation, clock, cancel)
    except Exception as error:
        yield reply.done(clock, "error", message=str(error))
        raise


def generate_batch(
    model: Any,
    processor: StepAudio2Processor,
    conversations: Sequence[Conversation | Sequence[Any]],
    options: GenerationOptions | None = None,
    *,
    cancel: threading.Event | None = None,
) -> list[Turn]:
    """Generate one reply for each conversation, all rows of one left-padded batch.

    Every row gets the ids that `stream` would give it alone: its sound is encoded apart from the others (padding to a
    longer neighbour would change its last positions a little), and it draws from a generator of its own.
    """
    options, cancel = options or GenerationOptions(), cancel or threading.Event()
    clock, replies = Clock(), [Reply(processor, options) for _ in conversations]
    if not replies:
        return []
    prompts = [r.prepare(c, model) for r, c in zip(replies, conversations, strict=True)]
    shared = [clock.stage("prepare")]
    features = [clip for prompt in prompts for clip in encode_sound(model, prompt, cancel)]
    shared.append(clock.stage("encode"))
    events: list[list[Event]] = [list(shared) for _ in replies]
    for step in _decode(model, processor, prompts, features, replies, clock, cancel):
        for row, event in step:
            events[row].append(event)
    return [collect(row) for row in events]


# --- one turn -----------------------------------------------------------------------------------


def _turn(model: Any, reply: Reply, conversation: Any, clock: Clock, cancel: threading.Event) -> Iterator[Event]:
    """All events of a turn."""
    prompt = reply.prepare(conversation, model)
    yield clock.stage("prepare")
    features = encode_sound(model, prompt, cancel)
    if prompt.mels:
        yield clock.stage("encode")
    for step in _decode(model, reply.processor, [prompt], features, [reply], clock, cancel):
        yield from (event for _, event in step)


def _decode(
    model: Any,
    processor: StepAudio2Processor,
    prompts: Sequence[EncodedPrompt],
    features: list[Tensor],
    replies: Sequence[Reply],
    clock: Clock,
    cancel: threading.Event,
) -> Iterator[list[tuple[int, Event]]]:
    """Prefill, then decode until every row has ended; yields (row, event) pairs, one list per step."""
    rows = range(len(prompts))
    if not cancel.is_set():
        decoder = CachedDecoder(model, processor, prompts, features)
        samplers = [Sampler(reply.options, prompt.ids) for reply, prompt in zip(replies, prompts, strict=True)]
        logits = decoder.logits
        timing = clock.stage("prefill")
        yield [(row, timing) for row in rows]
    while not cancel.is_set():
        choices = [None if replies[row].reason else samplers[row].pick(logits[row]) for row in rows]
        step = [(row, e) for row in rows if choices[row] for e in replies[row].add(choices[row], clock)]
        ended = [row for row in rows if choices[row] and replies[row].reason]
        yield step + [(row, e) for row in ended for e in replies[row].end(clock)]
        if all(reply.reason for reply in replies):
            return
        if not cancel.is_set():
            logits = decoder.step([choice.id if choice else processor.ids.pad for choice in choices])
    left = [row for row in rows if not replies[row].reason]
    yield [(row, e) for row in left for e in replies[row].end(clock, "cancelled")]


# --- network ------------------------------------------------------------------------------------


@torch.inference_mode()
def encode_sound(model: Any, prompt: EncodedPrompt, cancel: threading.Event | None = None) -> list[Tensor]:
    """Encode the clips of one prompt; [n_positions, hidden] each, and fewer of them if cancelled on the way."""
    if not prompt.mels:
        return []
    wavs, lens = pad_mels(prompt.mels), torch.tensor(prompt.wav_lens, dtype=torch.int32)
    features: list[Tensor] = []
    for some, some_lens in zip(wavs.split(CLIPS_PER_CALL), lens.split(CLIPS_PER_CALL), strict=True):
        if cancel is not None and cancel.is_set():
            break
        features += model.get_audio_features(some, some_lens)
    return features


class CachedDecoder:
    """The keys and values of a batch of prompts, and the logits after the newest id of each row."""

    def __init__(
        self, model: Any, processor: StepAudio2Processor, prompts: Sequence[EncodedPrompt], features: list[Tensor]
    ) -> None:
        self.model = model
        bare = [EncodedPrompt(prompt.ids, [], [], ()) for prompt in prompts]
        batch = processor.collate(bare, padding="left").to(model.device)
        # A row without padding needs no mask, and attention without a mask is faster.
        self._mask = batch["attention_mask"] if len(prompts) > 1 else None
        self.logits = self._forward(batch["input_ids"], None, audio_features=features or None)

    def step(self, ids: Sequence[int]) -> Tensor:
        """Append one id to every row; logits [row, vocabulary] after it."""
        if self._mask is not None:
            self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self.logits = self._forward(torch.tensor(ids, device=self.model.device)[:, None], self._cache)
        return self.logits

    @torch.inference_mode()
    def _forward(self, ids: Tensor, cache: Any, **sound: Any) -> Tensor:
        out = self.model(
            input_ids=ids, attention_mask=self._mask, past_key_values=cache, use_cache=True, logits_to_keep=1, **sound
        )
        self._cache = out.past_key_values
        return out.logits[:, -1]


class Sampler:
    """Chooses ids for one row; its generator is its own, so that rows never influence each other."""

    def __init__(self, options: GenerationOptions, prompt_ids: Sequence[int]) -> None:
        self._greedy = options.temperature == 0
        self._penalised = options.repetition_penalty != 1
        self._seen = torch.tensor([list(prompt_ids)]) if self._penalised else torch.zeros((1, 0), dtype=torch.long)
        self._generator = torch.Generator()
        if options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(options.seed)
        self._processors = LogitsProcessorList()
        if self._penalised:
            self._processors.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
        if not self._greedy and options.temperature != 1:
            self._processors.append(TemperatureLogitsWarper(options.temperature))
        if options.top_k:
            self._processors.append(TopKLogitsWarper(options.top_k))
        if options.top_p < 1:
            self._processors.append(TopPLogitsWarper(options.top_p))

    @torch.inference_mode()
    def pick(self, logits: Tensor) -> Choice:
        """Choose from logits [vocabulary]; scores are float32, draws happen on the CPU on every device."""
        logits = logits.float()
        scores = self._processors(self._seen.to(logits.device), logits[None])[0] if self._processors else logits
        if self._greedy:
            token_id = int(scores.argmax())
        else:
            probabilities = scores.softmax(dim=-1).cpu()
            token_id = int(torch.multinomial(probabilities, 1, generator=self._generator))
        if self._penalised:
            self._seen = torch.cat([self._seen, torch.tensor([[token_id]])], dim=1)
        return Choice(token_id, float(logits[token_id] - logits.logsumexp(dim=-1)))
