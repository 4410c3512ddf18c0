"""Laws of the vocoder's streams: how a mel is cut changes nothing, seams cannot be heard, streams do not meet."""

import numpy as np
import pytest
import torch

from model.token2wav.hift_source import NoNoise, SourceNoise
from tests.golden_recipe import draw_vocoder_inputs, read_vocoder

HOP = 480
ROUNDING = 2e-6
"""Convolutions round differently for pieces of different length."""
KINDS = {
    "official": {},
    "causal": {"causal": True},
    "short windows": {"istft_n_fft": 16, "nsf_alpha": 0.2},
}
MEL = draw_vocoder_inputs()["stream_mel"]


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def vocoder(request):
    return read_vocoder(**request.param)


@pytest.fixture(scope="module")
def tiny():
    return read_vocoder()


def random_pieces(n_frames, rng):
    """Cut a length into pieces of 0 to many frames; some cuttings are all small, some have large pieces."""
    pieces, largest = [], rng.choice([2, 6, 50])
    while sum(pieces) < n_frames:
        pieces.append(min(int(rng.integers(0, largest + 1)), n_frames - sum(pieces)))
    return pieces


def run_stream(vocoder, mel, pieces, ends_apart=False, **start):
    """Return the samples of each step; with `ends_apart` the end is told after the last frame."""
    state, samples, place = vocoder.start(**start), [], 0
    for i, n in enumerate(pieces):
        last = i == len(pieces) - 1 and not ends_apart
        piece, state = vocoder.step(mel[..., place : place + n], state, last=last)
        samples.append(piece)
        place += n
    if ends_apart:
        samples.append(vocoder.step(mel[..., :0], state, last=True)[0])
    return samples


def largest_gap(ours, theirs):
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


@pytest.mark.parametrize("seed", range(6))
@torch.no_grad()
def test_stream_equals_offline(vocoder, seed):
    pieces = random_pieces(MEL.shape[-1], np.random.default_rng(seed))
    streamed = run_stream(vocoder, MEL, pieces, ends_apart=seed % 2 == 1)
    assert largest_gap(torch.cat(streamed, dim=1), vocoder(MEL)) < ROUNDING


@pytest.mark.parametrize("n_frames", [1, 2, 20, 21, 22, 23])
@torch.no_grad()
def test_short_utterances(vocoder, n_frames):
    mel = MEL[..., :n_frames]
    for pieces in ([n_frames], [1] * n_frames):
        for ends_apart in (False, True):
            streamed = torch.cat(run_stream(vocoder, mel, pieces, ends_apart), dim=1)
            assert largest_gap(streamed, vocoder(mel)) < ROUNDING


def test_an_utterance_without_frames_is_silent(tiny):
    samples, state = tiny.step(MEL[..., :0], tiny.start(), last=True)
    assert samples.shape == (1, 0) and state.ended


@torch.no_grad()
def test_more_input_never_changes_earlier_output(vocoder):
    n_final = (30 - vocoder.lookahead_frames) * HOP
    longer = torch.cat([MEL[..., :30], 50 - MEL[..., 30:]], dim=-1)
    assert largest_gap(vocoder(MEL[..., :30])[:, :n_final], vocoder(longer)[:, :n_final]) < ROUNDING


def test_a_stream_lags_by_its_lookahead_and_no_more(vocoder):
    given = [vocoder.lookahead_frames, 1, 1, 3]
    n_samples = [piece.shape[1] for piece in run_stream(vocoder, MEL, [*given, 1])][:-1]
    assert n_samples[0] == 0
    assert HOP <= n_samples[1] < 2 * HOP
    assert n_samples[2:] == [HOP, 3 * HOP]


def test_causal_blocks_look_ahead_less():
    assert read_vocoder().lookahead_frames == 21
    assert read_vocoder(causal=True).lookahead_frames == 7


def test_interleaved_streams_equal_streams_alone(vocoder):
    mels = MEL, MEL.flip(-1)
    alone = [torch.cat(run_stream(vocoder, mel, [9] * 5, seed=i), dim=1) for i, mel in enumerate(mels)]
    states, together = [vocoder.start(seed=i) for i in range(2)], [[], []]
    for step in range(5):
        for i, mel in enumerate(mels):
            piece, states[i] = vocoder.step(mel[..., 9 * step : 9 * step + 9], states[i], last=step == 4)
            together[i].append(piece)
    for i in range(2):
        assert torch.equal(torch.cat(together[i], dim=1), alone[i])


def test_a_state_can_be_continued_twice(vocoder):
    for n_frames in (4, 30):
        _, state = vocoder.step(MEL[..., :n_frames], vocoder.start())
        first, _ = vocoder.step(MEL[..., n_frames:], state, last=True)
        vocoder.step(MEL[..., :9], state)
        again, _ = vocoder.step(MEL[..., n_frames:], state, last=True)
        assert torch.equal(first, again)


def test_a_state_stays_small(tiny):
    state = tiny.start()
    sizes = []
    for _ in range(4):
        _, state = tiny.step(MEL, state)
        sizes.append(state.n_bytes)
    assert len(set(sizes)) == 1
    assert sizes[0] < 200_000


@torch.no_grad()
def test_noise_depends_on_the_seed_alone(tiny):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = tiny(MEL, noise=SourceNoise(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, tiny(MEL, noise=SourceNoise(5)))
    assert not torch.equal(one, tiny(MEL, noise=SourceNoise(6)))
    assert torch.equal(tiny(MEL), tiny(MEL, noise=SourceNoise(0)))
    drawn = [tiny(MEL, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def steady_tone(vocoder):
    """Fix the pitch of a vocoder at 110 Hz; a steady mel then repeats itself every 5 frames, 11 periods, exactly."""
    with torch.no_grad():
        vocoder.f0_predictor.classifier.weight.zero_()
        vocoder.f0_predictor.classifier.bias.fill_(110.0)
    return vocoder


def seam_steps_db(vocoder, **start):
    """Vocode a steady tone in pieces of a second; return how far the level at seams is from that around them."""
    tone = MEL[..., 7:8].expand(-1, -1, 250)
    pieces = run_stream(vocoder, tone, [50] * 5, noise=NoNoise(), **start)
    wave, seams = torch.cat(pieces, dim=1)[0], np.cumsum([piece.shape[1] for piece in pieces])[:-1]
    around = [seam + offset for seam in seams for offset in (-4800, 0, 4800)]
    energy = torch.stack([wave[place - 1200 : place + 1200].square().mean() for place in around]).view(-1, 3)
    assert energy.min() > 1e-6
    before, at, after = (10 * energy.log10()).unbind(1)
    return torch.maximum((at - before).abs(), (at - after).abs()).max().item()


@pytest.mark.parametrize("sizes", KINDS.values(), ids=KINDS)
def test_seams_of_a_steady_tone_keep_its_level(sizes):
    assert seam_steps_db(steady_tone(read_vocoder(**sizes))) < 0.1


def test_official_seams_do_not():
    """What the law above is for; it also shows that the measure sees a seam: the begin of a fade of 0.67 dB."""
    assert seam_steps_db(steady_tone(read_vocoder()), parity=True) > 0.25


@torch.no_grad()
def test_long_speech_does_not_drift(tiny):
    """The pitch is summed in the phase, and so would be what pieces round differently."""
    mel = MEL[..., torch.randint(0, 47, (600,), generator=torch.Generator().manual_seed(0))]
    streamed = torch.cat(run_stream(tiny, mel, [25] * 24), dim=1)
    assert largest_gap(streamed, tiny(mel)) < ROUNDING
