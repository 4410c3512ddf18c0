"""Clips for the questions about a sound: how it was said, by whom, where, what else is heard, simple music.

    plans    who says what, how, and in which scene             dict[str, list[Clip]], the same for the same seed
    build    speak, deliver, mix; labels that hold               `corpus.build` with :class:`TaskMaker`
    read     `corpus.Corpus`; questions by `task_questions`

Everything is drawn twice, once for training and once for tests, from sides that never meet: voices by their split,
recordings by theirs (training "train", tests "dev" and "test"), sentences and pairs of labels by the fixed hash of
`grammar`, tunes by their key, questions by the `held` lines of their table.

`python -m model.training.task_corpus --out runs/task_corpus --recordings DIR` makes all of them.
"""

import argparse
import zlib
from dataclasses import asdict, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from model.audio import Waveform
from model.errors import StepAudioError
from model.tasks import paralinguistics
from model.training import augment, corpus, voices
from model.training.corpus import Clip
from model.training.engines import Prosody
from model.training.mandarin import Mandarin
from model.training.recordings import Recordings
from model.training.synthesis import synthesize
from model.training.world import delivery as deliveries
from model.training.world import grammar, scenes, tunes
from model.training.world.delivery import Delivery
from model.training.world.scenes import Scene, SoundEvent, SoundLibrary
from model.training.world.tunes import Tune

HELD_OUT_SPLITS = ("dev", "test")
HELD_OUT_SEED = 78
_EXTRA_SHARE = 0.4
"""Share of clips that carry a second label that their first leaves room for."""
_EXTRAS = ("timbre", "rhythm", "speed", "pitch")
_AUGMENTED_SHARE, _AUGMENTED_STRENGTH = 0.4, 0.4
_AUGMENTED = frozenset({"gender", "age", "emotion", "pitch", "rhythm", "speed", "style"})
"""Dimensions whose clips may be put into a random place; the others are about the place or the colour."""
_RECORDED_EMOTIONS = frozenset({"neutral", "happy", "sad", "angry", "fearful", "surprised"})
QUESTION_VOICES = 8
"""Voices that speak each question, at most."""


# --- plan ---------------------------------------------------------------------------------------------------------


def spoken_clip(
    id: str,
    source: str,
    language: str,
    text: str,
    voice: str,
    delivery: Delivery,
    scene: Scene | None = None,
    **more: Any,
) -> Clip:
    """Plan one sentence that is said in a certain way and place; the door for other corpora, such as emotional chat."""
    plan: dict[str, Any] = {"delivery": delivery.labels()}
    if scene is not None:
        plan["scene"] = asdict(scene)
    return Clip(id, source, language, text, voice=voice, plan=plan, **more)


def is_held_combination(delivery: Delivery) -> bool:
    """Whether two labels of a delivery may never stand together in training."""
    names = [f"{dimension} {label}" for dimension, label in delivery.labels().items()]
    return any(grammar.is_held_pair(a, b) for a, b in combinations(names, 2))


def _draw_delivery(dimension: str, label: str, rng: np.random.Generator, *, held_out: bool) -> Delivery:
    """The wanted label, at times with a second one that changes something else."""
    wanted = {} if dimension in ("gender", "event", "scenario", "vocal") else {dimension: label}
    plain = Delivery(**wanted, vocal=label if dimension == "vocal" else None)
    if rng.random() >= _EXTRA_SHARE or dimension == "timbre":
        return plain
    extra = _EXTRAS[rng.integers(len(_EXTRAS))]
    names = deliveries.labels(extra)
    try:
        both = Delivery(**{**plain.labels(), extra: names[rng.integers(len(names))]})
    except ValueError:  # the table lets them change the same thing
        return plain
    if extra in plain.labels() or (is_held_combination(both) and not held_out):
        return plain
    return both


def _draw_scene(dimension: str, label: str, library: SoundLibrary, rng: np.random.Generator) -> Scene | None:
    if dimension == "scenario":
        return library.place_scene(label, rng)
    if dimension in ("event", "vocal"):
        return Scene(events=(library.single(label, rng),))
    return None


def _candidates(dimension: str, library: SoundLibrary) -> tuple[str, ...]:
    """Labels of a dimension that can be made here."""
    if dimension == "gender":
        return ("any",)
    made = {"scenario": library.places, "event": library.events, "vocal": library.vocals}
    return made[dimension]() if dimension in made else deliveries.labels(dimension)


def plan_speech(
    name: str, language: str, count: int, *, split: str, held_out: bool, recordings: Recordings, seed: int
) -> list[Clip]:
    """Plan `count` sentences, the dimensions and the labels of each as even as they can be.

    Args:
        name: First part of the ids, and the source.
        language: "en" or "zh".
        count: Number of clips.
        split: Split of the voices.
        held_out: Sentences, recordings and pairs of labels of the test side.
        recordings: What sounds are there; without any, only deliveries, halls and telephones.
        seed: The same seed plans the same.

    Raises:
        RuntimeError: If no voice of the split is installed.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}{language}".encode())])
    library = SoundLibrary(recordings, HELD_OUT_SPLITS if held_out else ("train",))
    known = {d: names for d in paralinguistics.DIMENSIONS if (names := _candidates(d, library))}
    draw_voice = corpus._voice_draw(language, split, recordings, rng)
    sentences = grammar.sample_many(count, seed, held_out=held_out)
    plan, turns = [], {d: int(rng.integers(len(names))) for d, names in known.items()}
    for i, sentence in enumerate(sentences):
        dimension = tuple(known)[i % len(known)]
        label = known[dimension][turns[dimension] % len(known[dimension])]
        turns[dimension] += 1
        delivery = _draw_delivery(dimension, label, rng, held_out=held_out)
        voice = draw_voice()
        if voice.gender == "child":  # a child already: nothing else is changed
            delivery = Delivery(vocal=delivery.vocal)
        scene = _draw_scene(dimension, label, library, rng)
        augmented = not held_out and dimension in _AUGMENTED and rng.random() < _AUGMENTED_SHARE
        plan.append(
            spoken_clip(
                f"{name}-{language}-{i:05d}", name, language, sentence.text(language), voice.name, delivery, scene,
                augmented=augmented,
            )
        )  # fmt: skip
    return plan


def plan_emotions(name: str, recordings: Recordings, *, splits: tuple[str, ...]) -> list[Clip]:
    """Plan the real people who act emotions."""
    rows = recordings.select(dataset="csemotions", split=splits, max_seconds=corpus.MAX_SECONDS)
    return [
        Clip(f"{name}-{row.id.replace('/', '__')}", name, "zh", "", recording=row.id,
             labels={"emotion": row.more["emotion"]} | ({"gender": g} if (g := row.more.get("gender")) else {}))
        for row in rows if row.more.get("emotion") in _RECORDED_EMOTIONS
    ]  # fmt: skip


def plan_sounds(name: str, recordings: Recordings, *, splits: tuple[str, ...]) -> list[Clip]:
    """Plan the recordings of single sounds by themselves."""
    known = paralinguistics.labels("event")
    return [
        Clip(f"{name}-{row.id.replace('/', '__')}", name, "", "", recording=row.id, labels={"event": str(row.event)})
        for row in recordings.select(dataset="esc", split=splits)
        if row.event in known
    ]


def plan_tunes(name: str, count: int, *, held_out: bool, seed: int) -> list[Clip]:
    """Plan `count` tunes."""
    rng = np.random.default_rng([seed, 12, held_out])
    return [
        Clip(f"{name}-{i:05d}", name, "", "", plan={"tune": asdict(Tune.draw(rng, held_out=held_out))})
        for i in range(count)
    ]


def plan_questions(name: str, *, split: str, held_out: bool, recordings: Recordings) -> list[Clip]:
    """Plan the spoken questions: every line of the question table of this side by several voices."""
    made = []
    for language in ("en", "zh"):
        found = voices.available_voices(language, split, inventories=Mandarin(recordings).inventories)
        for dimension in paralinguistics.DIMENSIONS:
            for n, text in enumerate(paralinguistics.questions(dimension, language, held_out=held_out)):
                made += [
                    Clip(f"{name}-{dimension}-{language}{n}-{voice.name}", name, language, text, voice=voice.name,
                         labels={"dimension": dimension}, plan={"delivery": {}})
                    for voice in found[:QUESTION_VOICES]
                ]  # fmt: skip
    return made


def plans(recordings: Recordings, *, speech: int, music: int, tests: int, seed: int) -> dict[str, list[Clip]]:
    """All corpora by name: `train` and `train_questions`, and the same for each held-out side.

    Args:
        recordings: Sounds and people; may be empty.
        speech: Training sentences in each language.
        music: Training tunes.
        tests: Sentences of each language and held-out side; half as many tunes.
        seed: Seed of the training side; the test side has its own.
    """
    options = {"recordings": recordings}
    train: list[Clip] = []
    for language in ("en", "zh"):
        if voices.available_voices(language, voices.TRAIN, inventories=Mandarin(recordings).inventories):
            train += plan_speech("task", language, speech, split=voices.TRAIN, held_out=False, seed=seed, **options)
    train += plan_emotions("people", recordings, splits=("train",)) + plan_sounds(
        "sound", recordings, splits=("train",)
    )
    train += plan_tunes("tune", music, held_out=False, seed=seed)
    np.random.default_rng(seed).shuffle(train)  # type: ignore[arg-type]
    made = {"train": train, "train_questions": plan_questions("ask", split=voices.TRAIN, held_out=False, **options)}
    for split, name in ((voices.HELD_OUT_VOICE, "test_voices"), (voices.HELD_OUT_ENGINE, "test_engine")):
        for language in ("en", "zh"):
            if voices.available_voices(language, split, inventories=Mandarin(recordings).inventories):
                made[f"{name}_{language}"] = plan_speech(
                    name, language, tests, split=split, held_out=True, seed=HELD_OUT_SEED, **options
                )
        made[f"{name}_questions"] = plan_questions(f"{name}_ask", split=split, held_out=True, **options)
    made["test_people"] = plan_emotions("test_people", recordings, splits=HELD_OUT_SPLITS[1:])
    made["test_sounds"] = plan_sounds("test_sound", recordings, splits=HELD_OUT_SPLITS)
    made["test_tunes"] = plan_tunes("test_tune", tests // 2, held_out=True, seed=HELD_OUT_SEED)
    return {name: plan for name, plan in made.items() if plan}


# --- make ---------------------------------------------------------------------------------------------------------


class TaskMaker(corpus._Maker):
    """Turns a plan with a delivery, a scene or a tune into sound, and says which labels hold for it."""

    def make(self, clip: Clip) -> tuple[Waveform, tuple, dict[str, str | float]] | None:
        """Sound (16 kHz), word times and labels of a clip; None when it cannot be made."""
        if not clip.plan:
            made = super().make(clip)
            return None if made is None else (*made, dict(clip.labels))
        rng = np.random.default_rng(zlib.crc32(clip.id.encode()))
        if "tune" in clip.plan:
            tune = Tune(**clip.plan["tune"])
            return tunes.play(tune, rng)[0], (), {**tune.labels(), "event": "music"}
        try:
            return self._spoken(clip, rng)
        except StepAudioError as error:
            corpus.logger.warning("left out: %s", error)
            return None

    def _spoken(self, clip: Clip, rng: np.random.Generator) -> tuple[Waveform, tuple, dict[str, str | float]] | None:
        voice = voices.find_voice(clip.voice)
        prosody = Prosody(pitch=float(rng.uniform(0.96, 1.04)), size=float(rng.uniform(0.98, 1.02)))
        speech = synthesize(clip.text, voice, rng=rng, prosody=prosody, mandarin=self.mandarin)
        words = tuple((w.text, w.start_s, w.end_s) for w in speech.words or ())
        made = deliveries.deliver(
            speech.waveform, Delivery(**clip.plan["delivery"]), rng, text=clip.text, gender=voice.gender, words=words
        )
        labels: dict[str, str | float] = dict(clip.labels) | dict(made.labels)
        if voice.gender == "child":
            labels["age"] = "child"
        sound, words = made.waveform, made.words
        if scene := scene_from(clip.plan.get("scene")):
            mixed = scenes.mix(sound, scene, self._samples, rng)
            words = tuple((w, a + mixed.speech.start_s, b + mixed.speech.start_s) for w, a, b in words)
            labels |= scene_labels(scene, mixed)
            sound = mixed.waveform
        if clip.augmented:
            sound = augment.augment(sound, rng, self.noises, _AUGMENTED_STRENGTH)
        return (sound, words, labels) if corpus.MIN_SECONDS <= sound.duration_s <= corpus.MAX_SECONDS else None

    def _samples(self, recording: str) -> np.ndarray:
        return self.recordings.load(self.rows[recording]).samples


def scene_from(plan: dict[str, Any] | None) -> Scene | None:
    """Read a scene back from a plan, whether it was through JSON or not."""
    if plan is None:
        return None
    known = {f.name: plan[f.name] for f in fields(Scene)}
    return Scene(**{**known, "events": tuple(SoundEvent(**event) for event in plan["events"])})


def scene_labels(scene: Scene, mixed: scenes.Mixed) -> dict[str, str | float]:
    """What a listener can say about a scene: the place, the one other sound, and when both are heard, in seconds."""
    labels: dict[str, str | float] = {"speech_start_s": mixed.speech.start_s, "speech_end_s": mixed.speech.end_s}
    if scene.place is not None:
        labels["scenario"] = scene.place
    for heard in mixed.events:
        labels |= {"event_start_s": heard.start_s, "event_end_s": heard.end_s}
        # Where a place has sounds of its own, "what else do you hear" has no single answer.
        if scene.place is None:
            labels["vocal" if heard.label in scenes.VOCAL.values() else "event"] = heard.label
    return labels


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/task_corpus"))
    parser.add_argument("--recordings", help="folder with manifest.jsonl and the zips of recordings (optional)")
    parser.add_argument("--speech", type=int, default=5500, help="training sentences in each language")
    parser.add_argument("--music", type=int, default=500, help="training tunes")
    parser.add_argument("--tests", type=int, default=330, help="sentences in each held-out set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="make only the corpora whose name begins like this")
    args = parser.parse_args()
    made = plans(Recordings(args.recordings), speech=args.speech, music=args.music, tests=args.tests, seed=args.seed)
    for told in corpus.build_all(made, args, TaskMaker):
        print(told)


if __name__ == "__main__":
    main()
