"""Synthesis: every installed voice speaks, and words lie where the engine says."""

import numpy as np
import pytest

from model.errors import StepAudioError
from model.training import synthesis as s
from model.training import voices as v

SENTENCE = "please open the green door"
INSTALLED = {voice.name for voice in v.available_voices()}
SPEAKERS = [voice for voice in v.VOICES if voice.engine != v.CONCATENATION]


@pytest.mark.parametrize("voice", SPEAKERS, ids=lambda voice: voice.name)
def test_installed_voices_speak(voice):
    if voice.name not in INSTALLED:
        pytest.skip(f"{voice.engine} is not installed")
    text = SENTENCE if voice.language == "en" else "你好，请打开灯"
    speech = s.synthesize(text, voice, rng=np.random.default_rng(0))
    assert speech.waveform.sample_rate_hz == 16_000 and 0.6 < speech.waveform.duration_s < 5
    assert np.abs(speech.waveform.samples).max() == pytest.approx(0.7, abs=0.01)
    if voice.engine in (v.FLITE, v.ESPEAK, v.FESTIVAL):
        spelled = " ".join(word.text for word in speech.words)
        assert spelled == (SENTENCE if voice.language == "en" else "你 好 请 打 开 灯")
        assert all(a.start_s < a.end_s <= b.start_s + 0.02 for a, b in zip(speech.words, speech.words[1:]))
        assert speech.words[-1].end_s <= speech.waveform.duration_s


@pytest.mark.parametrize("name", ["flite-slt", "espeak-en-us", "pico-en-US", "rhvoice-bdl", "festival-ked_diphone"])
def test_rate_and_size_shorten_the_sentence(name):
    if name not in INSTALLED:
        pytest.skip(f"{name} is not installed")
    seconds = [
        s.synthesize(SENTENCE, v.find_voice(name), rng=np.random.default_rng(0), prosody=p).waveform.duration_s
        for p in (s.Prosody(), s.Prosody(rate=1.25), s.Prosody(size=1.06))
    ]
    assert seconds[1] < 0.93 * seconds[0]
    assert seconds[2] == pytest.approx(seconds[0] / 1.06, rel=0.02)


def test_an_engine_of_24_khz_keeps_what_lies_above_8_khz():
    if "rhvoice-bdl" not in INSTALLED:
        pytest.skip("RHVoice is not installed")
    speech = s.synthesize(
        SENTENCE, v.find_voice("rhvoice-bdl"), rng=np.random.default_rng(0), prosody=s.Prosody(), sample_rate_hz=24_000
    )
    assert speech.waveform.sample_rate_hz == 24_000
    power = np.abs(np.fft.rfft(speech.waveform.samples)) ** 2
    hz = np.fft.rfftfreq(len(speech.waveform.samples), 1 / 24_000)
    assert power[hz > 8500].sum() > 1e-5 * power.sum()


def test_punctuation_and_quotes_are_safe():
    for name in ("flite-slt", "espeak-en-us", "pico-en-US", "rhvoice-bdl", "festival-ked_diphone"):
        if name in INSTALLED:
            text = 'he said "stop" & <go>, it\'s fine \\ (quit)'
            assert s.synthesize(text, v.find_voice(name), rng=np.random.default_rng(0)).waveform.duration_s > 0.5


def test_missing_recordings_and_empty_texts_are_said():
    rng = np.random.default_rng(0)
    with pytest.raises(StepAudioError, match="recordings"):
        s.synthesize("你好", v.find_voice("concatenation-yuetan"), rng=rng)
    with pytest.raises(StepAudioError, match="at least one word"):
        s.synthesize(" ", v.find_voice("flite-slt"), rng=rng)
    with pytest.raises(ValueError, match="factors"):
        s.Prosody(rate=9.0)
