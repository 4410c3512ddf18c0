"""Does the answer follow from the thought, or would it have come anyway? Change the thought, and ask again.

    early        thought cut after 0, 1, 2 ... steps                  an answer that needs the thought changes
    mistake      one step made false, the model thinks on from there  an answer that follows it goes wrong too
    paraphrase   the same in other words                              an answer that rests on the meaning stays
    filler       "..." in place of every word                         an answer that only needs time stays
    none         an empty thought

Each in two ways, as in `counterfactual.py`: how likely the answer as it was is after the changed thought (nats), and
what the model answers now. Nothing else changes: system, sound and question stay.

    found = faithfulness(loaded, Thinking.conversation(sound), turn.ids)
    changes(found.change())                       # nats by variant, analysis.figures.counterfactual
    curves(early_answering([found, ...]))         # share of answers already there, by share of the thought

An answer that is there before the thought is not wrong; its thought is a report, not a reason. Mistakes and
paraphrases come from `rewriting.py`, by rule, or from functions of your own.

Source: Lanham et al. 2023 (early answering, mistakes, paraphrase, filler); Turpin et al. 2023.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from analysis import rewriting
from analysis.capture import lay_out
from analysis.resampling import mean_interval
from analysis.scoring import Progress, ReplyScorer
from analysis.statistic import Axis, Statistic
from analysis.thought import sentences
from model.chat import THINK_END, THINK_PREFIX, THINK_START, Conversation, Message, Text, Thought, with_reply
from model.errors import TraceError
from model.events import Turn
from model.generation import generate_batch
from model.options import GenerationOptions
from model.tasks.normalize import NORMALIZERS, is_chinese

Kind = Literal["early", "mistake", "paraphrase", "filler", "none"]
KINDS: tuple[Kind, ...] = ("early", "mistake", "paraphrase", "filler", "none")
SHARES = np.linspace(0, 1, 11)
"""Shares of a thought at which early answers of several turns are put together."""
TURNS_PER_CALL = 8
"""Conversations answered in one batch."""
Rewrite = Callable[[str], str | None]
"""A step or a thought -> other words for it, or None where it has none."""


class Parts(NamedTuple):
    """A reply taken apart."""

    thought: str
    """Exactly as it was written, between the tags."""
    answer: str
    """Without blanks around it."""
    answer_ids: tuple[int, ...]
    """Ids behind the closing tag and its blanks, the end of the turn included."""


@dataclass(frozen=True)
class Variant:
    """One change of a thought, and what became of the answer."""

    kind: Kind
    name: str
    """What was done: `after 2 of 5 steps`, `mistake in step 1`."""
    thought: str
    """The thought as it was changed; after a mistake with what the model thought on."""
    share: float
    """How much of the thought was left as it was, 0 to 1, in steps."""
    logprob: float
    """Natural log-probability of the answer as it was after this thought; NaN if cancelled."""
    answer: str | None = None
    """What the model answers now; None if it was not asked."""
    same: bool | None = None
    """Whether that says the same as the answer as it was."""


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What changes of one thought did to one answer."""

    steps: tuple[str, ...]
    """Of the thought as it was."""
    answer: str
    baseline: float
    """Natural log-probability of the answer after the thought as it was."""
    variants: tuple[Variant, ...]
    left_out: tuple[str, ...] = ()
    """Kinds that no rule could make, such as `mistake`."""

    def of(self, kind: Kind) -> tuple[Variant, ...]:
        """Return the variants of one kind, in order."""
        return tuple(one for one in self.variants if one.kind == kind)

    def change(self) -> Statistic:
        """Return what the answer gained (above 0) or lost with each variant, [variant]."""
        axis = Axis("variant", labels=[one.name for one in self.variants])
        values = [one.logprob - self.baseline for one in self.variants]
        return Statistic("change of log-probability of the answer", values, (axis,), "nat", notes=self._notes)

    def early(self) -> Statistic:
        """Return what the answer lacks after each share of the thought, [share]; 0 where the thought is whole."""
        early = self.of("early")
        axis = Axis("share of the thought", values=np.array([one.share for one in early]))
        values = [self.baseline - one.logprob for one in early]
        return Statistic("log-probability that the answer lacks", values, (axis,), "nat", notes=self._notes)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        plain = {name: getattr(self, name) for name in ("answer", "baseline")}
        lists = {"steps": list(self.steps), "left_out": list(self.left_out)}
        return {**plain, **lists, "variants": [vars(one) for one in self.variants]}

    @property
    def _notes(self) -> dict[str, object]:
        return {"answer": self.answer, "left out": list(self.left_out)}


# --- one turn -----------------------------------------------------------------------------------------------------


def faithfulness(
    loaded: Any,
    conversation: Conversation,
    reply_ids: Sequence[int],
    *,
    kinds: Sequence[Kind] = KINDS,
    mistake: Rewrite = rewriting.mistake,
    paraphrase: Rewrite = rewriting.paraphrase,
    same: Callable[[str, str], bool] | None = None,
    regenerate: bool = True,
    options: GenerationOptions | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Faithfulness:
    """Change a thought in several ways and see what becomes of the answer.

    Args:
        loaded: A LoadedModel: `.model`, `.processor`.
        conversation: What the model was given.
        reply_ids: What it thought and answered (`Turn.ids`).
        kinds: What to try.
        mistake: Makes a step false; each step is tried on its own.
        paraphrase: Says the whole thought in other words.
        same: Whether two answers say the same; by default letter by letter, case and punctuation aside.
        regenerate: Also let the model answer. Without it a mistake is followed by the thought as it was.
        options: How to write answers; greedy by default.
        progress: Told what is being done and how much of it is done.
        cancel: Looked at between batches; what was not reached is NaN and has no answer.

    Raises:
        TraceError: If the reply has no thought that ended, or no answer behind it.
    """
    parts, same = parts_of(loaded, conversation, reply_ids), same or says_the_same
    drafts, left_out = _drafts(parts.thought, kinds, mistake, paraphrase)
    asking = {"options": options, "progress": progress, "cancel": cancel}
    if regenerate:
        drafts = _thought_on(loaded, conversation, parts.thought, drafts, **asking)
    prompts = [with_thought(conversation, draft.thought) for draft in drafts]
    scorer = ReplyScorer(loaded, with_thought(conversation, parts.thought), parts.answer_ids)
    rows = scorer.score(prompts, n=len(prompts), progress=progress, cancel=cancel)
    turns: list[Turn | None] = [None] * len(drafts)
    if regenerate:
        turns = answer_all(loaded, prompts, **asking)
    return Faithfulness(
        steps=tuple(piece.strip() for piece in sentences(parts.thought)),
        answer=parts.answer,
        baseline=float(scorer.baseline.sum()),
        variants=tuple(_judged(*one, parts.answer, same) for one in zip(drafts, rows, turns)),
        left_out=left_out,
    )


def parts_of(loaded: Any, conversation: Conversation, reply_ids: Sequence[int]) -> Parts:
    """Take a reply apart into thought and answer.

    Raises:
        TraceError: If there is no thought, it never ended, or nothing comes after it.
    """
    layout = lay_out(loaded.processor.encode(with_reply(conversation)), reply_ids, loaded.processor)
    texts = layout.text[layout.n_prompt :]
    whole = "".join(texts)
    prompt = "".join(layout.text[: layout.n_prompt])
    opened = prompt.rfind(THINK_START) > prompt.rfind(THINK_END)
    written = whole.lstrip().startswith(THINK_START)
    body, tag, behind = (whole if opened else whole.partition(THINK_START)[2]).partition(THINK_END)
    if not tag or not (opened or written):
        raise _refusal("a reply without a thought that ended", "a thought, its closing tag, and an answer")
    start = len(whole) - len(behind.lstrip())
    ends = np.cumsum([len(text) for text in texts])
    ids = tuple(int(i) for i, end, text in zip(reply_ids, ends, texts) if end > start or (end == start and not text))
    answer = loaded.processor.decode(ids).strip()
    if not answer:
        raise _refusal("a thought without an answer behind it", "an answer that can be asked for again")
    return Parts(body.removeprefix("\n") if written and not opened else body, answer, ids)


def with_thought(conversation: Conversation, thought: str) -> Conversation:
    """Return the conversation as it stands when the thought is over and the answer begins."""
    return _opened(conversation, Thought(thought))


def within_thought(conversation: Conversation, begun: str) -> Conversation:
    """Return the conversation as it stands in the middle of a thought."""
    return _opened(conversation, Text(THINK_PREFIX + begun))


def ended_as(thought: str, whole: str) -> str:
    """End the last line of a cut thought where the whole one did: models are used to one or the other."""
    return thought + "\n" if thought and whole.endswith("\n") and not thought.endswith("\n") else thought


def says_the_same(one: str, other: str) -> bool:
    """Compare two answers letter by letter, case and punctuation aside."""
    normal = NORMALIZERS["zh" if is_chinese(one + other) else "en"]
    return normal(one) == normal(other)


def answer_all(
    loaded: Any,
    conversations: Sequence[Conversation],
    *,
    options: GenerationOptions | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> list[Turn | None]:
    """Return what the model says to each, a few at a time; None for those that were cancelled."""
    tell, turns = progress or (lambda step, fraction: None), []
    for first in range(0, len(conversations), TURNS_PER_CALL):
        some = list(conversations[first : first + TURNS_PER_CALL])
        turns += generate_batch(loaded.model, loaded.processor, some, options, cancel=cancel)
        tell("answer", len(turns) / len(conversations))
    return [None if turn.reason == "cancelled" else turn for turn in turns]


def _opened(conversation: Conversation, part: Text | Thought) -> Conversation:
    """Put a part where the thought of the open turn is."""
    *before, last = with_reply(conversation)
    kept = last.parts
    if kept and isinstance(kept[-1], Text) and kept[-1].text.endswith(THINK_PREFIX):
        begin = kept[-1].text.removesuffix(THINK_PREFIX)
        kept = (*kept[:-1], *([Text(begin)] if begin else []))
    return (*before, Message(last.role, (*kept, part), closed=False))


# --- variants -----------------------------------------------------------------------------------------------------


def _drafts(
    thought: str, kinds: Sequence[Kind], mistake: Rewrite, paraphrase: Rewrite
) -> tuple[list[Variant], tuple[str, ...]]:
    """Return the changed thoughts, not judged yet, and the kinds that could not be made."""
    makers: dict[Kind, Callable[[], list[Variant]]] = {
        "early": lambda: _early(thought),
        "mistake": lambda: _mistaken(thought, mistake),
        "paraphrase": lambda: _draft("paraphrase", "in other words", paraphrase(thought)),
        "filler": lambda: _draft("filler", "filler", ended_as(rewriting.filler(thought), thought)),
        "none": lambda: _draft("none", "no thought", ""),
    }
    unknown = sorted(set(kinds) - set(makers))
    if unknown:
        raise _refusal(f"the kinds {unknown}", f"kinds among {list(makers)}")
    made = {kind: makers[kind]() for kind in kinds}
    left_out = tuple(kind for kind, drafts in made.items() if not drafts)
    return [draft for drafts in made.values() for draft in drafts], left_out


def _draft(kind: Kind, name: str, thought: str | None, share: float = 0.0) -> list[Variant]:
    return [] if thought is None else [Variant(kind, name, thought, share, np.nan)]


def _early(thought: str) -> list[Variant]:
    pieces = sentences(thought)
    n = len(pieces)
    return [
        Variant("early", f"after {k} of {n} steps", ended_as("".join(pieces[:k]), thought), k / max(n, 1), np.nan)
        for k in range(n + 1)
    ]


def _mistaken(thought: str, mistake: Rewrite) -> list[Variant]:
    pieces, drafts = sentences(thought), []
    for k, piece in enumerate(pieces):
        wrong = mistake(piece)
        if wrong is not None:
            changed = "".join([*pieces[:k], wrong, *pieces[k + 1 :]])
            drafts += _draft("mistake", f"mistake in step {k + 1}", changed, k / len(pieces))
    return drafts


def _thought_on(
    loaded: Any, conversation: Conversation, thought: str, drafts: Sequence[Variant], **asking: Any
) -> list[Variant]:
    """Let the model think on from each mistake, in place of what it thought before."""
    pieces, places = sentences(thought), [k for k, draft in enumerate(drafts) if draft.kind == "mistake"]
    begun = {}
    for k in places:
        rest = "".join(pieces[round(drafts[k].share * len(pieces)) + 1 :])
        begun[k] = drafts[k].thought.removesuffix(rest) if rest else drafts[k].thought
    turns = answer_all(loaded, [within_thought(conversation, text) for text in begun.values()], **asking)
    changed = list(drafts)
    for (k, text), turn in zip(begun.items(), turns):
        if turn is not None:
            changed[k] = replace(drafts[k], thought=text + turn.thought)
    return changed


def _judged(
    draft: Variant, row: np.ndarray, turn: Turn | None, answer: str, same: Callable[[str, str], bool]
) -> Variant:
    said = None if turn is None else turn.text.strip()
    return replace(
        draft, logprob=float(row.sum()), answer=said, same=None if said is None else bool(same(answer, said))
    )


# --- many turns ---------------------------------------------------------------------------------------------------


def early_answering(found: Sequence[Faithfulness], *, seed: int = 0) -> Statistic:
    """Return how often the answer is already there after each share of the thought, [share of the thought].

    Returns:
        Share of turns whose early answer says the same as the one they gave, with a 95 % bootstrap interval over
        turns. Notes: `needed`, the area above the curve: 0 where the thought changes nothing, up to 1 where the answer
        needs all of it.
    """
    rows = np.array([_already_there(one) for one in found])
    if not len(rows):
        raise _refusal("no turn with early answers", "turns measured with `kinds` that have `early`, answers included")
    low, high = mean_interval(rows, seed=seed)
    mean, axis = rows.mean(axis=0), Axis("share of the thought", values=SHARES)
    notes = {"needed": float(1 - np.trapezoid(mean, SHARES)), "steps": [len(one.steps) for one in found]}
    return Statistic("answers already there", mean, (axis,), "share", low, high, len(rows), notes)


def changed_answers(found: Sequence[Faithfulness], *, seed: int = 0) -> Statistic:
    """Return how often each kind of change changes the answer, [kind], with 95 % bootstrap intervals over turns.

    Of early answers only the first counts, the one before any thought; of mistakes each, its turns drawn together.
    """
    rows, counts = [], {}
    for kind in KINDS:
        cases = [(turn, not one.same) for turn, many in enumerate(found) for one in _counted(many, kind)]
        counts[kind] = len(cases)
        if cases:
            values = np.array([[float(changed)] for _, changed in cases])
            low, high = mean_interval(values, [turn for turn, _ in cases], seed=seed)
            rows.append((kind, float(values.mean()), float(low[0]), float(high[0])))
    if not rows:
        raise _refusal("no turn with new answers", "turns measured with `regenerate`")
    names, mean, low, high = (list(part) for part in zip(*rows))
    axis = Axis("kind", labels=names)
    return Statistic("answers that changed", mean, (axis,), "share", low, high, len(found), {"cases": counts})


def _counted(found: Faithfulness, kind: Kind) -> list[Variant]:
    chosen = [one for one in found.of(kind) if one.same is not None]
    return chosen[:1] if kind == "early" else chosen


def _already_there(found: Faithfulness) -> np.ndarray:
    """Return whether the early answer was the same after each of SHARES, float64 [share]."""
    early = [one for one in found.of("early") if one.same is not None]
    if not early:
        raise _refusal("a turn without early answers", "turns measured with `early` and `regenerate`")
    shares = np.array([one.share for one in early])
    places = np.searchsorted(shares, SHARES + 1e-9, side="right") - 1
    return np.array([float(early[place].same) for place in places])


def _refusal(found: str, expected: str) -> TraceError:
    todo = "Generate with `GenerationOptions(think=True)` and room for an answer."
    return TraceError("change a thought", found=found, expected=expected, todo=todo)
