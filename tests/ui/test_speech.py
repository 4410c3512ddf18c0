"""The Speech tab in a browser: scripted codes, tones for sound, a real player."""

import io

import numpy as np
import pytest
import soundfile

from demo.settings import Settings
from model.audio import to_pcm16
from tests.demo.fakes import Tones, ready_workbench, replay_engine, speaking_engine, spoken_script, tone

pytestmark = pytest.mark.browser
N_CODES = 75


@pytest.fixture(scope="module")
def url(serve):
    engine = speaking_engine(spoken_script(N_CODES), token2wav=Tones(), pause_s=0.01)
    return serve(ready_workbench(engine, Settings(lang="auto")))


@pytest.fixture
def open_tab(visit, url):
    """Return a function that opens the page on the Speech tab."""

    def open_(address=url, name="Speech", **options):
        page = visit(address, **options)
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_selector("#speak")
        return page

    return open_


def speak(page, text="Turn on the kitchen light."):
    page.fill("#speech-text textarea", text)
    page.click("#speak")
    page.wait_for_selector("#speech-panel [data-phase=done]")
    page.wait_for_selector("#speech-view .pcm[data-seconds='3.000']")
    return page


def choose(page, name):
    page.click("#speech-voice input")
    page.get_by_role("option", name=name).click()


def test_text_becomes_sound_and_a_picture(open_tab):
    page = speak(open_tab())
    assert page.inner_text("#speech-panel .words") == "turn on the kitchen light"
    view = page.locator("#speech-view .spoken-plot")
    assert view.get_attribute("data-codes") == str(N_CODES) and view.get_attribute("data-mel") == "true"
    timings = page.inner_text("#speech-panel .timings")
    assert "3.0 s" in timings and str(N_CODES) in timings and "–" not in timings
    page.wait_for_selector("#speech-view .pcm[data-state=ended]", timeout=60_000)
    assert page.is_enabled("#speak") and page.is_disabled("#speak-stop")


def test_the_sound_is_that_of_the_chosen_voice_and_seed(open_tab):
    page = open_tab()
    page.wait_for_selector("#speech-voice")
    choose(page, "Lan ·")
    page.fill("#speech-seed input", "3")
    speak(page)
    with page.expect_download() as download:
        page.click("#speech-view .pcm-save")
    samples, rate = soundfile.read(io.BytesIO(download.value.path().read_bytes()), dtype="int16")
    codes = [code for event in spoken_script(N_CODES) for code in getattr(event, "codes", ())]
    said = Tones().stream("Lan", 3)
    pieces = [said.push(codes[place : place + Tones.block]) for place in range(0, N_CODES, Tones.block)]
    expected = np.concatenate([np.frombuffer(to_pcm16(piece), "<i2") for piece in pieces])
    assert rate == 24_000 and np.array_equal(samples, expected)


def test_sound_begins_before_the_rest_is_made_and_stop_ends_both(visit, serve):
    slow = speaking_engine(spoken_script(600), token2wav=Tones(), pause_s=0.05)
    page = visit(serve(ready_workbench(slow, Settings(lang="en"))))
    page.get_by_role("tab", name="Speech", exact=True).click()
    page.fill("#speech-text textarea", "A long story.")
    page.click("#speak")
    page.wait_for_selector("#speech-view .pcm[data-state=playing]", timeout=60_000)
    assert page.get_attribute("#speech-panel .transcript", "data-phase") in ("writing", "speaking")
    page.click("#speak-stop")
    page.wait_for_selector("#speech-panel [data-phase=stopped]")
    assert page.get_attribute("#speech-view .pcm", "data-state") == "paused"
    assert 0 < float(page.get_attribute("#speech-view .pcm", "data-seconds")) < 24


def test_the_text_cannot_be_too_long_and_not_empty(open_tab):
    page = open_tab()
    page.fill("#speech-text textarea", "a" * 400)
    assert len(page.input_value("#speech-text textarea")) <= 300
    page.fill("#speech-text textarea", "")
    page.click("#speak")
    page.wait_for_selector("#speech-panel >> text=There is nothing to read")


def test_a_click_on_a_sentence_fills_it_in(open_tab):
    page = open_tab()
    page.get_by_role("button", name="请打开客厅的灯。").click()
    page.wait_for_function("document.querySelector('#speech-text textarea').value === '请打开客厅的灯。'")


def test_a_voice_of_a_recording_needs_consent(open_tab, tmp_path):
    path = tmp_path / "me.wav"
    soundfile.write(path, tone(4.0).samples, 16_000)
    page = open_tab()
    page.get_by_label("From a recording").click()
    page.wait_for_selector("#speech-own")
    assert not page.is_visible("#speech-voice")
    page.fill("#speech-text textarea", "Hello.")
    page.click("#speak")
    page.wait_for_selector("#speech-panel >> text=There is no recording yet")
    page.set_input_files("#speech-recording input[type=file]", str(path))
    page.wait_for_selector("#speech-recording audio, #speech-recording .waveform-container", state="attached")
    page.click("#speak")
    page.wait_for_selector("#speech-panel >> text=Please confirm that you may use this voice")
    page.check("#speech-consent input")
    page.click("#speak")
    page.wait_for_selector("#speech-panel >> text=a scripted model")  # with consent the wish reaches the networks


def test_a_click_into_the_picture_seeks(open_tab):
    page = speak(open_tab())
    page.click("#speech-view .pcm-stop")
    box = page.locator("#speech-view .lv-over").bounding_box()
    page.mouse.click(box["x"] + 64 + (box["width"] - 64) / 2, box["y"] + 100)
    assert page.inner_text("#speech-view .pcm-time").startswith("0:01.5")
    page.mouse.move(box["x"] + 64 + 2, box["y"] + 60)
    codes = spoken_script(N_CODES)[2].codes
    assert f"code {codes[0]}" in page.inner_text("#speech-view .lv-hover")


def test_a_model_without_a_voice_says_so(visit, serve):
    page = visit(serve(ready_workbench(replay_engine(), Settings(lang="en"))))
    page.get_by_role("tab", name="Speech", exact=True).click()
    page.wait_for_selector("#speech-notice >> text=This model cannot speak")
    assert page.is_disabled("#speak") and not page.is_visible("#speech-voice")
    assert page.is_visible("#speech-text textarea")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_and_everything_has_a_name(open_tab, width):
    page = speak(open_tab(width=width))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, a[href]')]
            .filter((e) => e.offsetParent && e.type !== 'file')
            .filter((e) => !(e.innerText || e.ariaLabel || e.title || e.labels?.length))
            .map((e) => e.outerHTML.slice(0, 160))"""
    )
    assert unnamed == []


def test_a_chinese_browser_gets_a_chinese_tab(open_tab):
    page = open_tab(name="语音合成", locale="zh-CN")
    page.wait_for_selector("text=写点什么来听")
    assert page.inner_text("#speak") == "朗读"
    choose(page, "Grace · 女声，清晰")
    speak(page)
    assert page.get_attribute("#speech-view .pcm-stop", "aria-label") == "停止"
    assert "频谱" in page.get_attribute("#speech-view .lv-over", "aria-label")
