"""What must hold for any weights: caches, batches, kernels, counts, refusals, learning."""

import numpy as np
import pytest
import torch

from model import audio
from model.configuration_step_audio_2 import OFFICIAL_IDS
from model.errors import AudioError, ConversationError
from model.modeling_step_audio_2 import AudioEncoder, StepAudio2ForCausalLM
from tests.golden_recipe import read_json, read_mels, read_prompt
from tests.small_model import batch_of_two, small_config

CASES = ["text", "one_clip", "two_clips", "batch_left"]


@pytest.fixture
def small_model():
    torch.manual_seed(0)
    return StepAudio2ForCausalLM(small_config())


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_cached_decoding_equals_recomputing(tiny_model, case):
    prompt = read_prompt(case)
    new_ids = torch.randint(0, 150_000, (len(prompt["input_ids"]), 6), generator=torch.Generator().manual_seed(1))
    mask = torch.nn.functional.pad(prompt["attention_mask"], (0, 6), value=1)
    whole = tiny_model(**prompt | {"input_ids": torch.cat([prompt["input_ids"], new_ids], 1), "attention_mask": mask})

    n_prompt = prompt["input_ids"].shape[1]
    step = tiny_model(**prompt, use_cache=True)
    gaps = [(step.logits - whole.logits[:, :n_prompt])[prompt["attention_mask"].bool()].abs().max()]
    for k in range(6):
        upto = mask[:, : n_prompt + k + 1]
        step = tiny_model(
            new_ids[:, k : k + 1], attention_mask=upto, past_key_values=step.past_key_values, use_cache=True
        )
        gaps.append((step.logits[:, 0] - whole.logits[:, n_prompt + k]).abs().max())
    assert max(gaps) < 1e-5


@torch.no_grad()
def test_batch_equals_single(tiny_model):
    prompt = read_prompt("batch_left")
    features = tiny_model.get_audio_features(prompt["wavs"], prompt["wav_lens"])
    ids, mask = prompt["input_ids"], prompt["attention_mask"]
    together = tiny_model(input_ids=ids, attention_mask=mask, audio_features=features).logits
    for row, clip in enumerate(features):
        real = mask[row].bool()
        alone = tiny_model(input_ids=ids[row][real][None], audio_features=[clip]).logits[0]
        torch.testing.assert_close(together[row][real], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_more_padding_on_the_left_changes_nothing(tiny_model):
    prompt = read_prompt("one_clip")
    expected = tiny_model(**prompt).logits
    padded = prompt | {
        "input_ids": torch.nn.functional.pad(prompt["input_ids"], (17, 0), value=OFFICIAL_IDS.pad),
        "attention_mask": torch.nn.functional.pad(prompt["attention_mask"], (17, 0)),
    }
    torch.testing.assert_close(tiny_model(**padded).logits[:, 17:], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_eager_equals_sdpa_and_asking_for_weights_changes_nothing(tiny_model, case):
    prompt = read_prompt(case)
    real = prompt["attention_mask"].bool()
    fused = tiny_model(**prompt)
    eager = tiny_model(**prompt, output_attentions=True)
    torch.testing.assert_close(eager.logits[real], fused.logits[real], atol=1e-5, rtol=0)
    assert tiny_model.model.config._attn_implementation == "sdpa"
    assert fused.attentions is None
    assert [tuple(a.shape[-2:]) for a in eager.attentions] == [(real.shape[1],) * 2] * 2


@torch.no_grad()
def test_features_given_by_the_caller_skip_the_encoder(tiny_model, monkeypatch):
    prompt = read_prompt("two_clips")
    features = tiny_model.get_audio_features(prompt["wavs"], prompt["wav_lens"])
    expected = tiny_model(**prompt).logits
    monkeypatch.setattr(AudioEncoder, "forward", lambda *_: pytest.fail("the encoder ran"))
    text_only = {name: prompt[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(tiny_model(**text_only, audio_features=features).logits, expected)


@torch.no_grad()
def test_many_clips_are_encoded_in_groups_with_equal_result(small_model, monkeypatch):
    mels, lens = torch.randn(5, 128, 40), torch.tensor([38, 20, 31, 7, 38])
    expected = small_model.get_audio_features(mels, lens)
    monkeypatch.setattr("model.modeling_step_audio_2.ENCODER_BATCH", 2)
    for ours, theirs in zip(small_model.get_audio_features(mels, lens), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_placeholder_count_equals_encoder_length(small_model):
    rng = np.random.default_rng(7)
    n_samples = [1, 160, 161, 320, 321, 400, 400_000, *rng.integers(1, 20_000, 1000), *rng.integers(1, 400_001, 12)]
    for n in n_samples:
        frames = audio.n_frames(int(n))
        lens = torch.tensor([audio.usable_length(frames)])
        features = small_model.get_audio_features(torch.zeros(1, 128, frames), lens)
        assert len(features[0]) == audio.n_audio_tokens(int(n)), n


@torch.no_grad()
def test_clip_without_a_position_is_an_empty_block(small_model):
    mels, lens = read_mels(["one_second", "one_sample"])
    ids = torch.tensor([[10, *[12] * 13, 11, 10, 11, 5]])
    output = small_model(input_ids=ids, wavs=mels, wav_lens=lens)
    assert output.logits.isfinite().all()
    only_tail = small_model(input_ids=torch.tensor([[10, 11, 5]]), wavs=mels[1:, :, :3], wav_lens=lens[1:])
    assert only_tail.logits.isfinite().all()


@pytest.mark.parametrize(
    "ids, message",
    [
        ([5, 6, 7], "0 blocks of sound in the ids but 1 clips"),
        ([10, *[12] * 13, 11, 10, 11], "2 blocks of sound in the ids but 1 clips"),
        ([10, *[12] * 12, 11, 5], r"12 placeholders in block 0 \(row 0, position 0\), expected 13"),
        ([10, *[12] * 14], r"14 placeholders in block 0 \(row 0, position 0\), expected 13"),
        ([5, 10, 11, 12], r"0 placeholders in block 0 \(row 0, position 1\), expected 13"),
    ],
)
def test_prompt_that_does_not_match_its_clips_is_refused(small_model, ids, message):
    mels, lens = read_mels(["one_second"])
    with pytest.raises(ConversationError, match=message):
        small_model(input_ids=torch.tensor([ids]), wavs=mels, wav_lens=lens)


def test_mels_of_a_wrong_shape_or_length_are_refused(small_model):
    with pytest.raises(AudioError, match=r"shape \(1, 80, 40\)"):
        small_model.encoder(torch.zeros(1, 80, 40), torch.tensor([38]))
    with pytest.raises(AudioError, match=r"lengths of shape \(2,\)"):
        small_model.encoder(torch.zeros(1, 128, 40), torch.tensor([38, 38]))
    with pytest.raises(AudioError, match="3001 mel frames.*at most 25 s"):
        small_model.encoder(torch.zeros(1, 128, 3001), torch.tensor([2999]))
    with pytest.raises(AudioError, match="a clip of 2 mel frames"):
        small_model.encoder(torch.zeros(1, 128, 2), torch.tensor([0]))


def test_loss_is_the_mean_over_labelled_ids(small_model):
    inputs = batch_of_two()
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[:, -2:] = inputs["input_ids"][:, -2:]
    output = small_model(**inputs, labels=labels)
    by_hand = torch.nn.functional.cross_entropy(output.logits[:, -3:-1].flatten(0, 1), labels[:, -2:].flatten())
    torch.testing.assert_close(output.loss, by_hand)


def test_learning_reaches_every_part_and_leaves_positions_alone(small_model):
    inputs = batch_of_two()
    small_model(**inputs, labels=inputs["input_ids"]).loss.backward()
    for name, parameter in small_model.named_parameters():
        if name == "encoder.positional_embedding.weight":
            assert parameter.grad is None
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for part in (small_model.encoder.conv1, small_model.adapter.linear1, small_model.lm_head):
        assert part.weight.grad.abs().sum() > 0


def test_a_few_steps_lower_the_loss_under_autocast(small_model):
    inputs = batch_of_two()
    optimizer = torch.optim.AdamW([p for p in small_model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = small_model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_frozen_embeddings_and_gradient_checkpointing_work(small_model):
    inputs = batch_of_two()
    small_model.model.embed_tokens.requires_grad_(False)
    small_model.train()
    plain = small_model(**inputs, labels=inputs["input_ids"]).loss
    small_model.gradient_checkpointing_enable()
    saved = small_model(**inputs, labels=inputs["input_ids"]).loss
    saved.backward()
    torch.testing.assert_close(saved, plain)
    assert small_model.adapter.conv.weight.grad.abs().sum() > 0


def test_fresh_weights_have_sensible_sizes():
    model = StepAudio2ForCausalLM(small_config())
    linear = model.encoder.blocks[0].attn.query.weight
    assert 0.5 < linear.std() * (3 * linear.shape[1]) ** 0.5 < 1.5
    assert 0.01 < model.model.layers[0].mlp.up_proj.weight.std() < 0.03
    assert torch.equal(model.encoder.positional_embedding.weight[0, 8:], torch.ones(8))
    assert (model.encoder.after_norm.weight == 1).all()


@torch.no_grad()
def test_half_precision_runs_and_keeps_its_dtype(small_model):
    inputs = batch_of_two()
    expected = small_model(**inputs).logits
    output = small_model.to(torch.bfloat16)(**inputs)
    assert output.logits.dtype == torch.bfloat16
    torch.testing.assert_close(output.logits.float(), expected, atol=0.05, rtol=0.05)


def test_golden_config_builds_the_golden_shapes(tiny_model):
    shapes = {name: list(tensor.shape) for name, tensor in tiny_model.state_dict().items()}
    assert shapes == read_json("tiny_shapes.json.gz")["llm"]
