"""Conversation -> ids and log-mels, piece by piece as the official code tokenises; the only home of placeholders.

    Text, Control, RawIds, AudioCodes ──> ids
    Audio ──16 kHz──> <= 25 s each ──> <audio_start> <audio_patch> x n <audio_end>   and one log-mel [128, frames]

n is `model.audio.n_audio_tokens` of the piece and equals the rows the encoder returns for it. Where this differs
from the official code, on purpose:

* A tail of at most 320 samples after a full 25 s has no position of its own and is dropped (the official code writes
  an empty block and a mel for it); `official_tails=True` keeps it. A whole clip that short is refused.
* Control tokens inside text are encoded as the characters they are. The official code obeys them, so that a typed
  `<audio_start>` shifts every clip.

Source: the official Step-Audio 2 wrapper (`stepaudio2.py`) and `utils.py`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast
from transformers.feature_extraction_utils import BatchFeature

from model.audio import (
    CHUNK_S,
    INPUT_SAMPLE_RATE_HZ,
    Waveform,
    log_mel,
    n_audio_tokens,
    split_chunks,
    usable_length,
)
from model.chat import (
    PLAIN,
    Audio,
    AudioPiece,
    ControlPiece,
    Conversation,
    IdsPiece,
    Message,
    Piece,
    SpokenPiece,
    TextPiece,
    from_messages,
    pack_ta4,
    render_messages,
)
from model.configuration_step_audio_2 import StepAudio2Config
from model.errors import AudioError, CheckpointError, ConversationError
from model.tokens import CONTROL_NAMES, Kind, TokenIds

CONFIG_NAME = "processor_config.json"
FrontEnd = Callable[[Waveform], torch.Tensor]


@dataclass(frozen=True)
class Span:
    """A stretch of prompt positions; the spans of a prompt follow each other and cover all of it."""

    kind: str
    """Role of the message ("system", "human", "assistant", "tool_json_schemas", "input", "plain"), template and
    block marks included, or "audio": exactly the placeholders of one piece of sound, 12.5 per second."""
    start: int
    """First position."""
    end: int
    """Position after the last one."""
    message_index: int = 0
    part_index: int = -1
    """Part within its message, for audio; -1 otherwise."""
    clip_index: int = -1
    """Recording, counted over the conversation; -1 where there is none."""
    chunk_index: int = -1
    """Piece of 25 s within the recording."""
    start_s: float = 0.0
    """Time of the piece within its recording, for audio."""
    end_s: float = 0.0


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """One conversation as the model reads it."""

    ids: list[int]
    """Prompt ids, placeholders included."""
    mels: list[torch.Tensor]
    """One log-mel per audio span, float32 [128, frames], in reading order."""
    wav_lens: list[int]
    """Usable frames of each mel, which the encoder is told: frames - 2."""
    spans: tuple[Span, ...]


class StepAudio2Processor:
    """A tokenizer and the rules around it; nothing in it changes between calls.

    Args:
        tokenizer: A byte-level fast tokenizer with the control tokens of `model.tokens`.
        ids: Its control ids; resolved by name when left out.
        official_tails: Keep zero-length tails of long recordings, and accept clips that give no position.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, *, ids: TokenIds | None = None, official_tails: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.ids = ids or TokenIds.from_tokenizer(tokenizer)
        self.official_tails = official_tails
        self._core: Tokenizer = tokenizer.backend_tokenizer
        self._added = frozenset(self._core.get_added_tokens_decoder())

    # -- text ------------------------------------------------------------------------------------

    def encode_text(self, text: str) -> list[int]:
        """Encode one piece of text; whatever looks like a control token in it becomes ordinary characters."""
        found = self._core.encode(text, add_special_tokens=False).ids
        if self._added.isdisjoint(found):
            return found
        return self._plain_core.encode(text, add_special_tokens=False).ids

    @cached_property
    def _plain_core(self) -> Tokenizer:
        """The same tokenizer without its added tokens: none of them can come out of it.

        `split_special_tokens=True` of transformers is not enough: it leaves added tokens alone that are not flagged
        as special, such as Qwen's `<tool_call>`. Made on first need, because it takes a second for a large vocabulary.
        """
        layout = json.loads(self._core.to_str())
        layout.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
        return Tokenizer.from_str(json.dumps(layout))

    def decode(self, ids: Iterable[int], *, keep_special: bool = False) -> str:
        """Spell out ids.

        Args:
            ids: Any ids, generated or not.
            keep_special: Spell control tokens and codes too; left out otherwise.
        """
        wanted = [int(i) for i in ids]
        if not keep_special:
            wanted = [i for i in wanted if self.ids.kind(i) is Kind.TEXT]
        return self._core.decode(wanted, skip_special_tokens=False)

    # -- conversations ---------------------------------------------------------------------------

    def encode(self, conversation: Conversation | Sequence[Any], *, front_end: FrontEnd = log_mel) -> EncodedPrompt:
        """Turn one conversation into ids, mels and spans.

        Args:
            conversation: Messages, or the official message list (`model.chat.from_messages`).
            front_end: Makes the log-mel of a piece of at most 25 s; another one where mels are known already.

        Raises:
            ConversationError: If it is no valid conversation.
            AudioError: If a recording is too short to give a single position.
        """
        builder = _PromptBuilder(self, front_end)
        conversation = as_conversation(conversation)
        for index, pieces in enumerate(render_messages(conversation)):
            builder.add_message(index, conversation[index], pieces)
        return builder.prompt()

    def __call__(
        self, conversation: Any, return_tensors: str = "pt", padding: str = "left", **unused: Any
    ) -> BatchFeature:
        """Turn one conversation or a list of them into model inputs.

        Returns:
            input_ids, attention_mask int64 [batch, position]; and, if there is any sound, wavs float32
            [clip, 128, frames] and wav_lens int32 [clip], clips in reading order over the whole batch.
        """
        if return_tensors != "pt" or unused:
            raise ConversationError(
                "prepare a conversation",
                found=f"return_tensors={return_tensors!r} and options {sorted(unused)}",
                expected='return_tensors="pt" and no other option',
                todo="Convert the tensors afterwards",
            )
        batch = conversation if _is_batch(conversation) else [conversation]
        return self.collate([self.encode(one) for one in batch], padding=padding)

    def collate(self, prompts: Sequence[EncodedPrompt], *, padding: str = "left") -> BatchFeature:
        """Pad prompts to one batch; see `__call__` for what comes back."""
        assert padding in ("left", "right"), "padding is left or right"
        longest = max(len(prompt.ids) for prompt in prompts)
        ids = torch.full((len(prompts), longest), self.ids.pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            n = len(prompt.ids)
            where = slice(longest - n, longest) if padding == "left" else slice(0, n)
            ids[row, where] = torch.tensor(prompt.ids)
            mask[row, where] = 1
        data = {"input_ids": ids, "attention_mask": mask}
        mels = [mel for prompt in prompts for mel in prompt.mels]
        if mels:
            lens = [length for prompt in prompts for length in prompt.wav_lens]
            data.update(wavs=pad_mels(mels), wav_lens=torch.tensor(lens, dtype=torch.int32))
        return BatchFeature(data)

    # -- disk ------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, **unused: Any) -> None:
        """Write the tokenizer and the processor's own settings into `folder`."""
        self.tokenizer.save_pretrained(folder)
        settings = {"processor_class": type(self).__name__, "official_tails": self.official_tails}
        (Path(folder) / CONFIG_NAME).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> "StepAudio2Processor":
        """Read the tokenizer of a checkpoint folder (or Hub name) and resolve its control tokens.

        Args:
            name_or_path: Folder with `tokenizer.json`, or anything `AutoTokenizer` reads.
            options: Passed on to `AutoTokenizer` when there is no local `tokenizer.json`.

        Raises:
            CheckpointError: If there is no tokenizer, or it lacks a control token.
        """
        folder = Path(name_or_path)
        settings_file = folder / CONFIG_NAME
        settings = json.loads(settings_file.read_text(encoding="utf-8")) if settings_file.is_file() else {}
        tokenizer = _read_tokenizer(folder, name_or_path, options)
        return cls(tokenizer, official_tails=bool(settings.get("official_tails", False)))


def pad_mels(mels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack log-mels [128, frames], padded on the right with 0.0 as the official code does (not with silence)."""
    longest = max(mel.shape[-1] for mel in mels)
    return torch.stack([torch.nn.functional.pad(mel, (0, longest - mel.shape[-1])) for mel in mels])


class _PromptBuilder:
    """Collects the ids, mels and spans of one prompt in reading order."""

    def __init__(self, processor: StepAudio2Processor, front_end: FrontEnd) -> None:
        self.processor, self.front_end = processor, front_end
        self.ids: list[int] = []
        self.mels: list[torch.Tensor] = []
        self.spans: list[Span] = []
        self.n_clips = 0

    def prompt(self) -> EncodedPrompt:
        lens = [usable_length(mel.shape[-1]) for mel in self.mels]
        return EncodedPrompt(self.ids, self.mels, lens, tuple(self.spans))

    def add_message(self, index: int, message: Message, pieces: Sequence[Piece]) -> None:
        audio_parts = iter([i for i, part in enumerate(message.parts) if isinstance(part, Audio)])
        kind = message.role if message.role != PLAIN else "plain"
        for piece in pieces:
            if isinstance(piece, AudioPiece):
                self._add_clip(piece.waveform, kind, index, next(audio_parts))
            else:
                self._add_ids(self._ids_of(piece), Span(kind, 0, 0, index))

    def _ids_of(self, piece: Piece) -> Sequence[int]:
        match piece:
            case TextPiece(text):
                return self.processor.encode_text(text)
            case IdsPiece(ids):
                return ids
            case ControlPiece(name) if name in CONTROL_NAMES:
                return [self.processor.ids.control_id(name)]
            case ControlPiece(name):  # tool tags are ordinary tokens of the tokenizer, if it has them
                known = self.processor.tokenizer.get_vocab().get(name)
                return self.processor.encode_text(name) if known is None else [known]
            case SpokenPiece(text, codes):
                return pack_ta4(self.processor.encode_text(text), codes, self.processor.ids)
        raise AssertionError(f"a piece without ids: {type(piece).__name__}")

    def _add_ids(self, ids: Sequence[int], template: Span) -> None:
        """Append ids under `template`'s labels, as part of the last span if that one has the same labels."""
        start, end = len(self.ids), len(self.ids) + len(ids)
        self.ids.extend(ids)
        last = self.spans[-1] if self.spans else None
        if template.kind != "audio" and last and _labels(last) == _labels(template):
            self.spans[-1] = _moved(last, last.start, end)
        elif ids:
            self.spans.append(_moved(template, start, end))

    def _add_clip(self, waveform: Waveform, kind: str, message_index: int, part_index: int) -> None:
        token_ids, clip = self.processor.ids, self.n_clips
        self.n_clips += 1
        for chunk_index, chunk in enumerate(self._chunks(waveform)):
            count = n_audio_tokens(len(chunk.samples))
            start_s = float(CHUNK_S * chunk_index)
            times = {"start_s": start_s, "end_s": start_s + chunk.duration_s}
            self._add_ids([token_ids.audio_start], Span(kind, 0, 0, message_index))
            span = Span("audio", 0, 0, message_index, part_index, clip, chunk_index, **times)
            self._add_ids([token_ids.audio_patch] * count, span)
            self._add_ids([token_ids.audio_end], Span(kind, 0, 0, message_index))
            self.mels.append(self.front_end(chunk))

    def _chunks(self, waveform: Waveform) -> list[Waveform]:
        """Pieces of at most 25 s that have a position to show for themselves."""
        chunks = split_chunks(waveform.resample(INPUT_SAMPLE_RATE_HZ))
        if self.processor.official_tails:
            return chunks
        heard = [chunk for chunk in chunks if n_audio_tokens(len(chunk.samples)) > 0]
        if not heard:
            raise AudioError(
                "prepare a recording for the model",
                found=f"{waveform.duration_s:.3f} s of sound",
                expected="more than 0.02 s, and rather a second or more",
                todo="Record or select a longer piece",
            )
        return heard


def _labels(span: Span) -> tuple[str, int, int]:
    return span.kind, span.message_index, span.clip_index


def _moved(span: Span, start: int, end: int) -> Span:
    return Span(**{**vars(span), "start": start, "end": end})


def as_conversation(conversation: Conversation | Sequence[Any]) -> Conversation:
    """Accept messages or the official message list.

    Raises:
        ConversationError: If it is neither.
    """
    if not isinstance(conversation, Sequence) or isinstance(conversation, str):
        raise ConversationError(
            "read a conversation",
            found=f"an object of type {type(conversation).__name__}",
            expected="a tuple of Message or the official list of dictionaries",
            todo='Wrap a question as (Message("human", (Text(question),)),)',
        )
    if all(isinstance(message, Message) for message in conversation):
        return tuple(conversation)
    return from_messages(conversation)


def _is_batch(conversation: Any) -> bool:
    """Whether this is a list of conversations: its entries are sequences, not messages, dictionaries or strings."""
    if not isinstance(conversation, Sequence) or not conversation:
        return False
    return all(isinstance(one, Sequence) and not isinstance(one, str | Mapping) for one in conversation)


def _read_tokenizer(folder: Path, name: str | Path, options: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Read `tokenizer.json` as it is where there is one: no conversion can then change a merge."""
    file = folder / "tokenizer.json"
    try:
        if file.is_file():
            return PreTrainedTokenizerFast(tokenizer_file=str(file), clean_up_tokenization_spaces=False)
        return AutoTokenizer.from_pretrained(str(name), **options)
    except Exception as error:  # tokenizers raises a bare Exception for a damaged file
        raise CheckpointError(
            f"read the tokenizer of {str(name)!r}",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            expected="a readable tokenizer.json",
            todo="Download or copy the checkpoint again",
        ) from error


AutoProcessor.register(StepAudio2Config, StepAudio2Processor, exist_ok=True)
