"""Deliveries: every label can be measured in the sound, by other means than those that made it."""

import importlib.util

import numpy as np
import pytest

from model.audio import Waveform
from model.tasks import paralinguistics
from model.training import voices
from model.training.synthesis import Prosody, synthesize
from model.training.world import delivery as d
from model.training.world.delivery import Delivery

TEXT = "Please turn off the television in the living room."
RATE = 16_000


@pytest.fixture(scope="module")
def speech():
    if not voices.engine_installed(voices.FLITE):
        pytest.skip("flite is not installed")
    if importlib.util.find_spec("pyworld") is None:
        pytest.skip("pyworld is not installed")
    voice = voices.find_voice("flite-slt")
    return synthesize(TEXT, voice, rng=np.random.default_rng(0), prosody=Prosody())


@pytest.fixture(scope="module")
def say(speech):
    made = {}

    def say(seed=0, **labels):
        key = (seed, *sorted(labels.items()))
        if key not in made:
            words = tuple((w.text, w.start_s, w.end_s) for w in speech.words)
            rng = np.random.default_rng(seed)
            made[key] = d.deliver(speech.waveform, Delivery(**labels), rng, text=TEXT, gender="female", words=words)
        return made[key]

    return say


def pitch_track(samples):
    """Pitch by autocorrelation, Hz [40 ms block]; another way than WORLD's."""
    found = []
    for start in range(0, len(samples) - 640, 320):
        block = samples[start : start + 640] - samples[start : start + 640].mean()
        if np.abs(block).max() < 0.05:
            continue
        spectrum = np.abs(np.fft.rfft(block * np.hanning(640), 2048)) ** 2
        window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(640), 2048)) ** 2)
        correlation = np.fft.irfft(spectrum)[:320] / window[:320]
        lags = slice(RATE // 480, RATE // 70)
        best = int(np.argmax(correlation[lags])) + lags.start
        # The shortest lag that is nearly as good is the period; longer ones are its multiples.
        good = [k for k in range(lags.start, best + 1) if correlation[k] > 0.85 * correlation[best]]
        best = next((k for k in good if correlation[k] >= max(correlation[k - 1], correlation[k + 1])), best)
        if correlation[best] > 0.55 * correlation[0]:
            found.append(RATE / best)
    return np.asarray(found)


def tilt(samples):
    """Level above 2 kHz against the level below, dB."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    return 10 * np.log10(power[hz > 2000].sum() / power[(hz > 80) & (hz < 2000)].sum())


def periodicity(samples):
    """How like itself the voice is one period later, median over loud blocks; noise and roughness lower it."""
    values = []
    for start in range(0, len(samples) - 640, 320):
        block = samples[start : start + 640] - samples[start : start + 640].mean()
        if np.abs(block).max() > 0.15:
            c = np.correlate(block, block, "full")[639:]
            values.append(c[RATE // 480 : RATE // 70].max() / c[0])
    return float(np.median(values))


def spread(made):
    """Width of the pitch, octaves between the outer tenths; single errors of the tracker do not count."""
    return float(np.subtract(*np.quantile(np.log2(pitch_track(made.waveform.samples)), [0.9, 0.1])))


def longest_gap_s(samples):
    quiet = np.flatnonzero(d._active(samples))
    return 0.02 * float(np.diff(quiet).max())


def test_the_table_and_the_task_know_the_same_labels():
    for dimension in ("emotion", "age", "timbre", "pitch", "rhythm", "speed", "style"):
        assert set(d.labels(dimension)) == set(paralinguistics.labels(dimension))


def test_labels_that_change_the_same_thing_are_refused():
    for labels in ({"emotion": "sad", "pitch": "high"}, {"style": "whisper", "age": "child"}):
        with pytest.raises(ValueError, match="both change"):
            Delivery(**labels)
    with pytest.raises(ValueError, match="the table has"):
        Delivery(emotion="jealous")
    Delivery(pitch="high", speed="fast", timbre="bright", rhythm="halting")


def test_a_plain_delivery_leaves_every_sample(say, speech):
    plain = say(emotion="neutral", style="conversational", timbre="natural")
    assert np.array_equal(plain.waveform.samples, speech.waveform.samples)
    assert plain.labels["gender"] == "female" and plain.labels["emotion"] == "neutral"
    assert plain.words == tuple((w.text, pytest.approx(w.start_s, abs=0.006), pytest.approx(w.end_s, abs=0.006))
                                for w in speech.words)  # fmt: skip


@pytest.mark.parametrize("label", ["mid-low", "middle", "mid-high", "high"])
def test_pitch_lies_in_its_band(say, label):
    made = say(pitch=label)
    assert made.labels["pitch"] == label
    semitones = 12 * np.log2(np.median(pitch_track(made.waveform.samples)) / d.USUAL_HZ["female"])
    low, high = d.table()["pitch", label]["semitones"]
    assert low - 0.8 <= semitones <= high + 0.8


@pytest.mark.parametrize("label", ["slow", "mid-slow", "medium", "mid-fast", "fast"])
def test_speed_is_syllables_by_time(say, label):
    made = say(speed=label)
    assert made.labels["speed"] == label
    sounding = np.flatnonzero(np.abs(made.waveform.samples) > 0.02)
    rate = 13 / ((sounding[-1] - sounding[0]) / RATE)
    low, high = d.table()["speed", label]["syllables"]
    assert 0.85 * low <= rate <= 1.15 * high
    assert d.speed_label(made.rate) == label


def test_timbres_differ_in_tilt_and_noise(say):
    plain, bright, dark, breathy, hoarse = (
        say(timbre=label).waveform.samples for label in ("natural", "bright", "dark", "breathy", "hoarse")
    )
    assert tilt(bright) > tilt(plain) + 5 and tilt(dark) < tilt(plain) - 5
    assert periodicity(breathy) < periodicity(plain) - 0.02
    assert periodicity(hoarse) < periodicity(plain) - 0.05


def test_rhythms_differ_in_pauses_and_evenness(say):
    plain, halting, changing = (say(rhythm=label) for label in ("steady", "halting", "changing"))
    assert longest_gap_s(plain.waveform.samples) < 0.2 < 0.3 < longest_gap_s(halting.waveform.samples)
    assert halting.rate == pytest.approx(plain.rate, rel=0.12)  # pauses are not slowness

    def unevenness(made):
        lengths = np.asarray([end - start for _, start, end in made.words])
        usual = np.asarray([end - start for _, start, end in plain.words])
        return float(np.std(np.log(lengths / usual)))

    assert unevenness(changing) > 0.2 > unevenness(halting)


@pytest.mark.parametrize("label", ["halting", "changing"])
def test_a_short_word_has_no_rhythm(speech, label):
    short = Waveform(speech.waveform.samples[3000:9000], RATE)
    made = d.deliver(short, Delivery(rhythm=label), np.random.default_rng(0), text="Please", gender="female")
    assert "rhythm" not in made.labels


def test_words_stay_on_their_sounds_through_pauses(say):
    made = say(rhythm="halting")
    samples = np.abs(made.waveform.samples)
    starts = [start for _, start, _ in made.words]
    assert starts == sorted(starts) and made.words[-1][2] <= made.waveform.duration_s + 0.01
    for _, start, end in made.words:
        assert samples[int(start * RATE) : int(end * RATE)].max() > 0.01


def test_emotions_follow_the_profile_of_acted_speech(say):
    f0 = {e: np.median([say(seed, emotion=e).f0_hz for seed in range(3)]) for e in d.labels("emotion")}
    rate = {e: np.median([say(seed, emotion=e).rate for seed in range(3)]) for e in d.labels("emotion")}
    heard = {e: np.median(pitch_track(say(emotion=e).waveform.samples)) for e in d.labels("emotion")}
    assert f0["sad"] < f0["neutral"] < min(f0[e] for e in ("happy", "angry", "fearful", "surprised"))
    assert heard["sad"] < heard["neutral"] < min(heard[e] for e in ("happy", "angry", "fearful", "surprised"))
    assert rate["sad"] < 0.85 * rate["neutral"] < rate["surprised"]
    assert 1.5 * spread(say(emotion="sad")) < spread(say(emotion="surprised"))
    assert tilt(say(emotion="angry").waveform.samples) > tilt(say(emotion="neutral").waveform.samples) + 4


def test_ages_differ_in_pitch_pace_and_tremble(say):
    child, young, middle, elderly = (say(age=a) for a in ("child", "young", "middle-aged", "elderly"))
    assert np.median(pitch_track(child.waveform.samples)) > 240 and "gender" not in child.labels
    assert np.median(pitch_track(young.waveform.samples)) > 1.15 * np.median(pitch_track(middle.waveform.samples))
    assert young.rate > middle.rate > elderly.rate
    assert periodicity(elderly.waveform.samples) < periodicity(young.waveform.samples)


def test_styles_can_be_told_apart(say):
    made = {style: say(style=style) for style in d.labels("style")}
    samples = {style: m.waveform.samples for style, m in made.items()}
    assert periodicity(samples["whisper"]) < 0.75 * periodicity(samples["conversational"])
    assert not {"pitch", "gender"} & made["whisper"].labels.keys()
    assert np.median(pitch_track(samples["shouting"])) > 1.3 * np.median(pitch_track(samples["conversational"]))
    crest = {s: np.abs(x).max() / np.sqrt(np.mean(x**2)) for s, x in samples.items()}
    assert crest["shouting"] < 0.8 * crest["conversational"]
    assert spread(made["robotic"]) < 0.6 * spread(made["conversational"]) < 0.6 * spread(made["storytelling"])
    assert made["news"].rate > made["conversational"].rate > made["storytelling"].rate


def test_the_same_seed_says_the_same(say, speech):
    once = say(emotion="happy").waveform.samples
    again = d.deliver(
        speech.waveform, Delivery(emotion="happy"), np.random.default_rng(0), text=TEXT, gender="female"
    ).waveform.samples
    assert np.array_equal(once, again)


@pytest.mark.parametrize(
    ("text", "count"),
    [(TEXT, 13), ("I like cake.", 3), ("The table walked.", 4), ("北京明天天气怎么样？", 9), ("houses", 2)],
)
def test_syllables(text, count):
    assert d.syllables(text) == count


def test_between_two_bands_there_is_no_label():
    assert d.speed_label(3.05) is None and d.speed_label(0.5) == "slow" and d.speed_label(20.0) == "fast"
    assert d.pitch_label(205.0, "female") == "middle" and d.pitch_label(205.0, "male") == "high"
    assert d.pitch_label(205.0, "child") is None and d.pitch_label(0.0, "male") is None


def test_speaking_time_leaves_long_pauses_out():
    tone = np.sin(np.arange(8000) * 0.2).astype(np.float32)
    assert d.speaking_s(np.concatenate([tone, np.zeros(16_000, np.float32), tone])) == pytest.approx(1.0, abs=0.05)
    assert d.speaking_s(np.zeros(0, np.float32)) == 0.0
    assert Waveform(tone, RATE).duration_s == 0.5
