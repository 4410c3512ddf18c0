"""Streaming equals the official greedy ids, a batch equals its rows, and whatever happens the turn ends in order."""

import threading

import numpy as np
import pytest
import torch

from model.audio import Waveform
from model.chat import PLAIN, Audio, Message, RawIds, Text
from model.errors import ConversationError, OptionsError
from model.events import AudioCodesDelta, StageTiming, TextDelta, ThoughtDelta, TurnDone, collect
from model.generation import CachedDecoder, GenerationOptions, Sampler, encode_sound, generate_batch, stream
from model.processing_step_audio_2 import StepAudio2Processor
from model.reply import Choice, Clock, Detokenizer, Reply, is_looping
from model.tokens import TokenIds
from tests.golden_recipe import read_arrays, read_json, to_float_wave

CASES = read_json("cases.json")["lm"]["cases"]
IDS = TokenIds.official()
TWELVE = GenerationOptions(max_new_tokens=12, repetition_guard=0)


@pytest.fixture(scope="module")
def processor(tokenizer):
    """The official ids around a tokenizer that cannot spell most of them: the golden prompts are ids anyway."""
    return StepAudio2Processor(tokenizer, ids=IDS)


@pytest.fixture(scope="module")
def golden():
    return read_arrays("lm.npz")


@pytest.fixture(scope="module")
def waves():
    arrays = read_arrays("frontend.npz")
    return {k[6:]: Waveform(to_float_wave(v), 16_000) for k, v in arrays.items() if k.startswith("wave__")}


def golden_conversations(case, golden, waves):
    """Conversations whose prompts are the golden ids, sound in its places."""
    clips = iter(CASES[case]["clips"])
    for ids, mask in zip(golden[f"{case}__input_ids"], golden[f"{case}__attention_mask"], strict=True):
        ids, parts, text = ids[mask == 1].tolist(), [], []
        for i in ids:
            if i == IDS.audio_start:
                parts += [RawIds(tuple(text)), Audio(waves[next(clips)])]
                text = []
            elif i not in (IDS.audio_patch, IDS.audio_end):
                text.append(i)
        yield (Message(PLAIN, (*parts, RawIds(tuple(text)))),)


@pytest.mark.parametrize("case", CASES)
def test_streamed_ids_equal_the_official_greedy_ids(case, tiny_model, processor, golden, waves):
    conversations = list(golden_conversations(case, golden, waves))
    assert processor(conversations)["input_ids"].tolist() == golden[f"{case}__input_ids"].tolist()
    for row, conversation in enumerate(conversations):
        turn = collect(stream(tiny_model, processor, conversation, TWELVE))
        assert list(turn.ids) == golden[f"{case}__greedy"][row].tolist()
        assert turn.reason == "length" and turn.new_tokens == 12


@pytest.mark.parametrize("case", ["text", "one_clip", "two_clips"])
def test_repetition_penalty_equals_the_official_one(case, tiny_model, processor, golden, waves):
    (conversation,) = golden_conversations(case, golden, waves)
    options = GenerationOptions(max_new_tokens=12, repetition_penalty=1.3, repetition_guard=0)
    turn = collect(stream(tiny_model, processor, conversation, options))
    assert list(turn.ids) == golden[f"{case}__greedy_rp"][0].tolist()


@pytest.mark.parametrize(
    "options",
    [TWELVE, GenerationOptions(max_new_tokens=12, temperature=0.8, top_k=50, repetition_penalty=1.1, seed=3)],
    ids=["greedy", "drawn"],
)
def test_a_batch_equals_its_rows(options, tiny_model, processor, golden, waves):
    rows = [one for case in CASES for one in golden_conversations(case, golden, waves)]
    batch = generate_batch(tiny_model, processor, rows, options)
    for conversation, turn in zip(rows, batch, strict=True):
        alone = collect(stream(tiny_model, processor, conversation, options))
        assert turn.ids == alone.ids and turn.prompt_tokens == alone.prompt_tokens


def test_cached_logits_equal_uncached_ones(tiny_model, processor, golden, waves):
    (conversation,) = golden_conversations("two_clips", golden, waves)
    prompt = processor.encode(conversation)
    features = encode_sound(tiny_model, prompt)
    decoder, ids = CachedDecoder(tiny_model, processor, [prompt], features), list(prompt.ids)
    for new in (17, 99, 3):
        logits = decoder.step([new])
        ids.append(new)
        with torch.no_grad():
            whole = tiny_model(input_ids=torch.tensor([ids]), audio_features=[f.clone() for f in features])
        assert torch.allclose(logits[0], whole.logits[0, -1], atol=1e-5)


def test_the_seed_decides(tiny_model, processor, golden, waves):
    (conversation,) = golden_conversations("text", golden, waves)

    def draw(seed):
        options = GenerationOptions(max_new_tokens=8, temperature=1.0, top_p=0.9, seed=seed)
        return collect(stream(tiny_model, processor, conversation, options)).ids

    assert draw(1) == draw(1) and draw(1) != draw(2)
    assert draw(None) != draw(None)


def test_events_come_in_order_on_one_clock(tiny_model, processor, golden, waves):
    (conversation,) = golden_conversations("one_clip", golden, waves)
    events = list(stream(tiny_model, processor, conversation, TWELVE))
    stages = [event.stage for event in events if isinstance(event, StageTiming)]
    assert stages == ["prepare", "encode", "prefill", "decode"]
    assert isinstance(events[-1], TurnDone) and sum(isinstance(e, TurnDone) for e in events) == 1
    times = [event.t_s for event in events]
    assert times == sorted(times)
    ends = [(event.start_s, event.end_s) for event in events if isinstance(event, StageTiming)]
    assert all(before[1] == after[0] for before, after in zip(ends, ends[1:], strict=False))


def test_cancel_stops_at_once(tiny_model, processor, golden, waves):
    (conversation,) = golden_conversations("one_clip", golden, waves)
    cancel = threading.Event()
    cancel.set()
    turn = collect(stream(tiny_model, processor, conversation, TWELVE, cancel=cancel))
    assert turn.reason == "cancelled" and turn.ids == ()
    cancel.clear()
    many = GenerationOptions(max_new_tokens=500, repetition_guard=0)
    events = []
    for event in stream(tiny_model, processor, conversation, many, cancel=cancel):
        events.append(event)
        if isinstance(event, StageTiming) and event.stage == "prefill":
            cancel.set()
    assert collect(events).reason == "cancelled" and collect(events).new_tokens <= 1
    assert [t.reason for t in generate_batch(tiny_model, processor, [conversation] * 2, cancel=cancel)] == [
        "cancelled"
    ] * 2


def test_a_failure_ends_the_turn_and_is_not_hidden(tiny_model, processor):
    sick = (Message(PLAIN, (RawIds((10**9,)),)),)
    events = []
    with pytest.raises(IndexError):
        for event in stream(tiny_model, processor, sick):
            events.append(event)
    assert events[-1].reason == "error" and events[-1].message


def test_the_caller_keeps_its_gradients(tiny_model, processor, golden, waves):
    (conversation,) = golden_conversations("text", golden, waves)
    for _ in stream(tiny_model, processor, conversation, TWELVE):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_prompt_without_room_is_refused(tiny_model, processor):
    limit = tiny_model.config.text_config.max_position_embeddings
    long = (Message(PLAIN, (RawIds((5,) * limit),)),)
    with pytest.raises(ConversationError, match=f"fewer than {limit}"):
        list(stream(tiny_model, processor, long))


def test_a_closed_conversation_gets_an_open_assistant_turn(tiny_model, processor):
    asked = (Message("human", (Text("Hi"),)),)
    opened = (*asked, Message("assistant", closed=False))
    one = GenerationOptions(max_new_tokens=1)
    n = collect(stream(tiny_model, processor, asked, one)).prompt_tokens
    assert n == collect(stream(tiny_model, processor, opened, one)).prompt_tokens
    spoken = GenerationOptions(max_new_tokens=1, speak=True)
    assert collect(stream(tiny_model, processor, asked, spoken)).prompt_tokens == n + 1


# --- ids -> events ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tokenizer):
    return StepAudio2Processor(tokenizer)


class Roomy:
    """The one thing a reply asks of a model: how long a prompt may be."""

    class config:
        class text_config:
            max_position_embeddings = 4096


def read_reply(small, ids, prefix=(), **options):
    """Events of a reply with these ids, as if a model had generated them."""
    reply, clock = Reply(small, GenerationOptions(**options)), Clock()
    conversation = (Message("human", (Text("Hi"),)), Message("assistant", tuple(prefix), closed=False))
    reply.prepare(conversation, Roomy)
    events = []
    for token_id in ids:
        events += reply.add(Choice(token_id, -0.5), clock)
        if reply.reason:
            break
    return [*events, *reply.end(clock, "cancelled")]


@pytest.mark.parametrize("text", ["hello, friends", "今天天气很好，你好吗？", "𠮷野家 🙂🙂", "naïve\n\n龘龘"])
def test_characters_are_never_broken(small, text):
    ids = small.encode_text(text)
    assert len(ids) > 1
    events = read_reply(small, ids)
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert not any("\ufffd" in delta.text for delta in deltas)
    assert "".join(delta.text for delta in deltas) == text
    assert [i for delta in deltas for i in delta.ids] == ids
    assert all(len(delta.logprobs) == len(delta.ids) for delta in deltas)


def test_an_unfinished_character_at_the_end_is_left_out(small):
    ids = small.encode_text("a龘")
    turn = collect(read_reply(small, ids[:-1]))
    assert turn.text == "a" and turn.ids == tuple(ids[:-1]) == turn.text_ids


def test_streamed_spelling_equals_spelling_at_once(small):
    rng = np.random.default_rng(0)
    n = len(small.tokenizer.get_vocab())
    texts = [i for i in range(n) if small.ids.kind(i).value == "text"]
    for _ in range(50):
        ids = rng.choice(texts, size=30).tolist()
        reader = Detokenizer(small)
        streamed = "".join(reader.add(i) or "" for i in ids) + reader.flush()
        assert streamed.rstrip("\ufffd") == small.decode(ids).rstrip("\ufffd")


def test_a_spoken_reply_becomes_words_and_codes(small):
    own = small.ids
    word, after = small.encode_text("hello"), small.encode_text("world")
    codes = [own.id_of(c) for c in (1, 2, 3)] + [own.code_pad]
    ids = [own.tts_start, word[0], *codes, own.tts_pad, own.id_of(4), own.tts_end, *after, own.eot]
    events = read_reply(small, ids)
    turn = collect(events)
    assert turn.codes == (1, 2, 3, 4) and turn.reason == "stop" and turn.ids == tuple(ids)
    spoken = [event.spoken for event in events if isinstance(event, TextDelta)]
    assert spoken == [True] + [False] * len(after)
    assert [event.codes for event in events if isinstance(event, AudioCodesDelta)] == [(1, 2, 3), (4,)]


def test_a_thought_is_told_from_the_answer(small):
    ids = small.encode_text("so a < b</think>\n\nyes")
    events = read_reply(small, ids, prefix=(Text("\n<think>\n"),))
    turn = collect(events)
    assert (turn.thought, turn.text) == ("so a < b", "\n\nyes")
    n_ids = sum(len(event.ids) for event in events if isinstance(event, TextDelta | ThoughtDelta))
    assert n_ids == len(ids)
    assert collect(read_reply(small, ids)).thought == ""


def test_a_stop_text_ends_the_reply_and_stays(small):
    turn = collect(read_reply(small, small.encode_text("one two three four"), stop=("three",)))
    assert turn.reason == "stop" and turn.text == "one two three"


def test_a_loop_is_broken_off(small):
    """Replies of endless "嗯" were reported for the official model."""
    ids = small.encode_text("嗯") * 100
    turn = collect(read_reply(small, ids))
    assert turn.reason == "repetition" and turn.new_tokens == 96
    assert collect(read_reply(small, ids[:200], repetition_guard=0)).reason == "cancelled"


@pytest.mark.parametrize(
    ("ids", "looping"),
    [
        ([1] * 12, True),
        ([1, 2] * 6, True),
        ([1, 2, 3] * 4, False),  # four rounds are no loop yet
        ([1] * 11, False),
        ([*range(12)], False),
        ([7, 8, 9, *[1] * 12], True),
    ],
)
def test_loops(ids, looping):
    assert is_looping(ids, 12) is looping


def test_the_limit_is_a_reason_of_its_own(small):
    ids = small.encode_text("hello world")
    assert collect(read_reply(small, ids, max_new_tokens=2)).reason == "length"


# --- sampling -----------------------------------------------------------------------------------


def test_draws_follow_the_probabilities():
    sampler = Sampler(GenerationOptions(temperature=1.0, seed=0), [])
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1]))
    counts = np.bincount([sampler.pick(logits).id for _ in range(3000)], minlength=3) / 3000
    assert np.allclose(counts, [0.7, 0.2, 0.1], atol=0.03)


@pytest.mark.parametrize(
    ("options", "possible"),
    [
        (GenerationOptions(), {0}),
        (GenerationOptions(temperature=1.0, top_k=2, seed=0), {0, 1}),
        (GenerationOptions(temperature=1.0, top_p=0.6, seed=0), {0}),
        (GenerationOptions(temperature=0.01, seed=0), {0}),
        (GenerationOptions(temperature=1.0, seed=0), {0, 1, 2}),
    ],
)
def test_limits_on_draws(options, possible):
    sampler = Sampler(options, [])
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1]))
    assert {sampler.pick(logits).id for _ in range(200)} == possible


def test_the_logprob_is_the_models_own():
    options = GenerationOptions(temperature=2.0, repetition_penalty=5.0, seed=0)
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1], dtype=torch.bfloat16))
    choice = Sampler(options, [0]).pick(logits)
    assert choice.logprob == pytest.approx(np.log([0.7, 0.2, 0.1][choice.id]), abs=0.01)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_k": -1, "temperature": 1}, "top_k=-1"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"repetition_guard": -1}, "repetition_guard=-1"),
        ({"stop": ("",)}, "texts that are not empty"),
        ({"top_p": 0.9}, "no limits on draws where nothing is drawn"),
        ({"top_k": 5}, "a temperature above 0 turns drawing on"),
    ],
)
def test_options_out_of_range_are_refused(values, match):
    with pytest.raises(OptionsError, match=match):
        GenerationOptions(**values)
