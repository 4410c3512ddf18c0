"""The player in a browser: what comes out of the sound card is what was sent, sample by sample."""

import base64
import io

import numpy as np
import pytest
import soundfile

from demo.theme import ASSETS
from model.audio import Waveform

pytestmark = pytest.mark.browser
RATE = 24_000
HOME = "http://localhost:9/"

# Listens at the player's output, where the sound card would, and keeps every sample that passes.
TAP = """
registerProcessor('tap', class extends AudioWorkletProcessor {
  process([[channel]]) { if (channel) this.port.postMessage(channel.slice()); return true; }
});
"""
LISTEN = """async (source) => {
  const engine = window.player.engine;
  const context = engine.prepare();
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
  const tap = new AudioWorkletNode(context, 'tap');
  window.heard = [];
  tap.port.onmessage = ({ data }) => window.heard.push(data);
  engine.output.connect(tap);
  await context.resume();
  return context.sampleRate;
}"""
HEARD = """() => {
  const all = new Int16Array(window.heard.reduce((n, part) => n + part.length, 0));
  let place = 0;
  for (const part of window.heard) for (const value of part) all[place++] = Math.round(value * 32768);
  return btoa(Array.from(new Uint8Array(all.buffer), (byte) => String.fromCharCode(byte)).join(''));
}"""


@pytest.fixture
def page(browser):
    """A page with nothing but a player; it must not ask anybody for anything."""
    context = browser.new_context()
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("player.css", "player.js"))
    html = f"<style>{style}</style><div id=root></div><script>{script}\nwindow.player = PcmPlayer.mount(root)</script>"
    problems = []
    context.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(HOME)
    page.on("request", lambda request: request.url.startswith("blob:") or problems.append(request.url))
    page.mouse.click(300, 300)  # browsers want a gesture before there is sound
    yield page
    context.close()
    assert problems == []


def sound(n_samples, seed=0):
    """Noise without zeros, so that silence around it can be told."""
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 20_000, n_samples) * rng.choice([-1, 1], n_samples)).astype("<i2")


def value(pieces, *, done=False, name="a"):
    encoded = [base64.b64encode(piece.tobytes()).decode() for piece in pieces]
    return {"id": name, "rate": RATE, "pieces": encoded, "done": done}


def send(page, pieces, **more):
    page.evaluate("(value) => window.player.update(value)", value(pieces, **more))


def heard(page):
    """The samples that went to the sound card, without the silence around them."""
    page.wait_for_timeout(150)
    samples = np.frombuffer(base64.b64decode(page.evaluate(HEARD)), "<i2")
    (loud,) = np.nonzero(samples)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def wait(page, state):
    page.wait_for_selector(f"#root[data-state={state}]")


def number(page, name):
    return float(page.get_attribute("#root", f"data-{name}"))


def test_samples_played_are_samples_sent(page):
    pieces = [sound(n, n) for n in (14_399, 9_600, 1, 2_001, 12_345)]
    assert page.evaluate(LISTEN, TAP) == RATE
    for k in range(1, len(pieces) + 1):  # each update holds all pieces so far, as the app sends them
        send(page, pieces[:k])
        page.wait_for_timeout(40)
    send(page, pieces, done=True)
    wait(page, "ended")
    assert number(page, "gaps") == 0 and number(page, "seconds") == pytest.approx(38_346 / RATE, abs=1e-3)
    assert np.array_equal(heard(page), np.concatenate(pieces))


def test_the_file_holds_the_samples_sent(page):
    pieces = [sound(3000), sound(500, 1)]
    send(page, pieces[:1])
    assert page.is_hidden(".pcm-save")
    send(page, pieces, done=True)
    with page.expect_download() as download:
        page.click(".pcm-save")
    assert download.value.suggested_filename == "speech.wav"
    samples, rate = soundfile.read(io.BytesIO(download.value.path().read_bytes()), dtype="int16")
    assert rate == RATE and np.array_equal(samples, np.concatenate(pieces))


def test_an_update_that_comes_twice_or_is_skipped_changes_nothing(page):
    pieces = [sound(6000, k) for k in range(4)]
    page.evaluate(LISTEN, TAP)
    for k in (1, 1, 3, 3):
        send(page, pieces[:k])
    send(page, pieces, done=True)
    send(page, pieces, done=True)
    wait(page, "ended")
    assert np.array_equal(heard(page), np.concatenate(pieces))


def test_a_late_piece_leaves_a_gap_and_loses_nothing(page):
    pieces = [sound(4800), sound(4800, 1)]
    page.evaluate(LISTEN, TAP)
    send(page, pieces[:1])
    wait(page, "waiting")
    assert page.inner_text(".pcm-note") == "Waiting for more sound"
    send(page, pieces, done=True)
    wait(page, "ended")
    assert number(page, "gaps") == 1
    played = heard(page)
    assert np.array_equal(played[:4800], pieces[0]) and (played[4800:-4800] == 0).all()
    ramp = 200  # it fades in after the gap
    assert np.array_equal(played[-4800 + ramp :], pieces[1][ramp:])


def test_pause_and_go_on_hear_everything_once(page):
    whole = sound(2 * RATE)
    send(page, [whole])
    wait(page, "playing")
    page.wait_for_timeout(300)
    page.click(".pcm-play")
    wait(page, "paused")
    position = page.evaluate("() => window.player.engine.position")
    assert 0.1 * RATE < position < 1.5 * RATE
    page.wait_for_timeout(200)
    assert page.evaluate("() => window.player.engine.position") == position
    page.evaluate(LISTEN, TAP)
    page.click(".pcm-play")
    send(page, [whole], done=True)
    wait(page, "ended")
    played = heard(page)
    assert np.array_equal(played[-len(whole) + position + 200 :], whole[position + 200 :])


def test_stop_goes_back_to_the_start_and_play_plays_it_all(page):
    whole = sound(RATE // 2)
    send(page, [whole], done=True)
    page.wait_for_timeout(150)
    page.click(".pcm-stop")
    assert page.get_attribute("#root", "data-state") == "paused"
    assert page.inner_text(".pcm-time") == "0:00.0 / 0:00.5" and page.is_disabled(".pcm-stop")
    page.evaluate(LISTEN, TAP)
    for _ in range(2):  # and once more after its end
        page.click(".pcm-play")
        wait(page, "ended")
    assert np.array_equal(heard(page)[: len(whole)], whole)


def test_another_sound_silences_the_one_before(page):
    send(page, [sound(10 * RATE)])
    wait(page, "playing")
    page.evaluate(LISTEN, TAP)
    page.evaluate("() => { window.heard.length = 0; }")
    other = sound(4800, 5)
    send(page, [other], done=True, name="b")
    wait(page, "ended")
    assert np.array_equal(heard(page)[-4800:], other)
    page.evaluate("() => window.player.update({})")
    assert page.get_attribute("#root", "data-state") == "empty" and page.is_disabled(".pcm-play")


def test_the_bar_seeks_by_keyboard(page):
    send(page, [sound(RATE)], done=True)
    page.click(".pcm-stop")
    page.focus(".pcm-bar")
    page.keyboard.press("End")
    assert page.inner_text(".pcm-time") == "0:01.0 / 0:01.0" and page.get_attribute("#root", "data-state") == "ended"
    page.keyboard.press("Home")
    assert page.inner_text(".pcm-time") == "0:00.0 / 0:01.0"
    assert page.get_attribute(".pcm-bar", "aria-valuetext") == "0:00.0"


def test_a_sound_that_was_there_before_the_page_waits_to_be_asked_for(page):
    page.evaluate("(value) => window.player.update(value, false)", value([sound(4800)], done=True))
    assert page.get_attribute("#root", "data-state") == "paused"


def test_without_a_sound_nothing_can_be_pressed(page):
    assert page.is_disabled(".pcm-play") and page.is_disabled(".pcm-stop") and page.is_disabled(".pcm-bar")
    send(page, [], done=True)
    assert page.get_attribute("#root", "data-state") == "empty" and page.is_hidden(".pcm-save")


def test_every_control_has_a_name(page):
    send(page, [sound(RATE)], done=True)
    names = page.evaluate(
        "() => [...document.querySelectorAll('button, input, a')].map((e) => e.ariaLabel || e.innerText)"
    )
    assert names == ["Pause", "Stop", "Position", "Download"]


def test_a_feed_is_what_the_player_takes(page):
    from demo.player import Feed

    feed = Feed()
    for k in range(3):
        feed = feed.add(Waveform(sound(4800, k).astype(np.float32) / 32768, RATE))
    page.evaluate(LISTEN, TAP)
    page.evaluate("(value) => window.player.update(value)", feed.finish().value)
    wait(page, "ended")
    sent = np.concatenate([np.frombuffer(base64.b64decode(piece), "<i2") for piece in feed.pieces])
    assert np.array_equal(heard(page), sent) and feed.duration_s == 0.6
