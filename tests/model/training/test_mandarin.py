"""Mandarin: sentences from an inventory of hummed syllables."""

import numpy as np
import pytest

from model.audio import Waveform
from model.errors import StepAudioError
from model.training import mandarin as m
from model.training.recordings import Recordings, Row


class Hummed(Recordings):
    """Recordings of one person who hums every syllable; nothing on disk."""

    def __init__(self, syllables: str) -> None:
        super().__init__(None)
        self.rows = tuple(
            Row(f"pinyin_sounds/{s}", "pinyin_sounds", "train", 0.6, "zh", None, "davinfifield", None, "", "",
                {"pinyin": s, "f0_med": 200.0})
            for s in syllables.split()
        )  # fmt: skip
        self.loaded = 0

    def load(self, row: Row) -> Waveform:
        self.loaded += 1
        t = np.arange(9_600) / 16_000
        x = sum(np.sin(2 * np.pi * 200 * k * t) / k for k in range(1, 20)) * np.hanning(len(t))
        return Waveform((0.2 * x).astype(np.float32), 16_000)


@pytest.mark.usefixtures("vocoder")
def test_speaks_with_times_that_follow_each_other(tmp_path):
    engine = m.Mandarin(Hummed("ni2 hao3 zai4 jian4"), tmp_path)
    samples, times = engine.speak("你好，再见", "davinfifield", np.random.default_rng(0))
    assert [text for text, _, _ in times] == list("你好再见")
    assert all(a[2] <= b[1] for a, b in zip(times, times[1:]))
    gap = samples[int(16_000 * times[1][2]) + 400 : int(16_000 * times[2][1]) - 400]
    assert times[2][1] - times[1][2] > 0.09 and np.abs(gap).max() < 1e-3
    assert times[-1][2] <= len(samples) / 16_000 and 0.5 < np.abs(samples).max() <= 0.71


@pytest.mark.usefixtures("vocoder")
def test_cached_units_are_not_analysed_again(tmp_path):
    first = Hummed("ni2 hao3")
    one, _ = m.Mandarin(first, tmp_path).speak("你好", "davinfifield", np.random.default_rng(3))
    second = Hummed("ni2 hao3")
    two, _ = m.Mandarin(second, tmp_path).speak("你好", "davinfifield", np.random.default_rng(3))
    assert (first.loaded, second.loaded) == (2, 0)
    assert np.allclose(one, two, atol=1e-6)


@pytest.mark.usefixtures("vocoder")
def test_a_missing_tone_is_imposed_and_a_missing_syllable_is_said(tmp_path):
    engine = m.Mandarin(Hummed("ni4 hao1"), tmp_path)
    _, times = engine.speak("你好", "davinfifield", np.random.default_rng(0))
    assert len(times) == 2
    with pytest.raises(StepAudioError, match="ma1"):
        engine.speak("妈", "davinfifield", np.random.default_rng(0))
    with pytest.raises(StepAudioError, match="--recordings"):
        engine.speak("你", "yuetan", np.random.default_rng(0))
