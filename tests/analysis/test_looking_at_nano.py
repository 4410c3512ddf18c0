"""The whole chain on the shipped checkpoint and its example clips: listen, align, mute a word, look what is lost.

The weights and the words they know change; what is asked here holds for any model that listens.
"""

import numpy as np
import pytest

from analysis.alignment import align
from analysis.attention import WordTime
from analysis.capture import capture_trace
from analysis.counterfactual import answer_of, by_word, compare, counterfactuals, whole_clip_edits
from analysis.edits import Edit
from analysis.occlusion import occlusion_map
from analysis.trust import trust
from model.audio import load_waveform
from model.checkpoint import NANO_DIR, load_model
from model.tasks.asr import ASR

EXAMPLES = sorted((NANO_DIR / "examples").glob("*.flac"))


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", health_check=False)


@pytest.fixture(scope="module")
def turns(nano):
    """Conversation and trace of the model's own answer to each example clip."""
    made = []
    for path in EXAMPLES:
        conversation = ASR.conversation(load_waveform(path), name=path.name)
        made.append((conversation, capture_trace(nano, conversation, answer_of(nano, conversation))))
    return [turn for turn in made if len(align(turn[1]).words) >= 3]


def test_a_word_leans_on_the_sound_where_attention_found_it(nano, turns):
    """Mute each word where alignment says it is: it, rather than another word, should lose most."""
    right, chance = [], []
    for conversation, trace in turns:
        found = align(trace)
        edits = [Edit("mute", word.start_s, word.end_s) for word in found.words]
        for k, one in enumerate(
            counterfactuals(nano, conversation, edits, reply_ids=trace.reply_ids, regenerate=False)
        ):
            right.append(int(by_word(one.change, found.grouped).values.argmin()) == k)
            chance.append(1 / len(found.words))
    assert len(right) >= 10 and np.mean(right) > 2 * np.mean(chance)


def test_words_follow_each_other_through_the_clip(turns):
    for _, trace in turns:
        found = align(trace)
        starts = [word.start_s for word in found.words]
        assert starts == sorted(starts) and found.words[-1].end_s <= found.duration_s + 0.011
        assert all(isinstance(word, WordTime) for word in found.words)


def test_without_its_sound_the_answer_falls(nano, turns):
    conversation, trace = turns[0]
    other = turns[1][1].audio["input_0"]
    found = counterfactuals(nano, conversation, whole_clip_edits(other=other), reply_ids=trace.reply_ids)
    assert (compare(found).values < -1).all() and not any(one.same_answer for one in found)


def test_the_map_and_the_meter_hold_together(nano, turns):
    conversation, trace = turns[0]
    found = occlusion_map(nano, conversation, trace.reply_ids)
    assert found.complete and found.drop().values.max() > 0.1
    assert -1 <= float(trust(found, trace)) <= 1
