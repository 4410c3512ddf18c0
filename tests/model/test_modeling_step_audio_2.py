"""Agreement with the official code, on values it computed (tests/golden)."""

import zlib

import numpy as np
import pytest
import torch

from model.configuration_step_audio_2 import StepAudio2Config
from model.modeling_step_audio_2 import StepAudio2ForCausalLM
from tests.golden_recipe import SEED, read_arrays, read_json, read_mels, read_prompt

CASES = read_json("cases.json")
LM_CASES = list(CASES["lm"]["cases"])
LOGIT_TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def golden():
    return {name: torch.from_numpy(array) for name, array in read_arrays("lm.npz").items()}


def largest_gap(ours, theirs):
    return (ours - theirs).abs().max().item()


def test_recipe_draws_the_probed_weights(tiny_model):
    weights = tiny_model.state_dict()
    for name, probe in read_json("weight_probe.json")["llm"].items():
        assert list(weights[name].shape) == probe["shape"]
        assert weights[name].flatten()[:4].tolist() == pytest.approx(probe["first4"], abs=0)
        assert weights[name].double().sum().item() == pytest.approx(probe["sum"], abs=1e-6)
        assert weights[name].double().abs().sum().item() == pytest.approx(probe["abs_sum"], rel=1e-9)


@pytest.mark.parametrize("case", list(CASES["encoder"]))
@pytest.mark.parametrize("need_weights", [False, True])
@torch.no_grad()
def test_encoder_and_adaptor(tiny_model, case, need_weights):
    expected = read_arrays("encoder.npz")
    mels, lens = read_mels(CASES["encoder"][case]["clips"])
    assert lens.tolist() == expected[f"{case}__wav_lens"].tolist()
    attentions = [] if need_weights else None
    hidden, n_hidden = tiny_model.encoder(mels, lens, attentions=attentions)
    features, n_features = tiny_model.adapter(hidden, n_hidden)
    for ours, n_valid, name, lens_name in (
        (hidden, n_hidden, "enc", "enc_lens"),
        (features, n_features, "adaptor", "feat_lens"),
    ):
        theirs = expected[f"{case}__{name}"]
        assert ours.shape == theirs.shape
        assert n_valid.tolist() == expected[f"{case}__{lens_name}"].tolist()
        for clip, n in enumerate(n_valid.tolist()):
            np.testing.assert_allclose(ours[clip, :n].numpy(), theirs[clip, :n], atol=2e-5, rtol=0)
    for weights in attentions or ():
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


@pytest.mark.parametrize("case", LM_CASES)
@torch.no_grad()
def test_decoder_with_sound(tiny_model, golden, case):
    prompt = read_prompt(case)
    real = prompt["attention_mask"].bool()
    output = tiny_model(**prompt, output_hidden_states=True, output_attentions=True)
    last = output.logits[:, -1]
    assert largest_gap(last[:, golden["vocab_cols"].long()], golden[f"{case}__logits_cols"]) < LOGIT_TOLERANCE
    assert largest_gap(last.logsumexp(-1), golden[f"{case}__logsumexp"]) < LOGIT_TOLERANCE
    assert last.argmax(-1).tolist() == golden[f"{case}__argmax"].tolist()
    assert largest_gap(output.hidden_states[-1][real], golden[f"{case}__final_hidden"][real]) < LOGIT_TOLERANCE
    sure = real & (golden[f"{case}__argmax_all_margin"] > 2e-4)
    assert torch.equal(output.logits.argmax(-1)[sure], golden[f"{case}__argmax_all"][sure].long())
    layer = CASES["lm"]["cases"][case]["attention_layer"]
    assert largest_gap(output.attentions[layer][:, :, -1], golden[f"{case}__attn_last_query"]) < 2e-5


@pytest.mark.parametrize("case", LM_CASES)
@torch.no_grad()
def test_merged_embeddings(tiny_model, golden, case):
    prompt = read_prompt(case)
    real = prompt["attention_mask"].bool()
    embeds = tiny_model.model.embed_tokens(prompt["input_ids"])
    if "wavs" in prompt:
        features = tiny_model.get_audio_features(prompt["wavs"], prompt["wav_lens"])
        embeds = tiny_model.merge_audio(prompt["input_ids"], embeds, features)
    assert largest_gap(embeds[real], golden[f"{case}__merged_embeds"][real]) < 2e-5


@pytest.mark.parametrize("case", LM_CASES)
@torch.no_grad()
def test_log_probabilities_of_the_prompt(tiny_model, golden, case):
    prompt = read_prompt(case)
    ids, real = prompt["input_ids"], prompt["attention_mask"].bool()[:, :-1]
    log_probs = tiny_model(**prompt).logits.log_softmax(-1)[:, :-1]
    ours = log_probs.gather(-1, ids[:, 1:, None])[..., 0]
    assert largest_gap(ours[real], golden[f"{case}__logprob_next"][real]) < 1e-4


@pytest.mark.parametrize("case", LM_CASES)
@pytest.mark.parametrize("name, penalty", [("greedy", None), ("greedy_rp", CASES["lm"]["repetition_penalty"])])
def test_greedy_ids_and_step_logits(tiny_model, golden, case, name, penalty):
    prompt = read_prompt(case)
    output = tiny_model.generate(
        **prompt,
        max_new_tokens=CASES["lm"]["max_new_tokens"],
        do_sample=False,
        repetition_penalty=penalty,
        eos_token_id=CASES["lm"]["eos_id"],
        pad_token_id=CASES["lm"]["pad_id"],
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = output.sequences[:, prompt["input_ids"].shape[1] :]
    assert new.tolist() == golden[f"{case}__{name}"].tolist()
    if name == "greedy":
        steps = torch.stack(output.logits, dim=1)[..., golden["vocab_cols"].long()]
        assert largest_gap(steps, golden[f"{case}__greedy_step_logits"]) < LOGIT_TOLERANCE


@pytest.mark.parametrize("name, window", [("window4096", 4096), ("window_none", None)])
@torch.no_grad()
def test_attention_window(tiny_model, golden, name, window):
    rng = np.random.default_rng([SEED, zlib.crc32(b"ids.window")])
    ids = torch.from_numpy(rng.integers(0, 151643, size=CASES["lm"]["window_tokens"]))[None]
    with torch.device("meta"):
        model = StepAudio2ForCausalLM(StepAudio2Config(**read_json("config.json"), attention_window=window))
    model.load_state_dict(tiny_model.state_dict(), assign=True)
    model.model.rotary_emb = tiny_model.model.rotary_emb
    model.eval()

    output = model(ids, logits_to_keep=1, output_hidden_states=True)
    columns = output.logits[:, -1, golden["vocab_cols"].long()]
    assert largest_gap(columns, golden[f"{name}__logits_cols"]) < LOGIT_TOLERANCE
    assert output.logits[:, -1].argmax(-1).tolist() == golden[f"{name}__argmax"].tolist()
    theirs = golden[f"{name}__final_hidden_last"].reshape(1, -1)
    assert largest_gap(output.hidden_states[-1][:, -1], theirs) < LOGIT_TOLERANCE

    past = model(ids[:, :-2], use_cache=True, logits_to_keep=1).past_key_values
    for step in (ids[:, -2:-1], ids[:, -1:]):
        cached = model(step, past_key_values=past, use_cache=True)
    torch.testing.assert_close(cached.logits[:, -1], output.logits[:, -1], atol=1e-5, rtol=0)


def test_names_and_shapes_of_mini_without_allocating_it():
    config = StepAudio2Config(
        text_config={
            "vocab_size": 158720,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_attention_groups": 4,
            "num_key_value_heads": 4,
        },
        audio_encoder_config={"n_audio_state": 1280, "n_audio_head": 20, "n_audio_layer": 32, "llm_dim": 3584},
    )
    with torch.device("meta"):
        model = StepAudio2ForCausalLM(config)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == read_json("mini_llm_shapes.json.gz")
    assert len(shapes) == 832
    assert all(parameter.is_meta for parameter in model.parameters())
