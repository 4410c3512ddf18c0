"""The flow learns invented clips, after prompts as at inference; what it learns from is computed once."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.errors import StepAudioError
from model.token2wav.config import EstimatorConfig, FlowConfig, FlowDecoderConfig, FlowEncoderConfig
from model.token2wav.flow import Flow
from model.token2wav.speaker import N_SPEAKER
from model.token2wav.token2wav import blocks_of
from model.training import loop
from model.training.voice import flow as stage_file
from model.training.voice import prepared, sizes
from model.training.voice.flow import FlowStage, collate, losses
from model.training.voice.prepared import Spoken, by_speaker

SMALL = FlowConfig(
    input_size=24,
    vocab_size=729,
    encoder=FlowEncoderConfig(
        input_size=24, output_size=24, num_blocks=1, num_up_blocks=1, attention_heads=2, linear_units=32
    ),
    decoder=FlowDecoderConfig(
        estimator=EstimatorConfig(depth=1, num_heads=2, head_dim=16, hidden_size=32, mlp_ratio=2.0)
    ),
)


@pytest.fixture
def spoken(whistled) -> list[Spoken]:
    """The whistled clips; a code is the strongest band of its sound, a voice depends on who whistles."""
    made = []
    for row in whistled.rows:
        codes = whistled.prompt_mel(row).astype(np.float32)[::2].argmax(1).astype(np.int16)
        voice = np.random.default_rng(int(row.speaker[1:])).standard_normal(N_SPEAKER).astype(np.float32)
        made.append(Spoken(whistled, row, codes, voice))
    return made


@pytest.fixture
def stage(spoken) -> FlowStage:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    return FlowStage(spoken[8:], spoken[:8], config=SMALL, frames=1000, device=torch.device("cpu"), rng=rng)


def test_prompts_are_of_the_speaker_and_equally_long(spoken):
    rng = np.random.default_rng(0)
    clips, speakers = spoken[:6], by_speaker(spoken)
    batch = collate(clips, speakers, 40, rng, own_share=0.0)  # longer than a clip: two in a row
    assert batch.lens.tolist() == [40 + len(clip.codes) for clip in clips]
    assert batch.mel.shape == (6, 80, 2 * batch.codes.shape[1])
    for i, clip in enumerate(clips):
        n = batch.lens[i]
        assert batch.codes[i, 40:n].tolist() == clip.codes.tolist()
        assert torch.equal(batch.mel[i, :, 80 : 2 * n].T, torch.from_numpy(clip.mel.astype(np.float32)))
        assert batch.mel[i, :, 2 * n :].abs().sum() == 0
        assert torch.equal(batch.voice[i], torch.from_numpy(clip.voice))
        starts = [other for other in speakers[clip.row.speaker] if other is not clip]
        assert any(batch.codes[i, : len(s.codes)].tolist() == s.codes.tolist()[:40] for s in starts)


def test_a_clip_can_begin_as_its_own_prompt(spoken):
    batch = collate(spoken[:4], by_speaker(spoken), 8, np.random.default_rng(0), own_share=1.0)
    assert batch.lens.tolist() == [len(clip.codes) for clip in spoken[:4]]
    assert batch.codes[2, : batch.lens[2]].tolist() == spoken[2].codes.tolist()


def test_a_speaker_of_one_clip_prompts_himself(spoken):
    one = spoken[0]
    batch = collate([one], {one.row.speaker: [one]}, 10, np.random.default_rng(0), own_share=0.0)
    assert batch.codes[0, :10].tolist() == one.codes[:10].tolist()


def test_a_few_steps_lower_the_loss_whole_and_in_blocks(stage):
    optimizer = loop.optimizer_for(stage.module, weight_decay=0.0)
    batch = next(stage.batches(0.0))

    def now() -> list[float]:
        with torch.no_grad():
            kinds = (None, blocks_of())
            return [losses(stage.module, batch, g, torch.Generator().manual_seed(1))[0].item() for g in kinds]

    before = now()
    for _ in range(24):
        loss, _ = stage.loss(batch, 0.0)
        loop.step_optimizer(loss, optimizer, 8e-3)
    assert all(after < 0.75 * start for after, start in zip(now(), before))


def test_what_is_hidden_does_not_matter(stage):
    batch = next(stage.batches(0.0))
    other = batch._replace(codes=(batch.codes + 1) % 729, voice=-batch.voice)
    with torch.no_grad():
        for parameter in stage.module.parameters():  # so that the fresh network hears anything at all
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        for hidden, same in ((1.0, True), (0.0, False)):
            pair = [losses(stage.module, b, None, torch.Generator().manual_seed(1), hidden)[0] for b in (batch, other)]
            assert torch.equal(*pair) == same


def test_padding_does_not_matter(stage):
    batch = next(stage.batches(0.0))
    padded = batch._replace(
        codes=torch.nn.functional.pad(batch.codes, (0, 6), value=5), mel=torch.nn.functional.pad(batch.mel, (0, 12))
    )
    longest, own = int(batch.lens.max()), []
    for each in (batch, padded):
        masks = stage.module.masks(each.codes.shape[1], n_prompt=each.n_prompt, lens=each.lens)
        with torch.no_grad():
            own.append(stage.module.encode(each.codes, mask=masks.codes, lens=each.lens)[..., : 2 * longest])
    valid = torch.arange(2 * longest) < 2 * batch.lens[:, None]
    assert torch.allclose(*(x.transpose(1, 2)[valid] for x in own), atol=1e-5)


def test_times_are_spread_like_the_solver_spreads_them():
    t = stage_file.spread_times(400, torch.Generator().manual_seed(0))
    assert 0 <= t.min() and t.max() <= 1
    assert (t < 1 - np.cos(np.pi / 4)).float().mean() == pytest.approx(0.5, abs=0.01)


def test_report_names_every_number(stage):
    stage.watched = stage.watched[:2]
    found = stage.report()
    assert set(found) == {"velocity", "velocity_stream", "mel_l1", "mel_l1_stream"}
    assert all(np.isfinite(value) and value > 0 for value in found.values())
    assert found == stage.report()  # measured with fixed noise


def test_what_is_saved_makes_the_same_mel(stage, tmp_path):
    stage.module.load_state_dict({name: x.half().float() for name, x in stage.module.state_dict().items()})
    path = sizes.save_weights(stage.module, tmp_path / sizes.FLOW_FILE)
    again = Flow(SMALL)
    again.load_state_dict({name: x.float() for name, x in load_file(path).items()})
    batch = next(stage.batches(0.0))
    voice = batch.codes[:1, :10], batch.mel[:1, :, :20], batch.voice[:1]
    made = [flow.offline(batch.codes[:1, 10:20], *voice, n_steps=2) for flow in (stage.module, again)]
    assert torch.equal(*made)


def test_codes_and_voices_are_computed_once_for_each_network(whistled, tmp_path, monkeypatch):
    made = []

    def codes(tokenizer, corpus):
        made.append("codes")
        return [np.arange(row.codes, dtype=np.int16) for row in corpus.rows]

    def voices(encoder, corpus):
        made.append("voices")
        return np.arange(len(corpus), dtype=np.float32)[:, None].repeat(N_SPEAKER, 1)

    monkeypatch.setattr(prepared, "corpus_codes", codes)
    monkeypatch.setattr(prepared, "corpus_voices", voices)
    monkeypatch.setattr(prepared, "load", lambda folder: None)
    monkeypatch.setattr(prepared, "SpeakerEncoder", lambda path: None)
    networks = tmp_path / "networks"
    networks.mkdir()
    with pytest.raises(StepAudioError, match="speech_tokenizer"):
        prepared.prepare(whistled, networks)
    for name in (sizes.TOKENIZER_FILE, sizes.SPEAKER_FILE):
        (networks / name).write_bytes(b"weights")
    first, again = prepared.prepare(whistled, networks), prepared.prepare(whistled, networks)
    assert made == ["codes", "voices"]
    for i, clip in enumerate(again):
        assert clip.codes.tolist() == list(range(clip.row.codes)) == first[i].codes.tolist()
        assert clip.voice[0] == i and clip.frames == 4 * clip.row.codes
    (networks / sizes.SPEAKER_FILE).write_bytes(b"other weights")
    prepared.prepare(whistled, networks)
    assert made == ["codes", "voices", "voices"]


def test_nano_fits_its_budget():
    with torch.device("meta"):
        flow = Flow(sizes.FLOW)
    assert 1.6e6 < sum(p.numel() for p in flow.parameters()) < 2.3e6
