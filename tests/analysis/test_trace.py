"""A Trace is checked when it is made, so that everyone downstream can trust its shapes."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.trace import CaptureSpec, Trace, from_int24, on_grid, to_int24
from model.audio import Waveform
from model.errors import TraceError
from tests.analysis.planted import ENGLISH, N_HEADS, N_LAYERS, SEGMENTS, planted_trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return planted_trace()[0]


def test_axes_follow_from_tokens_and_meta(trace):
    lengths = trace.axis_lengths()
    assert lengths == {
        "layer": N_LAYERS,
        "head": N_HEADS,
        "query": len(ENGLISH) + 1,
        "frame": trace.tokens.kind.count("audio_in"),
        "segment": len(SEGMENTS),
        "width": 0,
    }
    assert trace.reply_text == "".join(ENGLISH)
    assert trace.reply_ids == trace.events[-1].ids
    assert np.all(np.diff(trace.frames.centre_s) > 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"attention.audio": a["attention.audio"][:, :, 1:]}, "attention.audio float16"),
        (lambda a: {"attention.audio": a["attention.audio"].astype(np.float64)}, "attention.audio float64"),
        (lambda a: {"attention.audio": a["attention.audio"] * np.float16(np.nan)}, "nan"),
        (lambda a: {"attention.audio": a["attention.audio"] - np.float16(0.5)}, "from -0.5"),
        (lambda a: {"attention.segments": a["attention.segments"] / np.float16(2)}, "summing to 1"),
        (lambda a: {"residuals": a["attention.segments"]}, "a tensor named 'residuals'"),
    ],
)
def test_wrong_tensors_are_refused(trace, change, message):
    with pytest.raises(TraceError, match=message):
        replace(trace, tensors=change(trace.tensors))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ids", [1, 2], "columns of shapes"),
        ("kind", "unheard", "token kinds"),
        ("logprob", 0.5, "log-probability of 0.5"),
        ("segment", 99, "unknown segment"),
        ("clip", 3, "no sound named"),
        ("end_s", -1.0, "ending before it starts"),
        ("start_s", np.nan, "without a time"),
    ],
)
def test_wrong_columns_are_refused(trace, column, value, message):
    n = len(trace.tokens)
    values = value if isinstance(value, list) else [value] * n
    with pytest.raises(TraceError, match=message):
        replace(trace, tokens=replace(trace.tokens, **{column: values}))


def test_nobody_writes_into_a_trace(trace):
    with pytest.raises(ValueError, match="read-only"):
        trace.tensors["attention.audio"][0] = 0
    with pytest.raises(TypeError):
        trace.audio["input_1"] = trace.audio["input_0"]


WRONG_SPECS = [
    *({"layers": ()}, {"layers": (1, 1)}, {"layers": (-1, 0)}),
    *({"heads": "some"}, {"offset": "next"}, {"max_megabytes": 0}),
]


@pytest.mark.parametrize("wrong", WRONG_SPECS)
def test_a_wrong_capture_spec_is_refused(wrong):
    with pytest.raises(TraceError, match="make a CaptureSpec"):
        CaptureSpec(**wrong)


def test_meta_needs_a_prompt_and_distinct_segments(trace):
    for wrong in ({"n_prompt": 0}, {"segments": ("a", "a")}, {"segments": ()}):
        with pytest.raises(TraceError, match="make a Trace"):
            replace(trace.meta, **wrong)
    with pytest.raises(TraceError, match="n_prompt 900"):
        replace(trace, meta=replace(trace.meta, n_prompt=900))


def test_sixteen_bit_sound_is_kept_sample_for_sample():
    every = np.arange(-32768, 32768, dtype=np.float32) / 32768
    np.testing.assert_array_equal(on_grid(Waveform(every, 16000)).samples, every)


@pytest.mark.parametrize("peak", [0.0, 0.3, 1.0, 1.7, 40.0])
def test_the_grid_is_stable_and_fine(peak):
    samples = (peak * np.sin(np.arange(999))).astype(np.float32)
    once = on_grid(Waveform(samples, 16000))
    np.testing.assert_allclose(once.samples, samples, atol=max(1, 2 * peak) * 2.0**-23)
    np.testing.assert_array_equal(on_grid(once).samples, once.samples)
    codes, exponent = to_int24(once.samples)
    assert np.abs(codes).max() < 2**23
    np.testing.assert_array_equal(from_int24(codes, exponent), once.samples)
