"""Capture measures a finished turn as it was, and leaves the model as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis import capture
from analysis.capture import capture_trace
from analysis.trace import CaptureSpec, Trace
from analysis.trace_file import load_trace, save_trace
from model.audio import Waveform
from model.chat import Text
from model.errors import TraceError
from model.events import AudioDelta, SoundMark, TextDelta, TurnDone


@pytest.fixture(scope="module")
def reply(tiny_loaded) -> list[int]:
    return [*tiny_loaded.processor.encode_text("good morning 你好"), tiny_loaded.processor.ids.eot]


@pytest.fixture(scope="module")
def trace(tiny_loaded, heard, reply) -> Trace:
    return capture_trace(tiny_loaded, heard, reply, seed=5, options={"temperature": 0.0})


@pytest.fixture(scope="module")
def whole_input(tiny_loaded, heard, reply) -> dict:
    """Prompt and reply as one eager forward wants them."""
    prompt = tiny_loaded.processor.encode(heard)
    batch = tiny_loaded.processor.collate([replace(prompt, ids=[*prompt.ids, *reply])])
    return {name: batch[name] for name in ("input_ids", "wavs", "wav_lens")} | {"n_prompt": len(prompt.ids)}


def n_hooks(model) -> int:
    """transformers leaves hooks of its own behind when attentions were asked for, so only the change counts."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def forward(model, inputs: dict, **kwargs):
    with torch.inference_mode():
        return model(**{k: v for k, v in inputs.items() if k != "n_prompt"}, **kwargs)


def test_rows_are_those_of_an_eager_forward(tiny_loaded, whole_input, trace):
    """Law 7, first half: the rows of the teacher-forced pass are the model's own attention."""
    weights = torch.stack(forward(tiny_loaded.model, whole_input, output_attentions=True).attentions)[:, 0]
    rows = weights[:, :, whole_input["n_prompt"] - 1 : -1].numpy()
    np.testing.assert_allclose(trace.tensors["attention.audio"], rows[..., trace.frames.token], atol=5e-4)
    for index in range(len(trace.meta.segments)):
        mass = rows[..., trace.tokens.segment == index].sum(axis=-1)
        np.testing.assert_allclose(trace.tensors["attention.segments"][..., index], mass, atol=5e-4)


def test_rows_are_those_of_cached_decoding(tiny_loaded, heard, reply, trace):
    """Law 7, second half: row i is what the model looked at when token i came out, step by step with a cache."""
    model, inputs = tiny_loaded.model, dict(tiny_loaded.processor(heard))
    cache = None
    for query, token in enumerate(reply):
        with torch.inference_mode():
            step = model(**inputs, past_key_values=cache, use_cache=True, output_attentions=True)
        cache = step.past_key_values
        inputs = {"input_ids": torch.tensor([[token]])}
        weights = torch.stack(step.attentions)[:, 0, :, -1].numpy()
        np.testing.assert_allclose(
            trace.tensors["attention.audio"][:, :, query], weights[..., trace.frames.token], atol=5e-4
        )
        logprob = step.logits[0, -1].log_softmax(-1)
        assert trace.tokens.logprob[trace.meta.n_prompt + query] == pytest.approx(float(logprob[token]), abs=1e-4)
        entropy = -(logprob.exp() * logprob).sum()
        assert trace.tokens.entropy[trace.meta.n_prompt + query] == pytest.approx(float(entropy), abs=1e-4)


def test_reads_is_predicts_one_token_later(tiny_loaded, heard, reply, trace):
    reads = capture_trace(tiny_loaded, heard, reply, spec=CaptureSpec(offset="reads"))
    np.testing.assert_array_equal(
        reads.tensors["attention.audio"][:, :, :-1], trace.tensors["attention.audio"][:, :, 1:]
    )
    np.testing.assert_array_equal(reads.tokens.logprob, trace.tokens.logprob)  # these do not depend on the choice


def test_looking_changes_nothing(tiny_loaded, heard, reply, whole_input):
    """Law 6: equal logits before, while and after, bit for bit; no hook, mode or setting is left behind."""
    model = tiny_loaded.model
    # The same rows as the capture asks for: another number of rows may be rounded differently by the matrix product.
    rows = torch.arange(whole_input["n_prompt"] - 1, whole_input["input_ids"].shape[1] - 1)
    before, hooked = forward(model, whole_input, logits_to_keep=rows).logits, n_hooks(model)
    seen = []
    handle = model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output))
    model.train()
    model.encoder.eval()
    try:
        capture_trace(tiny_loaded, heard, reply)
        assert model.training and model.model.training and not model.encoder.training
    finally:
        handle.remove()
        model.eval()
    assert torch.equal(seen[0], before)
    assert torch.equal(before, forward(model, whole_input, logits_to_keep=rows).logits)
    assert model.model.config._attn_implementation == "sdpa"
    assert n_hooks(model) == hooked


def test_a_stopped_capture_leaves_no_trace_in_the_model(tiny_loaded, heard, reply):
    def stop(layer: int) -> None:
        raise InterruptedError(f"layer {layer}")

    hooked = n_hooks(tiny_loaded.model)
    with pytest.raises(InterruptedError, match="layer 0"):
        capture_trace(tiny_loaded, heard, reply, on_layer=stop)
    assert n_hooks(tiny_loaded.model) == hooked


def test_the_token_table_says_what_every_position_is(tiny_loaded, heard, reply, trace):
    tokens, frames = trace.tokens, trace.frames
    assert "".join(tokens.text[i] for i in trace.reply) == "good morning 你好<|EOT|>"
    assert trace.reply_text == "good morning 你好"
    assert trace.meta.segments == ("first token", "system", "human", "audio", "assistant", "reply")
    assert [tokens.kind[i] for i in frames.token] == ["audio_in"] * len(frames)
    assert tokens.turn[0] == 0 and tokens.turn[frames.token[0]] == 1 and set(tokens.turn[list(trace.reply)]) == {2}
    assert np.isnan(tokens.logprob[: trace.meta.n_prompt]).all()
    assert trace.n_reply == len(reply)


def test_audio_positions_carry_their_clip_and_time(trace):
    frames = trace.frames
    assert [int((frames.clip == k).sum()) for k in (0, 1)] == [19, 313 + 13]
    second = frames.clip == 1
    assert np.all(np.diff(frames.centre_s[second]) > 0)
    assert frames.start_s[second][313] == pytest.approx(25.0)  # the second piece of 25 s counts on
    assert frames.end_s[second][-1] == pytest.approx(26.0, abs=0.1)


def test_sound_events_and_provenance_are_kept(tiny_loaded, heard, reply):
    spoken = Waveform(np.full(240, 0.25, np.float32), 24000)
    events = (
        TextDelta("good", (1,), 0.1),
        AudioDelta(spoken, 0.2),
        AudioDelta(spoken, 0.3),
        TurnDone("stop", tuple(reply), 3, len(reply), 0.4),
    )
    trace = capture_trace(tiny_loaded, heard, reply, events=events, seed=5, options={"temperature": 0.0})
    marks = SoundMark(0.0, 0.01, 0.2), SoundMark(0.01, 0.02, 0.3)
    assert trace.events == (events[0], *marks, events[3])
    assert len(trace.audio["output"].samples) == 480
    assert trace.audio["input_1"].sample_rate_hz == 16000 and trace.meta.clips == ("short.wav", "long.wav")
    assert set(trace.meta.audio_sha256) == {"input_0", "input_1"} and trace.meta.seed == 5
    assert trace.meta.model == "tiny random model" and trace.meta.versions["torch"] == torch.__version__


def test_a_captured_trace_survives_the_disk(trace, tmp_path):
    save_trace(tmp_path / "turn.zip", trace)
    again = load_trace(tmp_path / "turn.zip")
    assert again.meta == trace.meta
    np.testing.assert_array_equal(again.tensors["attention.audio"], trace.tensors["attention.audio"])


def test_layers_and_head_mean(tiny_loaded, heard, reply, trace):
    spec = CaptureSpec(layers=(0, 2), heads="mean")
    small = capture_trace(tiny_loaded, heard, reply, spec=spec)
    expected = trace.tensors["attention.audio"][[0, 2]].astype(float).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(small.tensors["attention.audio"], expected, atol=5e-4)
    assert small.meta.layers == (0, 2) and small.meta.n_heads == 1


def test_encoded_sound_can_be_handed_in(tiny_loaded, heard, reply, trace, monkeypatch):
    batch = tiny_loaded.processor(heard)
    with torch.inference_mode():
        features = tiny_loaded.model.get_audio_features(batch["wavs"], batch["wav_lens"])
    monkeypatch.setattr(tiny_loaded.model, "get_audio_features", None)
    again = capture_trace(tiny_loaded, heard, reply, audio_features=features)
    np.testing.assert_array_equal(again.tensors["attention.audio"], trace.tensors["attention.audio"])


def test_an_empty_reply_and_a_silent_conversation_are_fine(tiny_loaded, heard, reply):
    empty = capture_trace(tiny_loaded, heard, [])
    assert empty.n_reply == 0 and empty.tensors["attention.audio"].shape[2] == 0
    silent = capture_trace(tiny_loaded, (heard[0], heard[2]), reply)
    assert len(silent.frames) == 0 and silent.tensors["attention.audio"].shape[3] == 0


def test_a_capture_that_would_not_fit_is_refused_before_it_runs(tiny_loaded, heard, reply, monkeypatch):
    monkeypatch.setattr(tiny_loaded.model, "forward", None)
    with pytest.raises(TraceError, match=r"at most 0 MB.*heads='mean'"):
        capture_trace(tiny_loaded, heard, reply, spec=CaptureSpec(max_megabytes=1e-3))


def test_predicted_megabytes_are_the_kept_ones(trace):
    kept = sum(tensor.nbytes for tensor in trace.tensors.values()) / 1e6
    columns = len(trace.frames) + len(trace.meta.segments)
    assert capture.predicted_megabytes(3, 4, trace.n_reply, columns) == pytest.approx(kept)


def test_layers_that_are_not_there_are_refused(tiny_loaded, heard, reply):
    with pytest.raises(TraceError, match="layers \\[3\\]"):
        capture_trace(tiny_loaded, heard, reply, spec=CaptureSpec(layers=(3,)))


def test_split_characters_stand_at_their_last_token(tiny_loaded):
    processor = tiny_loaded.processor
    ids = [*processor.encode_text("a很b€"), processor.ids.eot]
    texts = capture.token_texts(processor, ids)
    assert "".join(texts) == "a很b€<|EOT|>" and "" in texts
    cut = capture.token_texts(processor, ids[:-2])  # the last character was never finished
    assert "".join(cut).startswith("a很b") and "\ufffd" in "".join(cut)


def test_surprise_of_a_hand_worked_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])) + 3
    logprob, entropy = capture.surprise(logits, torch.tensor([1, 0]))
    np.testing.assert_allclose(logprob, [np.log(0.25), 0], atol=1e-6)
    np.testing.assert_allclose(entropy, [1.5 * np.log(2), 0], atol=1e-6)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_residuals_are_those_of_the_model_and_survive_the_disk(
    tiny_loaded, heard, reply, whole_input, precision, tmp_path
):
    spec = CaptureSpec(layers=(0, 2), residuals=precision)
    trace = capture_trace(tiny_loaded, heard, reply, spec=spec)
    states = forward(tiny_loaded.model, whole_input, output_hidden_states=True).hidden_states
    norm = tiny_loaded.model.model.norm
    for place, rows in (("audio", trace.frames.token), ("reply", np.array(trace.reply) - 1)):
        kept = trace.tensors[f"resid_post.{place}"]
        assert kept.shape == (2, len(rows), 32) and kept.dtype == precision
        close = {"rtol": 1e-5, "atol": 1e-5} if precision == "float32" else {"rtol": 1e-3, "atol": 1e-3}
        np.testing.assert_allclose(kept[0], states[1][0, rows], **close)
        last = norm(torch.tensor(kept[1]).float()).detach().numpy()  # transformers gives the last one normalised
        np.testing.assert_allclose(last, states[3][0, rows], atol=1e-4 if precision == "float32" else 2e-2)
    save_trace(tmp_path / "turn.zip", trace)
    again = load_trace(tmp_path / "turn.zip")
    np.testing.assert_array_equal(again.tensors["resid_post.audio"], trace.tensors["resid_post.audio"])
    assert again.meta == trace.meta


def test_residuals_cost_what_was_predicted_and_change_nothing(tiny_loaded, heard, reply, trace, monkeypatch):
    with_them = capture_trace(tiny_loaded, heard, reply, spec=CaptureSpec(residuals="float16"))
    np.testing.assert_array_equal(with_them.tensors["attention.audio"], trace.tensors["attention.audio"])
    np.testing.assert_array_equal(with_them.tokens.logprob, trace.tokens.logprob)
    kept = sum(tensor.nbytes for tensor in with_them.tensors.values()) / 1e6
    columns, rows = len(trace.frames) + len(trace.meta.segments), len(trace.frames) + len(reply)
    predicted = capture.predicted_megabytes(3, 4, len(reply), columns, residual_rows=rows, width=32)
    assert predicted == pytest.approx(kept)
    monkeypatch.setattr(tiny_loaded.model, "forward", None)
    with pytest.raises(TraceError, match=r"residuals of \d+ rows x 32.*residuals=None"):
        capture_trace(
            tiny_loaded, heard, reply, spec=CaptureSpec(residuals="float32", max_megabytes=2 * rows * 32 * 3 / 1e6)
        )


def test_a_residual_beyond_float16_is_refused_and_kept_in_float32(tiny_loaded, heard, reply):
    """Large models have a few numbers in the hundred thousands."""
    from analysis.hooks import Site, taps

    large = {Site("resid_pre", 0): lambda residual: residual + 1e5}
    with taps(tiny_loaded.model, large):
        kept = capture_trace(tiny_loaded, heard, reply, spec=CaptureSpec(residuals="float32"))
        assert kept.tensors["resid_post.audio"].max() > 9e4
        with pytest.raises(TraceError, match="float16 can hold.*float32"):
            capture_trace(tiny_loaded, heard, reply, spec=CaptureSpec(residuals="float16"))


def test_thought_and_codes_are_segments_of_their_own(tiny_loaded, heard):
    encode, ids = tiny_loaded.processor.encode_text, tiny_loaded.processor.ids
    reply = [*encode("<think>hm</think> good"), ids.id_of(3), ids.id_of(4), ids.eot]
    trace = capture_trace(tiny_loaded, heard, reply)
    assert trace.meta.segments[-3:] == ("reply", "thought", "codes")
    by_segment = dict.fromkeys(trace.meta.segments, "")
    for place in trace.reply:
        by_segment[trace.meta.segments[trace.tokens.segment[place]]] += trace.tokens.text[place]
    assert by_segment["thought"] == "<think>hm</think>" and by_segment["codes"] == "<audio_3><audio_4>"
    assert by_segment["reply"] == " good<|EOT|>"
    assert {trace.tokens.kind[place] for place in trace.reply} == {"thought", "text", "audio_out", "special"}
    assert "".join(t for t, k in zip(trace.tokens.text, trace.tokens.kind) if k == "thought") == "<think>hm</think>"


def test_a_thought_opened_in_the_prompt_goes_on_in_the_reply(tiny_loaded, heard):
    encode = tiny_loaded.processor.encode_text
    open_turn = replace(heard[-1], parts=(Text("<think>\n"),))
    trace = capture_trace(tiny_loaded, (*heard[:-1], open_turn), encode("hm</think>good"))
    names = [trace.meta.segments[trace.tokens.segment[place]] for place in trace.reply]
    assert names[0] == "thought" and names[-1] == "reply"
    unfinished = capture_trace(tiny_loaded, (*heard[:-1], open_turn), encode("hm"))
    assert {unfinished.meta.segments[unfinished.tokens.segment[place]] for place in unfinished.reply} == {"thought"}
