"""Two runs that differ in what was heard, agree in length, and are told apart by two tokens: what patching needs.

    clean      ... <sound: "light on">  ... assistant  turn the light | on
    corrupted  ... <sound: "light off"> ... assistant  turn the light | off
                                                       common prefix    the answer and its rival

The prefix that both answers share is read by both runs, so that their last position is where they part, and the
metric is the logit difference there: answer minus rival. It moves when one of the two is favoured, and not when all
tokens become likelier or less likely together. Both prompts must take the same number of positions, so clips are
swapped or edited at their length rather than drowned in noise.

Source: Zhang and Nanda 2023 (logit difference; corrupt by swapping, not by Gaussian noise); Heimersheim and Nanda 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from analysis.capture import Layout, evaluating, lay_out, sound_inputs
from analysis.hooks import Site, Tap, taps
from model.chat import Conversation, with_reply
from model.errors import TraceError
from model.events import collect
from model.generation import GenerationOptions, stream

WINDOW_FRAMES = 4
"""Audio positions that are patched together, 0.32 s: about a syllable or two."""
LAST = "last"
"""Label of the position whose output is judged."""


class Region(NamedTuple):
    """Positions that are patched together."""

    label: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Metric:
    """A number read off the logits of a run."""

    name: str
    keep: tuple[int, ...]
    """Positions whose logits are needed."""
    read: Callable[[Tensor], Tensor]
    """Logits float32 [batch, kept, vocabulary] -> [batch]."""
    unit: str = "logit"


@dataclass(frozen=True, eq=False)
class Run:
    """One teacher-forced pass that can be repeated with changes, and the number it is judged by."""

    model: nn.Module
    inputs: Mapping[str, Any]
    """What the model is called with: `input_ids` [1, position] and, encoded once, `audio_features`."""
    metric: Metric
    texts: tuple[str, ...]
    """Text of each position."""
    regions: tuple[Region, ...]
    """All positions, each in one region: windows of sound, messages, and the last position on its own."""

    def __len__(self) -> int:
        return self.inputs["input_ids"].shape[1]

    @property
    def tokens(self) -> tuple[Region, ...]:
        """Every position as a region of its own, the finest map."""
        return tuple(Region(text, (place,)) for place, text in enumerate(self.texts))

    def value(self, at: Mapping[Site, Tap] | None = None) -> np.ndarray:
        """Return the metric with changes in place, float64 [batch]; one number where no tap makes more of the run."""
        with evaluating(self.model), torch.inference_mode():
            return self.measure(at or {}).double().cpu().numpy()

    def measure(self, at: Mapping[Site, Tap]) -> Tensor:
        """Return the metric as a tensor [batch], in the autograd mode of the caller."""
        keep = torch.tensor(self.metric.keep, device=self.inputs["input_ids"].device)
        with taps(self.model, at):
            logits = self.model(**self.inputs, use_cache=False, logits_to_keep=keep).logits
        return self.metric.read(logits.float())


@dataclass(frozen=True, eq=False)
class Contrast:
    """A clean and a corrupted run of the same length, judged by the same metric."""

    clean: Run
    corrupted: Run
    answers: tuple[str, str] = ("", "")
    """What the two runs answer."""

    def __post_init__(self) -> None:
        lengths = len(self.clean), len(self.corrupted)
        if lengths[0] != lengths[1] or self.clean.metric is not self.corrupted.metric:
            raise _refusal(
                f"a clean run of {lengths[0]} positions and a corrupted one of {lengths[1]}",
                "runs of the same length and metric",
                "Use clips of one length: swap, mute or exchange spans (`analysis.edits`), or pad the shorter one.",
            )

    @property
    def values(self) -> tuple[float, float]:
        """The metric of the clean and of the corrupted run."""
        return float(self.clean.value()[0]), float(self.corrupted.value()[0])


def contrast(
    loaded: Any,
    clean: Conversation,
    corrupted: Conversation,
    answers: tuple[str, str] | None = None,
    *,
    window_frames: int = WINDOW_FRAMES,
    options: GenerationOptions | None = None,
) -> Contrast:
    """Set up a pair of runs for patching.

        pair = contrast(loaded, clean, corrupted)
        effect_map(patch_positions(pair).recovered)

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        clean: The conversation whose answer is to be explained; an assistant turn is opened where none is.
        corrupted: The same with other sound (or text) in it, as many positions long.
        answers: What the clean run answers and what the corrupted one would; by default the model's own two replies.
        window_frames: Audio positions patched together.
        options: How the replies are generated; greedy, 256 tokens by default.

    Raises:
        TraceError: If the prompts differ in length, or the answers do not differ.
    """
    processor = loaded.processor
    if answers is None:
        replies = [_reply(loaded, conversation, options) for conversation in (clean, corrupted)]
    else:
        replies = [processor.encode_text(text) for text in answers]
    n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*replies)))
    if n_same == min(map(len, replies)):
        texts = [processor.decode(ids, keep_special=True) for ids in replies]
        raise _refusal(
            f"the answers {texts[0]!r} and {texts[1]!r}",
            "two answers that part at some token",
            "Choose a pair of clips that the model answers differently, or name two answers.",
        )
    prefix, answer, rival = replies[0][:n_same], replies[0][n_same], replies[1][n_same]
    metric: Metric | None = None
    runs = []
    for conversation in (clean, corrupted):
        inputs, layout = _inputs(loaded, conversation, prefix)
        metric = metric or logit_difference(answer, rival, len(layout.ids) - 1)
        runs.append(Run(loaded.model, inputs, metric, layout.text, regions_of(layout, window_frames)))
    texts = tuple(processor.decode([token], keep_special=True) for token in (answer, rival))
    return Contrast(runs[0], runs[1], texts)


def answer_run(
    loaded: Any, conversation: Conversation, reply_ids: Sequence[int], *, window_frames: int = WINDOW_FRAMES
) -> Run:
    """Set up one run that is judged by the log-probability of its whole reply.

    Args:
        loaded: A LoadedModel.
        conversation: What the model was given.
        reply_ids: What it answered (`Turn.ids`); at least one id.
        window_frames: Audio positions patched together.
    """
    if not len(reply_ids):
        raise _refusal("a reply without tokens", "the ids of a finished turn", "Pass `Turn.ids`.")
    inputs, layout = _inputs(loaded, conversation, reply_ids[:-1])
    metric = answer_logprob(reply_ids, layout.n_prompt)
    return Run(loaded.model, inputs, metric, layout.text, regions_of(layout, window_frames))


def logit_difference(answer: int, rival: int, position: int) -> Metric:
    """Return the metric logit(answer) - logit(rival) of one position."""
    return Metric("logit difference", (position,), lambda logits: logits[:, 0, answer] - logits[:, 0, rival])


def answer_logprob(reply_ids: Sequence[int], n_prompt: int) -> Metric:
    """Return the metric that sums the natural log-probabilities of a reply."""
    wanted = torch.tensor(list(reply_ids))

    def read(logits: Tensor) -> Tensor:
        ids = wanted.to(logits.device)[None, :, None].expand(len(logits), -1, 1)
        return (logits.gather(2, ids)[..., 0] - logits.logsumexp(dim=-1)).sum(dim=-1)

    keep = tuple(range(n_prompt - 1, n_prompt - 1 + len(reply_ids)))
    return Metric("log-probability of the answer", keep, read, unit="nat")


def regions_of(layout: Layout, window_frames: int = WINDOW_FRAMES) -> tuple[Region, ...]:
    """Divide all positions: windows of sound by start time, messages as wholes, each reply token and the last alone."""
    found: list[Region] = []
    n, several = len(layout.ids), int(layout.clip.max(initial=-1)) > 0
    start = 0
    while start < n:
        same = (layout.segment == layout.segment[start]) & (layout.clip == layout.clip[start])
        end = start + 1
        while end < n - 1 and same[end] and start < layout.n_prompt and end < layout.n_prompt:
            if layout.clip[start] >= 0 and end - start == window_frames:
                break
            end += 1
        found.append(Region(_label(layout, start, end, several), tuple(range(start, end))))
        start = end
    return tuple(found)


def _label(layout: Layout, start: int, end: int, several: bool) -> str:
    if end == len(layout.ids):
        return LAST
    if layout.clip[start] >= 0:
        clip = f"clip {layout.clip[start] + 1}, " if several else ""
        return f"{clip}{layout.start_s[start]:.2f} s"
    if start >= layout.n_prompt:
        return layout.text[start]
    return layout.segment_names[layout.segment[start]]


def _inputs(loaded: Any, conversation: Conversation, reply_ids: Sequence[int]) -> tuple[dict[str, Any], Layout]:
    """Return what the model is called with, sound encoded, and what each position is."""
    model, processor = loaded.model, loaded.processor
    prompt = processor.encode(with_reply(conversation))
    layout = lay_out(prompt, reply_ids, processor)
    inputs: dict[str, Any] = {"input_ids": torch.as_tensor(layout.ids, device=next(model.parameters()).device)[None]}
    sound = sound_inputs(processor, prompt)
    if sound:
        with evaluating(model), torch.no_grad():  # not inference mode: gradients may be wanted behind it
            inputs["audio_features"] = model.get_audio_features(sound["wavs"], sound["wav_lens"])
    return inputs, layout


def _reply(loaded: Any, conversation: Conversation, options: GenerationOptions | None) -> tuple[int, ...]:
    return collect(stream(loaded.model, loaded.processor, conversation, options)).ids


def _refusal(found: str, expected: str, todo: str) -> TraceError:
    return TraceError("compare two runs", found=found, expected=expected, todo=todo)
