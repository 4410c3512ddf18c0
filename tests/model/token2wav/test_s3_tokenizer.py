"""The speech tokenizer equals the official one; windows, batches, training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.audio import Waveform, log_mel
from model.errors import AudioError
from model.token2wav.config import TokenizerConfig
from model.token2wav.s3_tokenizer import SpeechTokenizer, code_length, rotary, rotate, windows
from tests.golden_recipe import draw_long_mel, read_arrays, read_json, read_speech_tokenizer, to_float_wave

GOLDEN, FRONTEND = read_arrays("s3tokenizer.npz"), read_arrays("frontend.npz")
CLIPS = read_json("cases.json")["s3tokenizer"]["clips"]
NANO = TokenizerConfig(n_audio_state=32, n_audio_head=2, n_audio_layer=2, fsq_digits=6)


@pytest.fixture(scope="module")
def tokenizer():
    return read_speech_tokenizer()


@pytest.fixture
def nano():
    torch.manual_seed(5)
    return SpeechTokenizer(NANO)


def golden_batch():
    mels = [torch.from_numpy(GOLDEN[f"mel__{clip}"]) for clip in CLIPS]
    lens = [mel.shape[1] for mel in mels]
    return torch.stack([F.pad(mel, (0, max(lens) - mel.shape[1])) for mel in mels]), torch.tensor(lens)


def sound(n_samples, rate=16_000):
    noise = np.random.default_rng(n_samples).standard_normal(n_samples)
    return Waveform((0.1 * noise).astype(np.float32), rate)


# --- parity with the official code ---


def test_recipe_draws_the_probed_weights(tokenizer):
    weights = tokenizer.state_dict()
    for name, probe in read_json("weight_probe.json")["s3tokenizer"].items():
        assert list(weights[name].shape) == probe["shape"]
        assert weights[name].flatten()[:4].tolist() == pytest.approx(probe["first4"], abs=0)
        assert weights[name].double().sum().item() == pytest.approx(probe["sum"], abs=1e-6)
        assert weights[name].double().abs().sum().item() == pytest.approx(probe["abs_sum"], rel=1e-9)


@pytest.mark.parametrize("clip", CLIPS)
def test_front_end_equals_official(clip):
    wave = Waveform(to_float_wave(FRONTEND[f"wave__{clip}"]), 16_000)
    np.testing.assert_allclose(log_mel(wave, pad_samples=0), GOLDEN[f"mel__{clip}"], rtol=0, atol=1e-5)


def test_batch_equals_official(tokenizer):
    with torch.no_grad():
        made = tokenizer.quantise(*golden_batch())
        codes, lens = tokenizer(*golden_batch())
    assert lens.tolist() == GOLDEN["batch__lens"].tolist() == made.lens.tolist()
    for row, n in enumerate(lens):
        np.testing.assert_allclose(made.hidden[row, :n], GOLDEN["batch__hidden"][row, :n], rtol=0, atol=1e-4)
        assert codes[row, :n].tolist() == GOLDEN["batch__codes"][row, :n].tolist()
        to_edge = (tokenizer.quantizer.bound(made.hidden[row, :n]).detach().abs() - 0.5).abs().amin(-1)
        np.testing.assert_allclose(to_edge, GOLDEN["batch__margin"][row, :n], rtol=0, atol=1e-4)


def test_single_clip_equals_official(tokenizer):
    mels, lens = golden_batch()
    with torch.no_grad():
        made = tokenizer.quantise(mels[:1], lens[:1])
    np.testing.assert_allclose(made.hidden, GOLDEN["single0__hidden"], rtol=0, atol=1e-4)
    assert np.array_equal(made.codes, GOLDEN["single0__codes"])
    to_edge = (tokenizer.quantizer.bound(made.hidden).detach().abs() - 0.5).abs().amin(-1)
    np.testing.assert_allclose(to_edge, GOLDEN["single0__margin"], rtol=0, atol=1e-4)


def test_long_recording_equals_official(tokenizer):
    assert np.array_equal(tokenizer.encode_mel(draw_long_mel()), GOLDEN["long__codes"][0])


@pytest.mark.parametrize("clip", CLIPS)
def test_sound_becomes_the_official_codes(tokenizer, clip):
    codes = tokenizer.encode(Waveform(to_float_wave(FRONTEND[f"wave__{clip}"]), 16_000))
    row = CLIPS.index(clip)
    assert codes.dtype == torch.int64
    assert codes.tolist() == GOLDEN["batch__codes"][row, : GOLDEN["batch__lens"][row]].tolist()


def test_official_sizes_have_the_official_names():
    with torch.device("meta"):
        official = SpeechTokenizer().state_dict()
    tiny = set(read_json("tiny_shapes.json.gz")["s3tokenizer"])
    assert {name for name in official if "blocks." not in name or "blocks.0." in name or "blocks.1." in name} == tiny
    assert official["encoder.blocks.5.attn.fsmn_block.weight"].shape == (1280, 1, 31)
    assert official["quantizer._codebook.project_down.weight"].shape == (8, 1280)


# --- laws ---


@pytest.mark.parametrize("n_frames", [1, 2, 400, 2999, 3000, 3001, 3400, 5200, 5300, 5600, 5601, 60_000])
def test_windows_cover_everything_once(n_frames):
    cuts = windows(n_frames)
    assert cuts[0][0] == 0 and cuts[-1][1] == n_frames
    assert all(end - start == 3000 for start, end in cuts[:-1]) and all(end > start for start, end in cuts)
    assert all(after[0] == before[1] - 400 for before, after in zip(cuts, cuts[1:], strict=False))
    kept = [(end - start + 3) // 4 - 50 * (start > 0) - 50 * (end < n_frames) for start, end in cuts]
    assert sum(kept) == code_length(n_frames) and min(kept) > 0


@pytest.mark.parametrize("n_samples", [201, 640, 641, 16_000, 480_159, 900_000])
def test_25_codes_a_second_for_any_length(nano, n_samples):
    codes = nano.encode(sound(n_samples))
    assert len(codes) == code_length(n_samples // 160)
    assert 0 <= codes.min() and codes.max() < 729


def test_codes_far_from_a_cut_are_those_of_the_window_alone(nano):
    mel = torch.randn(128, 5600)
    assert torch.equal(nano.encode_mel(mel)[:700], nano.encode_mel(mel[:, :3000])[:700])
    assert torch.equal(nano.encode_mel(mel)[700:], nano.encode_mel(mel[:, 2600:])[50:])


def test_batch_equals_single_and_ignores_what_is_beyond(nano):
    mels, lens = torch.randn(3, 128, 61), torch.tensor([61, 30, 5])
    together = nano.quantise(mels, lens)
    for row, n in enumerate(lens):
        alone = nano.quantise(mels[row : row + 1, :, :n], n[None])
        kept = int(together.lens[row])
        assert kept == code_length(int(n)) == alone.codes.shape[1]
        torch.testing.assert_close(together.hidden[row, :kept], alone.hidden[0], rtol=0, atol=1e-5)
    codes, _ = nano(mels, lens)
    assert codes[2].tolist()[2:] == [729] * 14, "pad code beyond the end"


def test_an_empty_clip_in_a_batch_disturbs_nothing(nano):
    mels = torch.randn(2, 128, 20)
    made = nano.quantise(mels, torch.tensor([20, 0]))
    assert torch.isfinite(made.hidden).all() and made.lens.tolist() == [5, 0]


def test_other_rates_are_resampled(nano):
    wave = sound(16_000)
    assert torch.equal(nano.encode(wave), nano.encode(wave.resample(16_000)))
    assert len(nano.encode(sound(44_100, rate=44_100))) == 25


def test_rotation_depends_on_distance_only():
    turn = rotary(9, 8, torch.device("cpu"))
    q, k = (rotate(torch.randn(8).expand(9, 8), turn) for _ in range(2))
    scores = q @ k.T
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1], rtol=0, atol=1e-5)


# --- training ---


def test_a_recognition_loss_reaches_every_parameter(nano):
    mels, lens = torch.randn(2, 128, 80), torch.tensor([80, 60])
    made = nano.quantise(mels, lens)
    spell = torch.nn.Linear(6, 10)
    scores = spell(made.values).log_softmax(-1).transpose(0, 1)
    F.ctc_loss(scores, torch.randint(1, 10, (2, 5)), made.lens, torch.tensor([5, 5])).backward()
    silent = [name for name, p in nano.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


# --- refusals ---


@pytest.mark.parametrize(
    ("mels", "lens"),
    [
        (torch.zeros(1, 80, 9), [9]),
        (torch.zeros(128, 9), [9]),
        (torch.zeros(1, 128, 0), [0]),
        (torch.zeros(2, 128, 9), [9]),
    ],
)
def test_other_shapes_are_refused_in_words(nano, mels, lens):
    with pytest.raises(AudioError, match=r"expected \[clip, 128, frame\]"):
        nano(mels, torch.tensor(lens))


@pytest.mark.parametrize("n_samples", [0, 200])
def test_a_sound_without_a_frame_is_refused(nano, n_samples):
    with pytest.raises(AudioError, match=f"{n_samples} samples"):
        nano.encode(sound(n_samples))
