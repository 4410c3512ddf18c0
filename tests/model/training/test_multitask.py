"""The main stage: items ask as the tasks ask, labels are the reply, placeholders fit the sound, and the loss falls."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from model.chat import split_thought, unpack_ta4
from model.messages import ToolCall
from model.processing_step_audio_2 import StepAudio2Processor
from model.tasks import prompts
from model.tasks.asr import ASR
from model.tasks.audio_questions import AudioQuestions
from model.tasks.chat import Chat
from model.tasks.paralinguistics import Paralinguistics
from model.tasks.thinking import Thinking, false_claims
from model.tasks.tool_calls import ToolUse
from model.tasks.translation import Translation
from model.tasks.tts import TTS
from model.tokens import Kind
from model.training import mixture, multitask, talk_corpus
from model.training.corpus import Clip, Corpus, Row
from model.training.mixture import Mixture, Reading
from model.training.multitask import IGNORED, MultitaskStage, cut, lay, stack
from model.training.talk_examples import sound_labels
from model.training.world import sides
from tests.model.training.test_asr_stage import NANO

SAMPLES, FRAMES = 16_000, 102


def _write(folder, clips):
    """A corpus of one-second noise: the first half is the watched shard."""
    folder.mkdir(parents=True)
    half = len(clips) // 2
    for shard, part in enumerate((clips[:half], clips[half:])):
        rows = [Row(clip, shard, k * FRAMES, FRAMES, SAMPLES) for k, clip in enumerate(part)]
        mels = np.random.default_rng(shard).normal(size=(len(part) * FRAMES, 128))
        mels.astype(np.float16).tofile(folder / f"shard_{shard:04d}.f16")
        lines = [json.dumps(asdict(row), ensure_ascii=False) for row in rows]
        (folder / f"shard_{shard:04d}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Corpus(folder)


def _talk_clips(count=8):
    rng, clips = np.random.default_rng(3), []
    for language in ("en", "zh"):
        for kind in talk_corpus.SHARES:
            for k in range(count):
                talk = talk_corpus.draw(kind, language, rng, held_out=False)
                labels = {"kind": kind, "gender": "female"}
                if kind == "feelings":
                    labels["emotion"] = talk.exchanges[-1].manner
                clips.append(
                    Clip(f"talk-{language}-{kind}-{k}", "talk", language, talk_corpus.said_last(talk), labels=labels,
                         plan={"talk": talk_corpus.to_plan(talk)})
                )  # fmt: skip
    return [clips[k] for k in rng.permutation(len(clips))]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    sentences = [
        clip
        for k in range(6)
        for clip in (
            Clip(f"world-en-{k}", "world", "en", "Turn left.", labels={"translation": "向左转。"}),
            Clip(f"salad-{k}", "world", "zh", "灯打开左。"),
        )
    ]
    sounds = [Clip(f"task-{k}", "task", "en", "Turn left.", voice="v", labels={"gender": "female"}) for k in range(6)]
    questions = [Clip(f"ask-{k}", "ask", "en", "Who speaks?", voice="v", labels={"dimension": "gender"}) for k in "ab"]
    made = {"sentences": sentences, "sounds": sounds, "questions": questions, "talks": _talk_clips()}
    return [_write(folder / name, clips) for name, clips in made.items()]


@pytest.fixture(scope="module")
def processor():
    return StepAudio2Processor.from_pretrained(NANO)


READINGS = ([Reading("Turn left.", tuple(range(9)))], [Reading("打开灯。", (5, 6))])


@pytest.fixture(scope="module")
def items(corpora):
    return list(Mixture(*corpora, READINGS, rng=np.random.default_rng(0)).items(150))


def _text(item):
    return "".join(getattr(part, "text", "") for part in item.reply)


def test_every_task_comes_by_its_share(corpora, items):
    tasks = [item.task for item in items]
    assert set(tasks) == set(mixture.WEIGHTS)
    assert tasks.count("asr") > tasks.count("thinking")
    alone = Mixture(corpora[0], None, None, None, rng=np.random.default_rng(0))
    assert set(alone.sources) == {"asr", "translation", "typed"}


def test_the_app_is_told_tasks_by_their_own_names(corpora):
    names = {task.name for task in (ASR, AudioQuestions, Chat, Paralinguistics, Thinking, ToolUse, Translation, TTS)}
    assert set(multitask.trained_tasks(mixture.WEIGHTS)) == names


def test_watched_clips_are_never_trained_on(corpora, items):
    watched = list(Mixture(*corpora, rng=np.random.default_rng(0), watched=True).items(60))
    first = {sound.row.clip.id for item in items for sound in item.heard if sound.corpus is not corpora[2]}
    second = {sound.row.clip.id for item in watched for sound in item.heard if sound.corpus is not corpora[2]}
    assert first and second and first.isdisjoint(second)


def test_only_sentences_with_a_translation_are_translated(items):
    found = [item for item in items if item.task == "translation"]
    assert found and all(_text(item) == "向左转。" for item in found)
    assert all(item.conversation[0].parts[0].text == prompts.TRANSLATE_TO_ZH for item in found)


def test_typed_sentences_are_new_each_time_and_of_the_training_side(items):
    found = [item for item in items if item.task == "typed"]
    asked = [item.conversation[1].parts[0].text for item in found]
    assert len(set(asked)) == len(asked) > 5 and not any(item.heard for item in found)
    assert not any(sides.gives_away(text) for text in asked)


def test_thoughts_claim_nothing_that_the_sound_does_not_say(items):
    found = [item for item in items if item.task == "thinking"]
    assert found
    for item in found:
        split = split_thought(_text(item), opened=True)
        assert split.finished and split.thought and split.answer
        labels = sound_labels(item.heard[-1].row) if item.heard else {}
        example = type("E", (), {"metadata": {"sound": labels}})
        assert not false_claims(split.thought, example)


def test_tools_on_offer_hold_the_one_that_is_called(items):
    found = [item for item in items if item.task == "tools"]
    calls = [(item, part) for item in found for part in item.reply if isinstance(part, ToolCall)]
    assert calls and len(calls) < len(found)
    for item, call in calls:
        assert f'"name": "{call.name}"' in item.conversation[1].parts[0].text


def test_placeholders_and_labels_fit(processor, items):
    laid = [lay(item, processor) for item in items]
    for one in laid:
        heard = one.item.heard
        assert one.prompt.count(processor.ids.audio_start) == len(heard)
        assert one.prompt.count(processor.ids.audio_patch) == 13 * len(heard)  # one second each
        assert one.reply[-1] == processor.ids.eot and len(one.reply) > 1
    batch = stack(laid, processor.ids.pad, None)
    for k, one in enumerate(laid):
        assert batch.labels[k][batch.labels[k] != IGNORED].tolist() == one.reply
        assert batch.mask[k].sum() == len(one)
    noisy = stack(laid, processor.ids.pad, np.random.default_rng(0))
    assert torch.equal(noisy.labels, batch.labels)
    changed = (noisy.ids != batch.ids)[batch.labels != IGNORED].float().mean()
    assert 0.02 < changed < 0.3 and not (noisy.ids != batch.ids)[batch.labels == IGNORED].any()


def test_a_text_read_aloud_is_text_and_codes_in_turn(processor, items):
    ids, found = processor.ids, [item for item in items if item.task == "tts"]
    laid = lay(found[0], processor)
    assert laid.prompt[-1] == ids.tts_start and laid.reply[-2:] == [ids.tts_end, ids.eot]
    spoken = unpack_ta4(laid.reply[:-1], ids)
    assert spoken.codes == tuple(range(9)) and spoken.finished
    assert processor.decode(spoken.text_ids) == "Turn left."
    assert ids.kind(laid.reply[0]) is Kind.TEXT and [ids.kind(i) for i in laid.reply[1:5]] == [Kind.AUDIO_OUT] * 4


def test_batches_keep_their_budgets_and_lose_nothing(processor, items):
    laid = [lay(item, processor) for item in items]
    made = cut(laid, positions=2000, frames=1000, rng=np.random.default_rng(0))
    assert sorted(map(id, laid)) == sorted(id(one) for batch in made for one in batch)
    for batch in made:
        assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= 2000
        assert len(batch) == 1 or sum(one.frames for one in batch) <= 1000


def test_a_few_steps_lower_the_loss_of_every_kind(corpora, processor, monkeypatch):
    def small(ids, vocabulary):
        config = nano_config(ids, vocabulary)
        config.text_config.num_hidden_layers = 2
        config.text_config.layer_types = config.text_config.layer_types[:2]
        return config

    nano_config = multitask.nano_config
    monkeypatch.setattr(multitask, "nano_config", small)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    short = {task: share for task, share in mixture.WEIGHTS.items() if task not in ("tools", "tts")}
    mixtures = [Mixture(*corpora, rng=rng, watched=watched, weights=short) for watched in (False, True)]
    monkeypatch.setattr(multitask, "WATCHED_ITEMS", 8)
    stage = MultitaskStage(*mixtures, processor, encoder=None, frames=2000, positions=3000,
                           device=torch.device("cpu"), rng=rng)  # fmt: skip
    batch = [lay(item, processor) for item in mixtures[0].items(4)]
    optimizer = multitask.loop.optimizer_for(stage.module, weight_decay=0.0, lr_shares=stage.lr_shares)
    values = []
    for _ in range(7):
        loss, numbers = stage.loss(batch, 0.0)
        multitask.loop.step_optimizer(loss, optimizer, 3e-3)
        values.append(numbers["loss"])
    assert values[-1] < 0.8 * values[0]
    report = stage.report()
    assert set(report) == {f"right_{task}" for task in short}
    assert all(np.isnan(value) or 0 <= value <= 1 for value in report.values())
