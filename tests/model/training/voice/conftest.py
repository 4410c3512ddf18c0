"""A corpus of invented sounds: every syllable is a tone, every speaker has another overtone."""

import numpy as np
import pytest

from model.audio import Waveform
from model.training.corpus import Clip
from model.training.voice import corpus

SYLLABLES = ("ba1", "da2", "fo3", "ge4", "hu1", "li2")
SYLLABLE_S = 0.2


class _Whistlers:
    """Stand in for the engines."""

    def make(self, clip: Clip):
        rng = np.random.default_rng(len(clip.id) + int(clip.labels["guise"]))
        time = np.arange(round(SYLLABLE_S * 24_000)) / 24_000
        overtone = 1.3 + 0.4 * int(clip.labels["guise"])
        hz = [300 * 1.35 ** SYLLABLES.index(syllable) for syllable in clip.text.split()]
        tones = [np.sin(2 * np.pi * f * time) + 0.5 * np.sin(2 * np.pi * overtone * f * time) for f in hz]
        samples = 0.3 * np.concatenate(tones) + 1e-3 * rng.standard_normal(len(time) * len(tones))
        words = tuple((s, i * SYLLABLE_S, (i + 1) * SYLLABLE_S) for i, s in enumerate(clip.text.split()))
        return corpus.trimmed(Waveform(samples.astype(np.float32), 24_000), words)


@pytest.fixture
def whistled(tmp_path, monkeypatch) -> corpus.VoiceCorpus:
    """48 clips in two shards by four whistlers; the first shard (8 clips) is the watched one."""
    monkeypatch.setattr(corpus, "_SPEAKER", _Whistlers())
    rng = np.random.default_rng(0)
    clips = []
    for i in range(48):
        text = " ".join([SYLLABLES[i % 6], *rng.choice(SYLLABLES, 4)])
        labels = {"speaker": f"w{i % 4}", "guise": i % 4, "band_hz": 12_000.0}
        clips.append(Clip(f"c{i}", "voice", "pinyin", text, "whistle", labels=labels))
    corpus._build_shard(str(tmp_path), 0, clips[:8])
    corpus._build_shard(str(tmp_path), 1, clips[8:])
    return corpus.VoiceCorpus(tmp_path)
