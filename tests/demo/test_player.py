"""What the player is given: every sample as 16-bit, growing under one id."""

import base64

import numpy as np

from demo.page import Page
from demo.player import WORDS, Feed, pcm_player, player_settings, stop_js
from model.audio import Waveform, to_pcm16


def wave(n=480, rate=24_000, seed=0):
    return Waveform(np.random.default_rng(seed).uniform(-0.9, 0.9, n).astype(np.float32), rate)


def test_a_feed_holds_the_samples_as_they_came():
    feed = Feed().add(wave()).add(wave(100, seed=1))
    assert [base64.b64decode(piece) for piece in feed.pieces] == [to_pcm16(wave()), to_pcm16(wave(100, seed=1))]
    assert (feed.n_samples, feed.duration_s, feed.is_done) == (580, 580 / 24_000, False)
    assert feed.value == {"id": feed.id, "rate": 24_000, "pieces": list(feed.pieces), "done": False}
    assert feed.finish().value["done"] and feed.finish().id == feed.id


def test_earlier_pieces_never_change():
    feed = Feed().add(wave())
    assert feed.add(wave(seed=2)).pieces[:1] == feed.pieces


def test_other_rates_are_brought_to_the_players():
    assert Feed().add(wave(16_000, 16_000)).duration_s == 1.0


def test_ids_cannot_be_guessed():
    assert len({Feed().id for _ in range(100)}) == 100 and len(Feed().id) >= 20


def test_the_component_needs_no_file_and_speaks_both_languages(workbench):
    import gradio as gr

    with gr.Blocks():
        page = Page(workbench, gr.State())
        player = pcm_player(page, elem_id="p")
    settings = player_settings(page)
    assert set(settings["labels"]["zh"]) == set(WORDS) and settings["labels"]["zh"]["pause"] == "暂停"
    assert player.value == {} and player.elem_id == "p"
    assert "'#speech-view .pcm'" in stop_js("speech-view")
