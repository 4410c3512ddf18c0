"""The tokenizer learns invented words, its codes stay varied, and what ships is what was trained."""

import json

import numpy as np
import pytest
import torch

from model.audio import log_mel
from model.token2wav.config import Token2WavConfig, TokenizerConfig
from model.training import loop
from model.training.corpus import Clip, Corpus, Row
from model.training.voice import hearing, sizes
from model.training.voice import speech_tokenizer as st
from model.training.voice.hearing import Heard

SMALL = TokenizerConfig(n_audio_state=32, n_audio_head=2, n_audio_layer=1, fsq_digits=6, fsmn_kernel_size=7)


@pytest.fixture
def stage(whistled) -> st.TokenizerStage:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    return st.TokenizerStage([whistled], config=SMALL, frames=3000, device=torch.device("cpu"), rng=rng)


def test_a_few_steps_lower_the_loss_and_keep_the_codes_varied(stage):
    optimizer = loop.optimizer_for(stage.module, weight_decay=0.0)
    batch = stage.clips[:16]
    seen = []
    for step in range(40):
        loss, numbers = stage.loss(batch, 0.09 + 0.01 * min(step, 1))
        loop.step_optimizer(loss, optimizer, 4e-3)
        seen.append(numbers)
    assert seen[-1]["ctc"] < 0.6 * seen[0]["ctc"] and seen[-1]["sound"] < 0.8 * seen[0]["sound"]
    assert seen[-1]["batch_perplexity"] > 8  # six syllables and their borders


def test_folding_changes_no_code(stage):
    for _ in range(3):  # running statistics that are not those of the start
        stage.loss(stage.clips[:8], 0.3)
    stage.module.eval()
    mels, lens = hearing.collate(stage.watched)
    with torch.no_grad():
        before = stage.module(mels, lens)
        stage.module.fold()
        codes, counts = stage.module.tokenizer(mels, lens)
    assert counts.tolist() == before.valid.sum(1).tolist()
    assert torch.equal(codes[before.valid], before.codes[before.valid])


def test_what_is_saved_makes_the_same_codes(stage, whistled, tmp_path):
    stage.module.fold()
    tokenizer = stage.module.tokenizer.eval()
    tokenizer.load_state_dict({k: v.half().float() for k, v in tokenizer.state_dict().items()})
    own = Token2WavConfig(flow=sizes.FLOW, hift=sizes.HIFT, tokenizer=SMALL)
    st.save(tokenizer, tmp_path)
    own.save(tmp_path)  # the small sizes of this test instead of nano's
    codes = st.corpus_codes(st.load(tmp_path), whistled)
    assert [len(c) for c in codes] == [row.codes for row in whistled.rows]
    for row, own_codes in list(zip(whistled.rows, codes))[::7]:  # batch equals single
        mel = torch.from_numpy(whistled.mel(row).astype(np.float32)).T
        assert tokenizer.encode_mel(mel).tolist() == own_codes.tolist()


def test_report_names_every_number(stage):
    found = stage.report()
    assert set(found) == {"voice_symbol_error", "voice_perplexity", "voice_used", "voice_sound"}
    assert found["voice_symbol_error"] > 0 and 1 <= found["voice_perplexity"] <= 729 * found["voice_used"] + 1


def test_rounding_comes_in_and_gradients_pass_it(stage):
    mels, lens = hearing.collate(stage.clips[:4])
    project = stage.module.tokenizer.quantizer._codebook.project_down.weight
    for rounded in (torch.tensor([False] * 4), None):
        spelled = stage.module(mels, lens, rounded)
        (gradient,) = torch.autograd.grad(spelled.log_probs[..., 3].sum(), project)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_codebook_use_of_known_codes():
    assert st.codebook_use(torch.tensor([3, 3, 3]), 9) == (pytest.approx(1.0), pytest.approx(1 / 9))
    assert st.codebook_use(torch.arange(9).repeat(4), 9) == (pytest.approx(9.0), 1.0)


def test_alike_numbers_are_penalised():
    numbers = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    assert st.alike_loss(numbers) < 0.01
    assert st.alike_loss(numbers[:, :1].repeat(1, 3)) == pytest.approx(1.0, abs=1e-3)


def test_spectrum_movement_leaves_level_and_padding_out():
    mel = torch.randn(1, 128, 40, generator=torch.Generator().manual_seed(0))
    louder = torch.nn.functional.pad(mel + 0.3, (0, 24))
    lens = torch.tensor([40])
    here, there = st.spectrum_movement(mel, lens), st.spectrum_movement(louder, lens)
    assert here.shape == (1, 10, 128)
    assert torch.allclose(here, there[:, :10], atol=1e-5)
    assert here.mean(1).abs().max() < 1e-5


def test_clips_of_both_kinds_stand_side_by_side(whistled, tmp_path):
    sound = whistled.waveform(whistled.rows[0]).resample(16_000)
    mel = log_mel(sound).T.numpy().astype(np.float16)  # with the model's padding of 479 zeros
    mel.tofile(tmp_path / "shard_0007.f16")
    other = Corpus(tmp_path / "nothing")
    other.folder = tmp_path
    row = Row(Clip("o", "world", "pinyin", "ba1"), 7, 0, len(mel), len(sound.samples))
    both = [Heard(other, row), Heard(whistled, whistled.rows[0])]
    assert both[0].frames == both[1].frames == len(sound.samples) // 160
    mels, lens = hearing.collate(both)
    assert lens.tolist() == [both[0].frames] * 2
    assert (mels[0] - mels[1])[:, :-3].abs().max() < 0.05  # the end is mirrored by one, zero in the other


def test_nano_fits_its_budget():
    assert sizes.NANO.tokenizer.n_codes == 729
    with torch.device("meta"):
        tokenizer = st.SpeechTokenizer(sizes.TOKENIZER)
    assert sum(p.numel() for p in tokenizer.parameters()) < 1.2e6


def test_the_command_writes_a_tokenizer_and_its_numbers(whistled, tmp_path):
    (whistled.folder / "test").symlink_to(whistled.folder)
    flags = ["--corpus", str(whistled.folder), "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    path = st.train(st.build_parser().parse_args([*flags, "--steps", "2", "--frames", "900", "--device", "cpu"]))
    tokenizer = st.load(path.parent)
    assert tokenizer.config == sizes.TOKENIZER and path.stat().st_size < 2.4e6
    found = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(found) == {"watched", "test_pinyin"} and 0 < found["test_pinyin"]["used"] <= 1
