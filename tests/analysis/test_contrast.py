"""A pair of runs agrees in length and parts at one token; its metric is the one that was promised."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.capture import capture_trace
from analysis.contrast import Contrast, answer_run, contrast
from model.audio import Waveform
from model.chat import Audio
from model.errors import TraceError
from model.events import collect
from model.generation import GenerationOptions, stream
from tests.analysis.test_patching import conversations


@pytest.fixture(scope="module")
def spoken():
    return conversations()


def test_the_metric_is_the_difference_of_two_logits_after_the_common_prefix(tiny_loaded, spoken):
    pair = contrast(tiny_loaded, *spoken, answers=("good morning", "good day"))
    encode = tiny_loaded.processor.encode_text
    first, second = encode("good morning"), encode("good day")
    n_same = next(k for k, (a, b) in enumerate(zip(first, second)) if a != b)
    assert pair.clean.texts[-n_same:] and len(pair.clean) == len(tiny_loaded.processor.encode(spoken[0]).ids) + n_same
    batch = tiny_loaded.processor(spoken[0])
    ids = torch.cat([batch["input_ids"], torch.tensor([first[:n_same]])], dim=1)
    with torch.inference_mode():
        logits = tiny_loaded.model(input_ids=ids, wavs=batch["wavs"], wav_lens=batch["wav_lens"]).logits[0, -1]
    assert pair.values[0] == pytest.approx(float(logits[first[n_same]] - logits[second[n_same]]), abs=1e-4)


def test_by_default_the_answers_are_the_models_own(tiny_loaded, spoken):
    options = GenerationOptions(max_new_tokens=4)
    own = [collect(stream(tiny_loaded.model, tiny_loaded.processor, one, options)).ids for one in spoken]
    if own[0] == own[1]:
        with pytest.raises(TraceError, match="part at some token"):
            contrast(tiny_loaded, *spoken, options=options)
    else:
        pair = contrast(tiny_loaded, *spoken, options=options)
        assert pair.values[0] >= 0 >= pair.values[1]  # each run prefers its own answer


def test_the_log_probability_of_an_answer_is_that_of_the_trace(tiny_loaded, spoken):
    reply = [*tiny_loaded.processor.encode_text("good morning 你好"), tiny_loaded.processor.ids.eot]
    run = answer_run(tiny_loaded, spoken[0], reply)
    trace = capture_trace(tiny_loaded, spoken[0], reply)
    assert run.value()[0] == pytest.approx(float(np.nansum(trace.tokens.logprob)), abs=1e-3)
    assert run.metric.unit == "nat"


def test_every_position_is_in_one_region_and_sound_is_cut_into_windows(tiny_loaded, spoken):
    pair = contrast(tiny_loaded, *spoken, answers=("good morning", "good day"))
    covered = [place for region in pair.clean.regions for place in region.positions]
    assert covered == list(range(len(pair.clean)))
    labels = [region.label for region in pair.clean.regions]
    windows = [region for region in pair.clean.regions if region.label.endswith(" s")]
    assert labels[0] == "first token" and labels[1] == "system" and labels[-1] == "last"
    starts = [float(window.label.removesuffix(" s")) for window in windows]
    assert len(windows) == 4 and starts[0] == 0 and np.allclose(np.diff(starts), 0.32, atol=0.04)
    assert {len(window.positions) for window in windows[:-1]} == {4}
    assert len(pair.clean.tokens) == len(pair.clean) and pair.clean.tokens[-1].positions == (len(pair.clean) - 1,)


def test_regions_of_several_clips_are_named_apart(tiny_loaded, heard):
    run = answer_run(tiny_loaded, heard, tiny_loaded.processor.encode_text("good"), window_frames=50)
    labels = [region.label for region in run.regions]
    assert "clip 1, 0.00 s" in labels and "clip 2, 0.00 s" in labels and "clip 2, 25.00 s" in labels


def test_runs_of_other_lengths_are_refused(tiny_loaded, spoken):
    clip = spoken[1][1].parts[0].waveform
    shorter = (spoken[1][0], replace(spoken[1][1], parts=(Audio(Waveform(clip.samples[:-3200], 16000)),)), spoken[1][2])
    with pytest.raises(TraceError, match=r"clean run of \d+ positions.*clips of one length"):
        contrast(tiny_loaded, spoken[0], shorter, answers=("hello", "good"))


def test_answers_that_do_not_part_are_refused(tiny_loaded, spoken):
    with pytest.raises(TraceError, match="part at some token"):
        contrast(tiny_loaded, *spoken, answers=("good", "good"))
    with pytest.raises(TraceError, match="part at some token"):
        contrast(tiny_loaded, *spoken, answers=("", "good"))
    with pytest.raises(TraceError, match="without tokens"):
        answer_run(tiny_loaded, spoken[0], [])


def test_runs_with_different_metrics_are_refused(tiny_loaded, spoken):
    one, other = (contrast(tiny_loaded, *spoken, answers=("hello", "good")) for _ in range(2))
    with pytest.raises(TraceError, match="length and metric"):
        Contrast(one.clean, other.corrupted)
