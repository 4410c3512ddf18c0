"""Codes become sound, whole or as they come: any slicing gives the same samples, nobody hears anybody else."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from model.audio import Waveform, to_pcm16
from model.errors import AudioError, OptionsError
from model.token2wav.flow_grid import Window
from model.token2wav.hift_source import SourceNoise
from model.token2wav.token2wav import Token2Wav, blocks_of
from model.token2wav.voice import Voices
from tests.small_voice import CONFIG, N_CODES, build_parts, build_token2wav, build_voice, random_codes, recording

STEPS = {"n_steps": 1}
FAST = {"n_steps": 1, "first_chunk": 12, "chunk": 16}
PAD = N_CODES


@pytest.fixture(scope="module")
def token2wav():
    return build_token2wav(voices=Voices(voices=[build_voice()]))


def run(stream, codes, sizes=()):
    """Push codes in slices of these sizes, then the rest, then finish; return the samples."""
    pieces, start = [], 0
    for size in (*sizes, len(codes)):
        pieces.append(stream.push(codes[start : start + size]))
        start += size
    return joined([*pieces, stream.finish()])


def joined(pieces):
    pieces = [piece for piece in pieces if piece is not None]
    assert all(len(piece.samples) and piece.sample_rate_hz == 24_000 for piece in pieces)
    return np.concatenate([np.zeros(0, np.float32), *(piece.samples for piece in pieces)])


# --- law 1: streaming equals offline ---


@pytest.mark.parametrize("seed", range(4))
def test_any_slicing_gives_the_same_samples(token2wav, seed):
    rng = np.random.default_rng(seed)
    codes = random_codes(int(rng.integers(40, 70)), seed)
    options = FAST if seed % 2 else STEPS
    sizes = rng.integers(0, (4, 30)[seed % 2] + 1, 60).tolist()
    whole = token2wav.speak(codes, build_voice(), seed, **options)
    assert len(whole.samples) == 960 * len(codes)
    assert np.array_equal(run(token2wav.stream(build_voice(), seed, **options), codes, sizes), whole.samples)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 17, 18, 19, 43, 44])
def test_every_length_comes_out_whole(token2wav, n):
    sound = token2wav.speak(random_codes(n), build_voice(), **STEPS)
    assert sound.duration_s == pytest.approx(n / 25) and np.abs(sound.samples).max() > 0
    assert np.array_equal(run(token2wav.stream(build_voice(), **STEPS), random_codes(n), [1] * n), sound.samples)


def test_more_codes_never_change_what_was_said(token2wav):
    codes = random_codes(60)
    first, second = (token2wav.stream(build_voice(), **FAST) for _ in range(2))
    said = first.push(codes[:40])
    again = [second.push(codes[:40]), second.push(codes[40:]), second.finish()]
    assert np.array_equal(joined([said]), joined(again)[: len(said.samples)])


def test_state_may_be_kept_and_continued_twice(token2wav):
    """What a stream is made of is a value; the object around it only remembers the latest."""
    codes = torch.tensor([random_codes(60)])
    state = list(token2wav.blocks(codes[:, :40], token2wav.stream(build_voice(), **FAST)._state))[-1].state
    ends = []
    for _ in range(2):
        blocks = list(token2wav.blocks(codes[:, 40:], state))
        blocks += token2wav.last_block(blocks[-1].state)
        ends.append(torch.cat([block.samples for block in blocks if block.samples is not None]))
    assert torch.equal(*ends) and ends[0].any()


# --- when sound comes ---


@pytest.mark.parametrize(("first", "chunk"), [(None, None), (11, 25), (4, 25)])
def test_first_sound_comes_as_soon_as_promised(token2wav, first, chunk):
    promised = token2wav.codes_to_first_sound(first, chunk)
    stream, codes = token2wav.stream(build_voice(), first_chunk=first, chunk=chunk, n_steps=1), random_codes(40)
    came = [n for n, code in enumerate(codes, start=1) if stream.push([code]) is not None]
    assert came[0] == promised == {None: 18, 11: 14, 4: 15}[first]


def test_codes_needed_says_when_the_next_block_comes(token2wav):
    stream = token2wav.stream(build_voice(), first_chunk=12, chunk=25, n_steps=1)
    assert stream.codes_needed == 15
    assert stream.push(random_codes(14)) is None and stream.codes_needed == 1
    assert stream.push([1]) is not None and stream.codes_needed == 24


def test_blocks_double_up_to_their_size():
    assert blocks_of().sizes == (15, 25) and blocks_of(4, 25).sizes == (4, 8, 16, 25)
    assert blocks_of(25, 25).sizes == (25,) and blocks_of(None, 10).sizes == (10,)
    for first, size in ((0, 25), (26, 25), (None, 0), (2.5, 25), (True, 25)):
        with pytest.raises(OptionsError, match="first_chunk=.*whole numbers above 0"):
            blocks_of(first, size)


# --- noise ---


def test_the_seed_decides_and_nothing_else(token2wav):
    codes = random_codes(20)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = token2wav.speak(codes, build_voice(), 5, **STEPS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert one == token2wav.speak(codes, build_voice(), 5, **STEPS)
    assert one != token2wav.speak(codes, build_voice(), 6, **STEPS)
    assert one != token2wav.speak(codes, build_voice(1), 5, **STEPS)
    for seed in (-1, 1.5, None):
        with pytest.raises(OptionsError, match="seed"):
            token2wav.speak(codes, build_voice(), seed, **STEPS)


# --- bad codes and odd ones ---


def test_pad_codes_are_left_out(token2wav):
    codes, times = random_codes(20), []
    padded = [PAD, *codes[:7], PAD, PAD, *codes[7:], PAD]
    expected = token2wav.speak(codes, build_voice(), **STEPS)
    assert token2wav.speak(padded, build_voice(), **STEPS, tell=times.append) == expected
    assert (times[0].n_codes, times[0].n_pads) == (20, 4)


@pytest.mark.parametrize("codes", [[], (), np.zeros(0), torch.zeros(1, 0), [PAD] * 5], ids=str)
@pytest.mark.parametrize("parity", [False, True])
def test_an_answer_without_codes_is_a_sound_of_no_length(token2wav, codes, parity):
    sound = token2wav.speak(codes, build_voice(), parity=parity)
    assert sound.duration_s == 0 and sound.sample_rate_hz == 24_000 and to_pcm16(sound) == b""
    stream = token2wav.stream(build_voice(), parity=parity)
    assert stream.push(codes) is None and stream.finish() is None
    assert stream.timing.real_time_factor is None and stream.timing.first_sound_s is None


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([3, 730], "code 730 at place 1, expected codes from 0 to 728.*not ids of the decoder"),
        ([PAD, PAD, -1], "code -1 at place 2"),
        ([2**70], "object"),
        ([2**63 + 5], "code 2147483647 at place 0"),
        ([1.5, 2.0], "float64"),
        ([True], "bool"),
        (["1"], "<U1"),
        ([[1, 2], [3, 4]], r"int64 \[2, 2\]"),
        (7, r"int64 \[\]"),
    ],
)
def test_bad_codes_are_told_and_change_nothing(token2wav, codes, message):
    stream, good = token2wav.stream(build_voice(), **STEPS), random_codes(20)
    first = stream.push(good[:19])
    with pytest.raises(AudioError, match=message):
        stream.push(codes)
    with pytest.raises(AudioError, match=message):
        token2wav.speak(codes, build_voice(), parity=True)
    sound = joined([first, stream.push(good[19:]), stream.finish()])
    assert np.array_equal(sound, token2wav.speak(good, build_voice(), **STEPS).samples)
    assert stream.timing.n_codes == 20


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, lambda x: torch.tensor([x]), np.uint16, tuple], ids=str)
def test_codes_in_any_form(token2wav, kind):
    codes = random_codes(4)
    assert token2wav.speak(kind(codes), build_voice(), **STEPS) == token2wav.speak(codes, build_voice(), **STEPS)


@pytest.mark.slow
def test_five_minutes(token2wav):
    stream, used, n = token2wav.stream(build_voice(), **STEPS), [], 0
    codes = random_codes(7500)
    for start in range(0, 7500, 250):
        piece = stream.push(codes[start : start + 250])
        n += len(piece.samples)
        assert np.isfinite(piece.samples).all()
        used.append(stream.memory.own_bytes)
    n += len(stream.finish().samples)
    assert n == 7500 * 960
    assert max(used) < 1.01 * used[4]


# --- many at once ---


def test_ten_streams_at_once_equal_ten_alone(token2wav):
    codes = [random_codes(30 + k, k) for k in range(10)]
    voices = [build_voice(k % 4) for k in range(10)]
    other = build_token2wav()
    alone = [other.speak(codes[k], voices[k], k, **FAST).samples for k in range(10)]
    begin, together = threading.Barrier(10), {}

    def speak(k):
        begin.wait()
        together[k] = run(token2wav.stream(voices[k], k, **FAST), codes[k], [7] * 4)

    threads = [threading.Thread(target=speak, args=(k,)) for k in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(together[k], alone[k]) for k in range(10))


def test_networks_keep_nothing(token2wav):
    modules = [*token2wav.flow.named_modules(), *token2wav.vocoder.named_modules()]
    before = [(name, sorted(vars(module)), [id(x) for x in module.buffers()]) for name, module in modules]
    token2wav.speak(random_codes(20), build_voice(), **STEPS)
    assert before == [(name, sorted(vars(module)), [id(x) for x in module.buffers()]) for name, module in modules]


# --- the end of a stream ---


def test_a_finished_stream_is_over(token2wav):
    stream = token2wav.stream(build_voice(), **STEPS)
    stream.push([1])
    assert not stream.finished
    stream.finish()
    assert stream.finished and stream.memory.own_bytes == 0 and stream.codes_needed == 0
    for call in (lambda: stream.push([1]), stream.finish):
        with pytest.raises(AudioError, match="an utterance that is over.*Token2Wav.stream"):
            call()


def test_cancel_stops_after_the_running_block(token2wav, monkeypatch):
    stream, made = token2wav.stream(build_voice(), **STEPS), []
    step = token2wav.flow.step

    def cancelling_step(*args, **kwargs):
        made.append(args)
        if len(made) == 2:
            thread = threading.Thread(target=stream.cancel)
            thread.start()
            thread.join()
        return step(*args, **kwargs)

    monkeypatch.setattr(token2wav.flow, "step", cancelling_step)
    assert stream.push(random_codes(500)) is None
    assert len(made) == 2 and stream.cancelled and stream.memory.own_bytes == 0
    assert stream.push([1]) is None and stream.finish() is None
    assert len(made) == 2


def test_cancel_between_calls_frees_at_once(token2wav):
    stream = token2wav.stream(build_voice(), **STEPS)
    stream.push(random_codes(30))
    assert stream.memory.own_bytes > 0
    stream.cancel()
    assert stream.memory.own_bytes == 0 and stream.finish() is None


def test_a_stream_that_failed_is_over(token2wav, monkeypatch):
    stream = token2wav.stream(build_voice(), **STEPS)

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(token2wav.vocoder, "step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        stream.push(random_codes(30))
    with pytest.raises(AudioError, match="an utterance that is over"):
        stream.push([1])


# --- what is told ---


def test_timing_adds_up(token2wav):
    stream = token2wav.stream(build_voice(3), **FAST)
    stream.push(random_codes(16))
    early = stream.timing
    stream.push([PAD])
    stream.finish()
    done = stream.timing
    assert early.first_sound_s == done.first_sound_s > 0
    assert 0 < early.flow_s < done.flow_s and 0 < early.vocoder_s < done.vocoder_s and done.voice_s > 0
    assert done.sound_s == pytest.approx(16 / 25) and (done.n_codes, done.n_pads) == (16, 1)
    assert done.real_time_factor == pytest.approx((done.flow_s + done.vocoder_s) / done.sound_s)


def test_memory_is_bounded_and_the_voice_shared(token2wav):
    streams, used = [token2wav.stream(build_voice(), window=Window(40, 20), **STEPS) for _ in range(2)], []
    for start in range(0, 200, 25):
        streams[0].push(random_codes(200)[start : start + 25])
        used.append(streams[0].memory.own_bytes)
    assert used[-1] == used[-2] == used[-3] > streams[1].memory.own_bytes
    assert streams[0].memory.shared_bytes == streams[1].memory.shared_bytes > 0
    state = streams[0]._state
    assert used[-1] == state.flow.stream_bytes + state.vocoder.n_bytes


def test_a_voice_is_read_once_and_forgotten_in_time():
    small, reads = build_token2wav(), []
    start = small.flow.start
    small.flow.start = lambda **options: reads.append(options["seed"]) or start(**options)
    first = small.read_voice(build_voice(), **STEPS)
    assert small.read_voice(build_voice().renamed("other"), **STEPS) is first
    small.stream(build_voice(), **STEPS)
    assert reads == [0]
    small.keep_bytes = first.prompt_bytes + first.stream_bytes
    small.read_voice(build_voice(), 1, **STEPS)
    assert small.read_voice(build_voice(), 1, **STEPS) is not first and reads == [0, 1]
    small.read_voice(build_voice(), 0, **STEPS)
    assert reads == [0, 1, 0]
    small.keep_bytes = 0
    assert small.speak([1, 2], build_voice(1), **STEPS).duration_s > 0 and not small._starts


# --- parity ---


@torch.no_grad()
def test_parity_speaks_as_the_official_offline_code(token2wav):
    codes, voice, times = random_codes(30), build_voice(), []
    mel = token2wav.flow.offline(torch.tensor([codes]), **voice.prompt(), seed=3, n_steps=2)
    expected = token2wav.vocoder(mel, noise=SourceNoise(3))[0].numpy()
    sound = token2wav.speak([*codes, PAD], voice, 3, parity=True, n_steps=2, tell=times.append)
    assert np.array_equal(sound.samples, expected)
    assert sound != token2wav.speak(codes, voice, 3, n_steps=2)
    assert times[0].n_codes == 30 and times[0].real_time_factor > 0
    with pytest.raises(AudioError, match="at most 2500"):
        token2wav.speak([1] * 2500, voice, parity=True)


def test_parity_streams_as_the_official_client(token2wav):
    codes, voice = random_codes(90), build_voice()
    state = token2wav.flow.start(**voice.prompt(), n_steps=1, parity=True)
    vocoder, expected = token2wav.vocoder.start(parity=True), []
    mels = []
    for first, stop in ((0, 28), (28, 53), (53, 78), (78, 90)):
        mel, state = token2wav.flow.step(torch.tensor([codes[first:stop]]), state, last=stop == 90)
        mels.append(mel)
        samples, vocoder = token2wav.vocoder.step(mel, vocoder, last=stop == 90)
        expected.append(samples[0].numpy())
    assert [mel.shape[-1] for mel in mels] == [50, 50, 50, 30]
    assert [len(piece) for piece in expected] == [20_160, 24_000, 24_000, 18_240]
    found = run(token2wav.stream(voice, parity=True, **STEPS), codes, [1, 40, 3])
    assert np.array_equal(found, np.concatenate(expected))
    assert token2wav.stream(voice, parity=True, **STEPS).memory.own_bytes > 0


def test_parity_has_its_own_settings(token2wav):
    calls = (
        lambda: token2wav.stream(build_voice(), first_chunk=10, parity=True),
        lambda: token2wav.stream(build_voice(), window=Window(7, 7), parity=True),
        lambda: token2wav.speak([1], build_voice(), parity=True, chunk=10),
    )
    for call in calls:
        with pytest.raises(OptionsError, match="parity"):
            call()


# --- voices ---


def test_voices_by_name(token2wav):
    assert token2wav.speak([1, 2], "invented 0", **STEPS) == token2wav.speak([1, 2], build_voice(), **STEPS)
    with pytest.raises(AudioError, match="none of that name, expected invented 0"):
        token2wav.stream("nobody")
    with pytest.raises(AudioError, match="type NoneType, expected a Voice or the name"):
        token2wav.stream(None)


def test_voices_of_other_checkpoints_are_refused(token2wav):
    voice = build_voice()
    for part, value, message in (
        ("codes", voice.codes + 700, "expected codes from 0 to 728"),
        ("mel", voice.mel[:40], r"\[1, 80, 16\]"),
        ("speaker", voice.speaker[:64], r"\[1, 192\]"),
    ):
        with pytest.raises(AudioError, match=message):
            token2wav.stream(dataclasses.replace(voice, **{part: value}))


def test_voices_are_made_and_fit(tmp_path):
    pytest.importorskip("onnxruntime")
    from tests.small_voice import save_speaker

    whole = build_token2wav(save_speaker(tmp_path / "speaker.onnx"))
    voice = whole.make_voice(recording(), name="me", transcript="words")
    assert whole.speak(random_codes(5), voice, **STEPS).duration_s == 0.2
    with pytest.raises(AudioError, match="codes of another speech tokenizer .*Make the voice again"):
        whole.speak([1], dataclasses.replace(voice, tokenizer="0" * 16))
    assert whole.voices.names == ()


def test_without_networks_no_voice_is_made(token2wav):
    with pytest.raises(AudioError, match="without speech tokenizer and speaker network"):
        token2wav.make_voice(recording(), name="me")


# --- devices and samples ---


def test_networks_on_two_devices_are_refused():
    parts = build_parts()
    with pytest.raises(OptionsError, match="vocoder on meta"):
        Token2Wav(CONFIG, parts["flow"], parts["vocoder"].to("meta"))


def test_info_of_networks_made_by_hand(token2wav):
    info = token2wav.info
    assert (info.path, info.device, info.dtype) == (None, "cpu", "float32")
    assert info.memory_bytes == 4 * info.n_parameters > 0


def test_pcm_is_cut_as_officially():
    samples = np.array([0, 0.5, -0.5, 1.5, -1.5, 1.9 / 32767, -1.9 / 32767], np.float32)
    expected = [0, 16383, -16383, 32767, -32767, 1, -1]
    assert np.frombuffer(to_pcm16(Waveform(samples, 24_000)), "<i2").tolist() == expected


@pytest.mark.gpu
def test_gpu_says_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    parts, codes = build_parts(), random_codes(50)
    expected = Token2Wav(CONFIG, parts["flow"], parts["vocoder"]).speak(codes, build_voice()).samples
    there = Token2Wav(CONFIG, parts["flow"].cuda(), parts["vocoder"].cuda())
    assert there.info.device.startswith("cuda")
    sound = there.speak(codes, build_voice())
    assert np.abs(sound.samples - expected).max() < 1e-2
    assert np.array_equal(run(there.stream(build_voice()), codes, [5] * 10), sound.samples)
