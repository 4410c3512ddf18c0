"""The rows of the card beyond recognition: asked as in training, scored by the task, beside the right baselines.

The answers come from a stand-in for generation that knows the truth or says the same to everything.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from analysis.evaluation import answers, tasks
from model.audio import Waveform
from model.chat import split_thought
from model.events import Turn
from model.training import corpus as corpora
from model.training import talk_corpus
from model.training.corpus import Clip


class _Quiet:
    """Makes a second of noise of every clip; its plan is left to the reader."""

    def make(self, clip):
        samples = np.random.default_rng(len(clip.id)).normal(0, 0.1, 16_000).astype(np.float32)
        return Waveform(samples, 16_000), (), dict(clip.labels)


def _made(folder, clips, monkeypatch):
    monkeypatch.setattr(corpora, "_MAKER", _Quiet())
    (folder / "sound").mkdir(parents=True)
    corpora._build_shard(str(folder), 0, clips, keep_sound=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    for language in ("en", "zh"):
        clips = []
        for kind in talk_corpus.SHARES:
            for k in range(4):
                talk = talk_corpus.draw(kind, language, rng, held_out=True)
                clips.append(
                    Clip(f"{kind}-{language}-{k}", "test", language, talk_corpus.said_last(talk), voice="v",
                         labels={"kind": kind, "gender": "male"}, plan={"talk": talk_corpus.to_plan(talk)})
                )  # fmt: skip
        _made(tmp_path / f"test_voices_{language}", clips, monkeypatch)
    return tmp_path


def _model(monkeypatch, say):
    """A loaded model whose replies are `say(conversation)`; returns it and the conversations it was asked."""
    asked = []

    def generate(model, processor, conversations, options):
        asked.extend(conversations)
        said = [say(conversation) for conversation in conversations]
        return [
            Turn(split_thought(text, opened="</think>" in text).answer, "", (), (text,), (), "stop", 1, 1, 0.1)
            for text in said
        ]

    monkeypatch.setattr(answers, "generate_batch", generate)
    processor = SimpleNamespace(decode=lambda ids, keep_special: ids[0])
    return SimpleNamespace(model=None, processor=processor, has_voice=False), asked


def test_a_model_that_says_nothing_is_never_right(folder, monkeypatch):
    loaded, asked = _model(monkeypatch, lambda conversation: "")
    metrics = tasks.chat(loaded, folder)
    assert len(metrics) == 4 and all(metric.value == 0 for metric in metrics)
    assert {metric.n for metric in metrics} == {8, 4} and len(asked) == 24


def test_calls_count_where_the_tool_was_on_offer(folder, monkeypatch):
    call = '<tool_call>function\nget_weather\n{"location": "Mars"}</tool_call>'
    loaded, asked = _model(monkeypatch, lambda conversation: call)
    found = {metric.name.split(", ")[1]: metric for metric in tasks.tools(loaded, folder)}
    rows = [row for pairs in tasks._talk(folder, None, ("tools",)).values() for row in pairs]
    wanted = [talk_corpus.from_plan(row.clip.plan["talk"]).call is not None for _, row in rows]
    offered = ["get_weather" in conversation[1].parts[0].text for conversation in asked]
    made = [offer for want, offer in zip(wanted, offered, strict=True) if want]
    assert len(asked) == 8 and any(wanted) and not all(wanted)
    assert found["recall"].value == pytest.approx(100 * np.mean(made))
    assert "parameters" not in found or found["parameters"].value == 0


def test_thoughts_are_judged_by_the_sound(folder, monkeypatch):
    loaded, _ = _model(monkeypatch, lambda conversation: "The speaker is a woman.\n</think>\n\nFine.")
    metrics = tasks.thinking(loaded, folder)
    right = [metric for metric in metrics if "right answers" in metric.name]
    assert len(metrics) == 4 and all(0 <= metric.value <= 100 for metric in metrics)
    assert all("mean thought" in metric.note for metric in right)


def test_translation_scores_only_clips_that_have_one(tmp_path, monkeypatch):
    clips = [
        Clip(f"c{k}", "test", "en", "Turn left.", voice="v", labels={"translation": f"向左转{k}个弯。"} if k else {})
        for k in range(4)
    ]
    _made(tmp_path / "test_voices_en", clips, monkeypatch)
    perfect = iter(["向左转1个弯。", "向左转2个弯。", "向左转3个弯。"])
    loaded, asked = _model(monkeypatch, lambda conversation: next(perfect))
    (metric,) = tasks.translation(loaded, tmp_path)
    assert metric.n == len(asked) == 3 and metric.value == pytest.approx(100)
    assert "constant answer" in metric.baseline and not metric.baseline.startswith("100")


def test_paralinguistics_weighs_every_dimension_the_same(tmp_path, monkeypatch):
    labels = [{"gender": "male", "speed": "fast"}, *[{"gender": "male"}] * 3]
    clips = [Clip(f"c{k}", "test", "en", "Turn left.", voice="v", labels=known) for k, known in enumerate(labels)]
    _made(tmp_path / "test_voices_en", clips, monkeypatch)
    loaded, _ = _model(monkeypatch, lambda conversation: "It is a man who speaks.")
    mean, *parts = tasks.paralinguistics(loaded, tmp_path)
    assert {part.name.split(": ")[1]: part.n for part in parts} == {"gender": 4, "speed": 1}
    assert mean.value == pytest.approx(np.mean([part.value for part in parts]))
    assert mean.n == 5 and "100.0 %" in mean.baseline


def test_nothing_to_measure_gives_no_metric(tmp_path, monkeypatch):
    loaded, _ = _model(monkeypatch, lambda conversation: "")
    assert all(measure(loaded, tmp_path) == [] for measure, _ in tasks.EVALUATIONS.values())
