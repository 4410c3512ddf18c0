"""An echo of the reply does not stop it; a person does, also on top of the echo."""

from pathlib import Path

import numpy as np
import pytest

from model.audio import Waveform, load_waveform
from model.barge_in import LEAST_UNEXPLAINED, BargeIn, unexplained
from model.voice_activity import EnergyActivity

RATE = 16_000
FOLDER = Path(__file__).parents[2] / "model/nano/examples"


@pytest.fixture(scope="module")
def reply():
    return load_waveform(FOLDER / "2_coffee.flac")


@pytest.fixture(scope="module")
def person():
    return load_waveform(FOLDER / "5_tianqi.flac")


def echo_of(waveform, *, reverberation_s=0.4, gain=0.2, delay_s=0.15, seed=0):
    """What a microphone hears of a loudspeaker: later, softer, in a room, with a little noise."""
    rng, n = np.random.default_rng(seed), round(reverberation_s * RATE)
    room = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n) * 0.12
    room[0] = 1.0
    size = len(waveform.samples) + n
    echo = np.fft.irfft(np.fft.rfft(waveform.samples, size) * np.fft.rfft(room, size), size)[:size]
    sound = np.concatenate([np.zeros(round(delay_s * RATE)), gain * echo])
    return Waveform((sound + rng.standard_normal(len(sound)) * 0.001).astype(np.float32), RATE)


def listen(microphone, reply, piece=1600):
    """The first verdict that stops the reply, and when it came; None if none did."""
    barge = BargeIn(EnergyActivity())
    barge.play(reply)
    for start in range(0, len(microphone.samples), piece):
        verdict = barge.push(Waveform(microphone.samples[start : start + piece], microphone.sample_rate_hz))
        if verdict.interrupts:
            return verdict, start / microphone.sample_rate_hz
    return None


def quiet(seconds):
    return (np.random.default_rng(1).standard_normal(round(seconds * RATE)) * 0.001).astype(np.float32)


def test_an_echo_is_explained_by_the_reply(reply, person):
    heard = echo_of(reply).slice_s(0.6, 1.8)
    assert unexplained(heard, reply) < LEAST_UNEXPLAINED < unexplained(heard, person)


def test_another_voice_is_not(reply, person):
    assert unexplained(person.slice_s(0.4, 1.6), reply) > 0.35


def test_where_nothing_plays_everything_is_somebody(person):
    assert unexplained(person, Waveform(np.zeros(0, np.float32), RATE)) == 1.0
    assert unexplained(Waveform(np.zeros(0, np.float32), RATE), person) == 0.0


def test_the_reply_does_not_interrupt_itself(reply):
    microphone = Waveform(np.concatenate([quiet(1.0), echo_of(reply).samples, quiet(1.0)]), RATE)
    assert listen(microphone, reply) is None


def test_a_person_interrupts_within_a_second(reply, person):
    microphone = Waveform(np.concatenate([quiet(1.0), person.samples]), RATE)
    verdict, at_s = listen(microphone, reply)
    assert verdict.unexplained >= LEAST_UNEXPLAINED and at_s < 2.0


def test_a_person_interrupts_on_top_of_the_echo(reply, person):
    echo = np.concatenate([quiet(1.0), echo_of(reply).samples, quiet(2.0)])
    echo[RATE + RATE // 2 :][: len(person.samples)] += 0.5 * person.samples[: len(echo) - RATE - RATE // 2]
    assert listen(Waveform(echo, RATE), reply) is not None


def test_a_cough_does_not(reply):
    microphone = quiet(4.0)
    microphone[2 * RATE : 2 * RATE + RATE // 5] += quiet(0.2) * 200
    assert listen(Waveform(microphone, RATE), reply) is None


def test_the_reply_may_come_in_pieces_at_24_khz(reply):
    barge = BargeIn(EnergyActivity())
    spoken = reply.resample(24_000)
    for start in range(0, len(spoken.samples), 24_000):
        barge.play(Waveform(spoken.samples[start : start + 24_000], 24_000))
    echo = np.concatenate([quiet(1.0), echo_of(reply).samples])
    assert not any(barge.push(Waveform(echo[i : i + 1600], RATE)).interrupts for i in range(0, len(echo), 1600))
