"""What the spoken view is given: codes, whole words and a mel, as JSON."""

import base64
import json

import numpy as np
import pytest

from analysis.view.spoken import code_digits, mel_payload, spoken_payload, whole_words
from model.audio import Waveform


def tone(hz, seconds=0.5, rate=24_000):
    return Waveform((0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32), rate)


def test_payload_is_plain_json():
    payload = spoken_payload(np.array([5, 728]), [("la", 0), ("la", 1)], 729, tone(440))
    assert json.loads(json.dumps(payload)) == payload
    assert payload["codes"] == [5, 728] and payload["digits"] == 6 and payload["words"] == [["lala", 0]]
    assert spoken_payload([], [], 6561)["mel"] is None


@pytest.mark.parametrize(("n", "digits"), [(1, 1), (3, 1), (4, 2), (27, 3), (729, 6), (6561, 8)])
def test_digits_are_enough(n, digits):
    assert code_digits(n) == digits and 3**digits >= n


def test_words_are_put_together_at_their_first_piece():
    pieces = [("Tur", 0), ("n", 4), (" on", 8), (" ", 12), ("the", 16), ("灯", 20), ("开", 24), (".", 28)]
    assert whole_words(pieces) == [("Turn", 0), (" on", 8), (" ", 12), ("the", 16), ("灯", 20), ("开", 24), (".", 28)]
    assert whole_words([]) == []


def test_mel_shows_where_the_sound_is():
    low, high = (mel_payload(tone(hz)) for hz in (300, 4000))
    assert (low["bins"], low["columns"], low["column_s"]) == (80, 25, 0.02)
    peaks = [np.frombuffer(base64.b64decode(m["codes"]), "u1").reshape(80, 25)[:, 12].argmax() for m in (low, high)]
    assert peaks[0] < 20 < 40 < peaks[1]
    assert max(base64.b64decode(low["codes"])) == 255


def test_mel_of_other_rates_and_of_next_to_nothing():
    assert mel_payload(tone(300, rate=16_000))["columns"] == 25
    assert mel_payload(tone(300, 0.02)) is None
