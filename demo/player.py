"""The sound of an answer, played in the browser while it is being made; no file, no ffmpeg, no request.

    AudioDelta ... ──Feed.add──> value {id, rate, pieces, done} ──gradio──> assets/player.js ──Web Audio──> ears

A value holds all pieces so far and gradio sends only what is new, so an update that is lost or comes twice changes
nothing. A new sound is heard at once, in a page that somebody has clicked in; the whole can be kept as a WAV file.
"""

import base64
import json
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from demo.page import Page
from demo.runs import new_id
from demo.texts import Texts
from model.audio import OUTPUT_SAMPLE_RATE_HZ, Waveform, to_pcm16

WORDS = ("play", "pause", "stop", "download", "position", "waiting", "blocked", "file")
"""Words of the player: `player_NAME` in demo/texts.py."""

# Runs once per mount. The value may have been set before, then no change is seen and nobody
# is waiting to hear it: hence the last line.
# `PcmPlayer` is defined by assets/player.js in the page's head.
MOUNT_JS = """
const language = SETTINGS.lang === 'auto' ? navigator.language.slice(0, 2) : SETTINGS.lang;
const labels = SETTINGS.labels[language] || SETTINGS.labels.en;
const player = PcmPlayer.mount(element.querySelector('.player-root'), { labels });
watch('value', () => player.update(props.value || {}));
player.update(props.value || {}, false);
"""
STOP_JS = "() => { document.querySelector('#ELEMENT .pcm')?.pcm.stop(); }"


@dataclass(frozen=True)
class Feed:
    """The sound of one turn so far, as the player takes it."""

    id: str = field(default_factory=new_id)
    """Another id is another sound: the one before falls silent."""
    rate_hz: int = OUTPUT_SAMPLE_RATE_HZ
    pieces: tuple[str, ...] = ()
    """16-bit little-endian samples as base64."""
    n_samples: int = 0
    is_done: bool = False
    """True once nothing more will come."""

    def add(self, waveform: Waveform) -> "Feed":
        """Return the feed with more sound; of another rate it is resampled."""
        pcm = to_pcm16(waveform.resample(self.rate_hz))
        piece = base64.b64encode(pcm).decode("ascii")
        return replace(self, pieces=(*self.pieces, piece), n_samples=self.n_samples + len(pcm) // 2)

    def finish(self) -> "Feed":
        """Return the feed of a turn that is over."""
        return replace(self, is_done=True)

    @property
    def duration_s(self) -> float:
        """Length of the sound so far."""
        return self.n_samples / self.rate_hz

    @property
    def value(self) -> dict[str, Any]:
        """What the player is given; `{}` empties it."""
        return {"id": self.id, "rate": self.rate_hz, "pieces": list(self.pieces), "done": self.is_done}


def pcm_player(page: Page, *, elem_id: str) -> gr.HTML:
    """Build a player; its value is that of a `Feed`, or `{}` for nothing.

    Updates go with `show_progress="hidden"`, or gradio greys the player out while sound arrives.
    """
    return gr.HTML(
        {},
        html_template='<div class="player-root"></div>',
        js_on_load=f"const SETTINGS = {json.dumps(player_settings(page))};{MOUNT_JS}",
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="player",
    )


def player_settings(page: Page) -> dict[str, Any]:
    """Return what a player's script has to know: the language, and its words in all of them."""
    words = {lang: {name: Texts(lang)(f"player_{name}") for name in WORDS} for lang in ("en", "zh")}
    return {"lang": page.workbench.settings.lang, "labels": words}


def stop_js(elem_id: str) -> str:
    """Return JavaScript for a button that silences a player at once, without asking the server."""
    return STOP_JS.replace("ELEMENT", elem_id)
