"""Clips for talking with the assistant: what a person says, and what is right to reply.

    facts      a question of the world                           "What is two plus three?"
    dialogue   the last turn of a short talk, earlier turns typed
    feelings   the same words, said in four ways, want four replies
    tools      a request that needs a tool, or only sounds as if

Everything that is needed to reply lies in `Clip.plan["talk"]`, so that training and tests read the same rows.
`python -m model.training.talk_corpus --out runs/talk_corpus --recordings DIR` makes training and test clips.
"""

import argparse
import zlib
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from model.messages import ToolCall
from model.training import corpus, voices
from model.training.corpus import Clip
from model.training.recordings import Recordings
from model.training.task_corpus import TaskMaker, spoken_clip
from model.training.world import dialogue, facts, tool_scripts
from model.training.world.delivery import Delivery
from model.training.world.dialogue import Dialogue
from model.training.world.facts import Exchange
from model.training.world.tool_scripts import ToolScript

HELD_OUT_SEED = 79
SHARES = {"facts": 0.35, "dialogue": 0.2, "feelings": 0.2, "tools": 0.25}
AUGMENTED_SHARE = 0.3
Talk = Dialogue | ToolScript


def draw(kind: str, language: str, rng: np.random.Generator, *, held_out: bool) -> Talk:
    """Draw one talk of a kind; its last exchange is the one that is spoken and replied to."""
    if kind == "facts":
        return Dialogue((facts.sample(rng, language, held_out=held_out),))
    if kind == "feelings":
        return Dialogue((dialogue.sample_feeling(rng, language, held_out=held_out),))
    if kind == "dialogue":
        return dialogue.sample(rng, language, held_out=held_out)
    return tool_scripts.sample(rng, language, held_out=held_out)


def said_last(talk: Talk) -> str:
    """What the person says last."""
    return talk.human if isinstance(talk, ToolScript) else talk.exchanges[-1].human


def to_plan(talk: Talk) -> dict[str, Any]:
    """Write a talk as JSON would hold it."""
    if isinstance(talk, Dialogue):
        return {"exchanges": [asdict(exchange) for exchange in talk.exchanges]}
    return {"script": asdict(talk) | {"now": talk.now.isoformat(), "call": asdict(talk.call) if talk.call else None}}


def from_plan(plan: dict[str, Any]) -> Talk:
    """Read a talk back, whether it was through JSON or not."""
    if "exchanges" in plan:
        return Dialogue(tuple(Exchange(**_tuples(exchange)) for exchange in plan["exchanges"]))
    script = _tuples(plan["script"])
    call = ToolCall(**script["call"]) if script["call"] else None
    return ToolScript(**script | {"now": datetime.fromisoformat(script["now"]), "call": call})


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    """Turn the lists of JSON into tuples again."""
    return {k: tuple(tuple(x) if isinstance(x, list) else x for x in v) if isinstance(v, list) else v
            for k, v in data.items()}  # fmt: skip


def plan(
    name: str, language: str, count: int, *, split: str, held_out: bool, recordings: Recordings, seed: int
) -> list[Clip]:
    """Plan `count` spoken turns.

    Args:
        name: First part of the ids, and the source.
        language: "en" or "zh".
        count: Number of clips.
        split: Split of the voices.
        held_out: Which side the talk is drawn from.
        recordings: Recorded units of Mandarin.
        seed: The same seed plans the same.

    Raises:
        RuntimeError: If no voice of the split is installed.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}{language}talk".encode())])
    draw_voice: Callable = corpus._voice_draw(language, split, recordings, rng)
    made = []
    for i in range(count):
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        talk = draw(kind, language, rng, held_out=held_out)
        manner = "" if isinstance(talk, ToolScript) else talk.exchanges[-1].manner
        voice = draw_voice()
        while manner and voice.gender == "child":  # feelings are put on voices of adults only
            voice = draw_voice()
        clip = spoken_clip(
            f"{name}-{language}-{i:05d}", name, language, said_last(talk), voice.name,
            Delivery(emotion=manner) if manner else Delivery(),
            augmented=not held_out and not manner and rng.random() < AUGMENTED_SHARE, labels={"kind": kind},
        )  # fmt: skip
        clip.plan["talk"] = to_plan(talk)
        made.append(clip)
    return made


def plans(recordings: Recordings, *, english: int, mandarin: int, tests: int, seed: int) -> dict[str, list[Clip]]:
    """All corpora by name: `train`, and `test_voices_*`; see `corpus.plans`."""
    train = []
    for language, count in (("en", english), ("zh", mandarin)):
        train += plan("talk", language, count, split=voices.TRAIN, held_out=False, recordings=recordings, seed=seed)
    np.random.default_rng(seed).shuffle(train)  # type: ignore[arg-type]
    made = {"train": train}
    for language in ("en", "zh"):
        made[f"test_voices_{language}"] = plan(
            "test_talk", language, tests, split=voices.HELD_OUT_VOICE, held_out=True, recordings=recordings,
            seed=HELD_OUT_SEED,
        )  # fmt: skip
    return made


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/talk_corpus"))
    parser.add_argument("--recordings", help="folder with manifest.jsonl and the zips of recordings (optional)")
    parser.add_argument("--english", type=int, default=5000, help="English training turns")
    parser.add_argument("--mandarin", type=int, default=4000, help="Mandarin training turns")
    parser.add_argument("--tests", type=int, default=300, help="turns in each held-out set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="make only the corpora whose name begins like this")
    args = parser.parse_args()
    made = plans(
        Recordings(args.recordings), english=args.english, mandarin=args.mandarin, tests=args.tests, seed=args.seed
    )
    for told in corpus.build_all(made, args, TaskMaker):
        print(told)


if __name__ == "__main__":
    main()
