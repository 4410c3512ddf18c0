"""Logit lens: what the model would say at every layer and position, if it had to speak right there.

    depth      "in"          "0"             ...   last
    residual   resid_pre 0   resid_post 0          resid_post L-1     [place, width]
                    \\             |                     |
                     +-- the model's own last norm and unembedding --+ --> logits [place, vocabulary], never kept
                                          |
         best k ids, log-prob of what came, entropy, and, if asked, the logits of a candidate set [place, candidate]

At the last depth these are the model's own logits, bit for bit. A place is an audio position ("which words does this
sound evoke?") or a position that predicts a reply token ("since which layer was this word decided?"). The lens shows
what the last layer could read; that nothing is readable yet does not prove that nothing is there: ask a probe.

Source: the logit lens (nostalgebraist, 2020); attributes from candidate words by layer, right and wrong cases apart, as
in AudioLens (Yang et al., 2025). The settling depth is our own and is defined where it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from analysis.capture import Layout, evaluating, lay_out, sound_inputs
from analysis.hooks import Site, n_layers, taps, unembed
from analysis.resampling import mean_interval
from analysis.statistic import Axis, Statistic
from model.chat import Conversation, with_reply
from model.errors import TraceError
from model.generation import encode_sound

MAX_LOGITS = 2**25
"""Logits made at once, 128 MiB in float32; more places than that are read in blocks."""
Candidates = Mapping[str, Sequence[int]]
"""Name of each candidate -> the ids that begin it."""


@dataclass(frozen=True, eq=False)
class Lens:
    """What every depth would say at some places of one conversation."""

    where: str
    """`audio` or `answer`."""
    depths: tuple[str, ...]
    """`in` for the embeddings, then the layers."""
    labels: tuple[str, ...]
    """Text of each place: of the audio position, or of the reply token that is predicted there."""
    time_s: np.ndarray
    """Middle of each place in its clip, seconds, float64 [place]; NaN for reply tokens."""
    ids: np.ndarray
    """The best ids, best first, int32 [depth, place, k]."""
    texts: np.ndarray
    """Their texts, str [depth, place, k]."""
    logprob: np.ndarray
    """Their natural log-probabilities over the whole vocabulary, float32 [depth, place, k]."""
    entropy: np.ndarray
    """Of the whole distribution, nat, float32 [depth, place]."""
    came: np.ndarray
    """Log-probability of the id that really follows, float32 [depth, place]; NaN where the sound goes on."""
    candidates: tuple[str, ...] = ()
    """Names of the candidate set."""
    candidate_logprob: np.ndarray | None = None
    """Natural log-probabilities of the candidates over the whole vocabulary, float32 [depth, place, candidate]."""

    def best(self) -> Statistic:
        """Return the probability of the best token, with its text, [depth, place]."""
        return Statistic(
            "probability of the best token",
            np.exp(self.logprob[..., 0].astype(np.float64)),
            (self._depth_axis, self._place_axis),
            unit="share",
            notes={"where": self.where},
            texts=self.texts[..., 0],
        )

    def rising(self) -> Statistic:
        """Return the log-probability of what really came, [depth, place]; only over the answer."""
        if self.where != "answer":
            raise _refusal("a lens over the sound, where no word comes", "a lens over the answer")
        axes = (self._depth_axis, self._place_axis)
        return Statistic("log-probability of the token that came", self.came, axes, unit="nat")

    def shares(self) -> Statistic:
        """Return how the candidates share the probability among themselves, [candidate, depth, place]; sums to 1."""
        axes = (Axis("candidate", labels=self.candidates), self._depth_axis, self._place_axis)
        shares = np.moveaxis(_shares(self._candidate_logprob), -1, 0)
        return Statistic("share among the candidates", shares, axes, unit="share", notes={"where": self.where})

    def curves(self) -> Statistic:
        """Return the candidates' shares, mean over the places, [candidate, depth]; the interval resamples places."""
        per_place = np.moveaxis(_shares(self._candidate_logprob), 1, 0)  # [place, depth, candidate]
        low, high = mean_interval(per_place)
        axes, mean = (Axis("candidate", labels=self.candidates), self._depth_axis), per_place.mean(axis=0)
        return Statistic(
            "share among the candidates", mean.T, axes, unit="share", low=low.T, high=high.T, n=len(per_place)
        )

    @property
    def _candidate_logprob(self) -> np.ndarray:
        if self.candidate_logprob is None:
            raise _refusal("a lens without candidates", "`logit_lens(..., candidates=[...])`")
        return self.candidate_logprob

    @property
    def _depth_axis(self) -> Axis:
        return Axis("depth", labels=self.depths)

    @property
    def _place_axis(self) -> Axis:
        if self.where == "audio":
            return Axis("frame", values=self.time_s, unit="s")
        return Axis("query", labels=self.labels)


def logit_lens(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int] = (),
    *,
    where: Literal["answer", "audio"] = "answer",
    candidates: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    top: int = 5,
    audio_features: list[Tensor] | None = None,
    on_layer: Callable[[int], None] | None = None,
) -> Lens:
    """Read every depth of one conversation through the model's own unembedding, in one pass.

        lens = logit_lens(loaded, conversation, turn.ids)
        lens_grid(lens.best())

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given; an assistant turn is opened where none is.
        reply_ids: What it answered (`Turn.ids`). Without it, `answer` is the position where the reply would begin.
        where: The positions that predict the reply, or the audio positions.
        candidates: Words to follow through the depths, or name -> several words that mean it. Only the beginning of
            a word can be read, its first token; with and without a space before it.
        top: How many best ids to keep.
        audio_features: Clips as `model.get_audio_features` encoded them, to skip the encoder.
        on_layer: Called with each layer that is done, -1 for the embeddings; raising stops the pass.

    Raises:
        TraceError: If there is no sound to read, or candidates cannot be told apart by their first token.
    """
    model, processor = loaded.model, loaded.processor
    prompt = processor.encode(with_reply(conversation))
    layout = lay_out(prompt, reply_ids, processor)
    places = _places(layout, where)
    following = np.append(layout.ids, -1)[places + 1] if where == "answer" else np.full(len(places), -1)
    chosen = candidate_ids(processor, candidates) if candidates else {}
    reader = _Reader(model, places, following, chosen, top)
    inputs = {"audio_features": audio_features} if audio_features is not None else sound_inputs(processor, prompt)
    ids = torch.as_tensor(layout.ids, device=next(model.parameters()).device)[None]
    _read(model, ids, inputs, reader, on_layer)
    return _lens(reader, layout, places, where, processor, tuple(chosen))


def candidate_ids(
    processor: Any, candidates: Sequence[str] | Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the ids that can begin each candidate, with and without a space before it.

    Inside a sentence words have the space; what begins two candidates only without it ("l" of "like" and "large") is
    left out.

    Raises:
        TraceError: If two candidates begin with the same id, which the lens could not tell apart.
    """
    named = candidates if isinstance(candidates, Mapping) else {text: (text,) for text in candidates}
    found: dict[str, tuple[int, ...]] = {}
    forms = {name: [_first_ids(processor, words, before) for before in (" ", "")] for name, words in named.items()}
    owners = {name: set().union(*ids) for name, ids in forms.items()}
    for name, (spaced, bare) in forms.items():
        others = {i: other for other, ids in owners.items() if other != name for i in ids}
        needed = spaced or bare  # Chinese has no form with a space
        if not needed or needed & set(others):
            other = next((others[i] for i in needed if i in others), "nothing")
            raise TraceError(
                f"follow the candidate {name!r}",
                found=f"the same first token as {other!r}",
                expected="candidates that differ in their first token",
                todo="Put their common beginning into the open assistant turn, choose other words, or read whole "
                "words: `attribute_curves(..., read='whole')`.",
            )
        found[name] = tuple(sorted(needed | (bare - set(others))))
    return found


def _first_ids(processor: Any, words: Sequence[str], before: str) -> set[int]:
    """Return the first ids of some words, written with something before them."""
    return {_first_id(processor, before + word.strip()) for word in words} - {None}


def _first_id(processor: Any, word: str) -> int | None:
    """Return the first id of a word, or None if that is only its space, or a part of a character."""
    ids = processor.encode_text(word)
    begin = processor.decode(ids[:1], keep_special=True) if ids else ""
    return ids[0] if begin.strip() and "\ufffd" not in begin else None


# --- attributes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AttributeCurves:
    """How readable the true attribute is at each depth, for many cases."""

    depths: tuple[str, ...]
    share: np.ndarray
    """Share of the truth among the candidates, float64 [case, depth]."""
    right: np.ndarray
    """Whether the truth is the first of the candidates at the last depth, bool [case]."""
    settling: np.ndarray
    """First depth from which on the final candidate stays first, int64 [case]; 0 is the embeddings."""

    def by_depth(self) -> Statistic:
        """Return the mean share of the truth, [cases, depth], over all, right and wrong cases; NaN without a case."""
        kinds = {"all": np.ones_like(self.right), "right": self.right, "wrong": ~self.right}
        rows = [_mean_and_interval(self.share[chosen]) for chosen in kinds.values()]
        labels = [f"{name} ({int(chosen.sum())})" for name, chosen in kinds.items()]
        mean, low, high = (np.stack(part) for part in zip(*rows))
        axes = (Axis("cases", labels=labels), Axis("depth", labels=self.depths))
        return Statistic("share of the truth", mean, axes, unit="share", low=low, high=high, n=len(self.right))

    def settles(self) -> Statistic:
        """Return at which depth the answer settles, mean over cases, [cases], right and wrong apart."""
        rows = [_mean_and_interval(self.settling[chosen].astype(float)) for chosen in (self.right, ~self.right)]
        mean, low, high = (np.array(part, dtype=float) for part in zip(*rows))
        labels = [f"right ({int(self.right.sum())})", f"wrong ({int((~self.right).sum())})"]
        return Statistic(
            "settling depth", mean, (Axis("cases", labels=labels),), unit="layer", low=low, high=high, n=len(self.right)
        )


def attribute_curves(
    loaded: Any,
    cases: Sequence[tuple[Conversation, str]],
    candidates: Sequence[str] | Mapping[str, Sequence[str]],
    *,
    read: Literal["first", "whole"] = "first",
    progress: Callable[[str, float], None] | None = None,
) -> AttributeCurves:
    """Follow an attribute through the depths, where the answer would begin, right and wrong cases apart.

    Args:
        loaded: A LoadedModel.
        cases: Conversations, each with the name of its true candidate. What shall complete "The speaker sounds" is
            an open assistant turn with that text.
        candidates: As for `logit_lens`.
        read: Judge candidates by their first token, one pass for each case; or as a whole, written exactly as given,
            one pass for each word. Where words begin alike only the latter can tell them apart; at depths that know
            nothing yet it favours words of fewer tokens.
        progress: Told after each case; raising stops.

    Raises:
        TraceError: If there is no case, a truth is no candidate, or first tokens do not tell candidates apart.
    """
    named = candidates if isinstance(candidates, Mapping) else {text: (text,) for text in candidates}
    names, measure = list(named), _whole_words if read == "whole" else _first_tokens
    unknown = sorted({truth for _, truth in cases} - set(names))
    if unknown or not cases:
        raise _refusal(f"{len(cases)} cases, the truths {unknown} not among them", f"truths among {names}")
    shares = []
    for number, (conversation, _) in enumerate(cases):
        shares.append(_shares(measure(loaded, conversation, named)))
        if progress is not None:
            progress("lens", (number + 1) / len(cases))
    stacked = np.stack(shares)  # [case, depth, candidate]
    truth = np.array([names.index(truth) for _, truth in cases])
    first = stacked.argmax(axis=-1)
    return AttributeCurves(
        depths=_depths(stacked.shape[1]),
        share=np.take_along_axis(stacked, truth[:, None, None], axis=-1)[..., 0],
        right=first[:, -1] == truth,
        settling=settling_depth(first),
    )


def _first_tokens(loaded: Any, conversation: Conversation, named: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return log-probabilities of the candidates' first tokens, [depth, candidate]."""
    return logit_lens(loaded, conversation, candidates=named, top=1).candidate_logprob[:, -1]


def _whole_words(loaded: Any, conversation: Conversation, named: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return log-probabilities of the candidates as wholes, [depth, candidate]; several words of one add up."""
    processor = loaded.processor
    features = encode_sound(loaded.model, processor.encode(with_reply(conversation)))
    columns = []
    for words in named.values():
        each = [
            logit_lens(loaded, conversation, processor.encode_text(word), top=1, audio_features=features).came
            for word in words
        ]
        columns.append(np.logaddexp.reduce([came.astype(np.float64).sum(axis=1) for came in each]))
    return np.stack(columns, axis=-1)


def settling_depth(first: np.ndarray) -> np.ndarray:
    """Return the first depth from which on the best candidate stays the final one, int64 [case].

    Args:
        first: Best candidate at each depth, [case, depth].
    """
    other = first != first[:, -1:]
    return np.where(other.any(axis=1), other.shape[1] - other[:, ::-1].argmax(axis=1), 0)


def _mean_and_interval(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not len(rows):
        nothing = np.full(rows.shape[1:], np.nan)
        return nothing, nothing, nothing
    return rows.mean(axis=0), *mean_interval(rows)


# --- reading --------------------------------------------------------------------------------------------------------


class _Reader:
    """Turns the residual stream of one depth into what is kept of it."""

    def __init__(self, model: nn.Module, places: np.ndarray, following: np.ndarray, chosen: Candidates, top: int):
        self.model, self.places, self.following = model, torch.as_tensor(places), torch.as_tensor(following)
        self.chosen, self.top = chosen, top
        self.rows: list[dict[str, np.ndarray]] = []

    def __call__(self, residual: Tensor) -> None:
        """Read one depth, [1, position, width]."""
        rows = residual.detach()[:, self.places.to(residual.device)]
        size = max(1, MAX_LOGITS // self.model.lm_head.out_features)
        blocks = [self._block(block, after) for block, after in zip(rows.split(size, 1), self.following.split(size))]
        self.rows.append({name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]})

    def _block(self, residual: Tensor, following: Tensor) -> dict[str, np.ndarray]:
        logprob = unembed(self.model, residual)[0].float().log_softmax(dim=-1)
        best = logprob.topk(min(self.top, logprob.shape[-1]), dim=-1)
        came = logprob.gather(1, following.clamp(min=0).to(logprob.device)[:, None])[:, 0].cpu()
        kept = {
            "ids": best.indices.to(torch.int32),
            "logprob": best.values,
            "entropy": torch.special.entr(logprob.exp()).sum(dim=-1),
            "came": came.masked_fill(following < 0, float("nan")),
        }
        if self.chosen:
            kept["candidates"] = torch.stack(
                [logprob[:, list(ids)].logsumexp(dim=-1) for ids in self.chosen.values()], dim=-1
            )
        return {name: value.cpu().numpy() for name, value in kept.items()}

    def stacked(self, name: str) -> np.ndarray:
        """Return [depth, place, ...]."""
        return np.stack([row[name] for row in self.rows])


def _read(
    model: nn.Module, ids: Tensor, inputs: Mapping[str, Any], reader: _Reader, on_layer: Callable[[int], None] | None
) -> None:
    """Run the model once and show every depth to the reader, in order."""

    def at(layer: int) -> Callable[[Tensor], None]:
        def tap(residual: Tensor) -> None:
            reader(residual)
            if on_layer is not None:
                on_layer(layer)

        return tap

    sites = {Site("resid_post", layer): at(layer) for layer in range(n_layers(model))}
    with evaluating(model), torch.inference_mode(), taps(model, {Site("resid_pre", 0): at(-1), **sites}):
        model(input_ids=ids, use_cache=False, logits_to_keep=1, **inputs)


def _places(layout: Layout, where: str) -> np.ndarray:
    """Return the positions to read, int64 [place]."""
    if where == "audio" and len(layout.frames):
        return layout.frames
    if where == "answer":
        return np.arange(layout.n_prompt - 1, max(len(layout.ids) - 1, layout.n_prompt))
    raise _refusal(f"where={where!r} in a conversation of {len(layout.frames)} audio positions", "`answer`, or `audio`")


def _lens(
    reader: _Reader, layout: Layout, places: np.ndarray, where: str, processor: Any, names: tuple[str, ...]
) -> Lens:
    ids = reader.stacked("ids")
    known = {i: processor.decode([i], keep_special=True) for i in np.unique(ids).tolist()}
    text = (*layout.text, "")  # behind the end of a prompt without a reply
    return Lens(
        where=where,
        depths=_depths(len(reader.rows)),
        labels=tuple(text[place + (where == "answer")] for place in places),
        time_s=(layout.start_s[places] + layout.end_s[places]) / 2,
        ids=ids,
        texts=np.array([known[i] for i in ids.ravel().tolist()], dtype=np.str_).reshape(ids.shape),
        logprob=reader.stacked("logprob"),
        entropy=reader.stacked("entropy"),
        came=reader.stacked("came"),
        candidates=names,
        candidate_logprob=reader.stacked("candidates") if names else None,
    )


def _depths(n: int) -> tuple[str, ...]:
    return ("in", *map(str, range(n - 1)))


def _shares(logprob: np.ndarray) -> np.ndarray:
    """Return probabilities among the candidates alone, float64, summing to 1 along the last axis."""
    weights = np.exp(logprob.astype(np.float64) - logprob.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("read a logit lens", found=found, expected=expected, todo="See `analysis.lens.logit_lens`.")
