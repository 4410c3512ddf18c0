"""The linked view in Chromium: everything it shows is linked, heard, and reachable without a mouse."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.attention import Head, audio_rows
from analysis.trace import Trace
from analysis.view import layer_payload, script, standalone_html, stylesheet, view_payload
from tests.analysis.planted import CHINESE, ENGLISH, POINTING, planted_trace

pytestmark = pytest.mark.browser
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as engine:
        arguments = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        chromium = engine.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def planted():
    return planted_trace()


@pytest.fixture
def open_page(browser, tmp_path):
    """Return a function that opens a page; at the end nothing may have failed or been asked of the network."""
    wrong, contexts = [], []

    def open_(html: str, *, width: int = 1200, scheme: str = "light"):
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def page(open_page, planted):
    page = open_page(standalone_html(planted[0]))
    page.wait_for_selector(".lv[data-layer]")
    return page


def bare_page(payload: dict | None, options: str = "{}") -> str:
    """A page that keeps the view's handle as `view`, its answers in `heard`."""
    return f"""<!doctype html><meta charset="utf-8"><style>{stylesheet()}</style><div id="v"></div>
<script>{script()}
const heard = [];
const view = LinkedView.mount(document.getElementById("v"), {json.dumps(payload)}, {options});</script>"""


def state(page, name: str) -> str | None:
    return page.locator(".lv").get_attribute(f"data-{name}")


def moment(trace: Trace, head: Head, queries: list[int]) -> tuple[float, float]:
    """The shortest stretch with 60 % of the attention and 80 ms on each side, found by trying them all."""
    row, frames = audio_rows(trace, head)[queries].sum(axis=0), trace.frames
    best = min(
        (frames.end_s[b] - frames.start_s[a], a, b)
        for a in range(len(row))
        for b in range(a, len(row))
        if row[a : b + 1].sum() >= 0.6 * row.sum()
    )
    end = min(trace.audio["input_0"].duration_s, frames.end_s[best[2]] + 0.08)
    return max(0.0, frames.start_s[best[1]] - 0.08), end


def span_of(text: str) -> tuple[float, float]:
    start, end = text.split("-")
    return float(start), float(end)


def drag(page, start_s: float, end_s: float, trace: Trace, *, y: int = 50) -> None:
    """Drag over the waveform from one time to another."""
    box = page.locator(".lv-over").bounding_box()
    duration, left = trace.audio["input_0"].duration_s, 76
    x = [box["x"] + left + time / duration * (box["width"] - left - 1) for time in (start_s, end_s)]
    page.mouse.move(x[0], box["y"] + y)
    page.mouse.down()
    page.mouse.move(sum(x) / 2, box["y"] + y, steps=3)
    page.mouse.move(x[1], box["y"] + y)
    page.mouse.up()


def test_opens_on_the_best_head_with_every_token_a_button(page, planted):
    assert page.locator("button.lv-token").all_text_contents() == [piece.strip() for piece in ENGLISH] + ["⟨EOT⟩"]
    assert (state(page, "layer"), state(page, "head")) == (str(POINTING[0]), str(POINTING[1]))
    assert page.locator(".lv-best").get_attribute("aria-pressed") == "true"
    assert "Click a word" in page.locator("[role=status]").text_content()


def test_clicking_a_word_plays_its_moment_and_says_where_it_is(page, planted):
    trace, words = planted
    page.locator("button.lv-token").nth(6).click()
    assert state(page, "selected") == "6"
    start, end = span_of(state(page, "played"))
    np.testing.assert_allclose((start, end), moment(trace, Head(*POINTING), [6, 7]), atol=0.011)
    assert start < words[6].centre_s < end
    page.wait_for_selector(".lv[data-playing=false]", timeout=5000)
    assert span_of(state(page, "ended")) == (start, end)
    assert "“coffee”" in page.locator("[role=status]").text_content()
    assert page.locator(".lv-big").text_content() == "coffee"
    assert page.locator(".lv-token.lv-with").all_text_contents() == ["coff", "ee"]


def test_tokens_can_be_read_one_by_one(page, planted):
    page.get_by_label("Whole words").uncheck()
    page.locator("button.lv-token").nth(7).click()
    np.testing.assert_allclose(span_of(state(page, "played")), moment(planted[0], Head(*POINTING), [7]), atol=0.011)
    assert page.locator(".lv-big").text_content() == "ee"


def test_dragging_over_a_word_lights_up_its_token(page, planted):
    trace, words = planted
    for number, tokens in ((1, {1}), (6, {6, 7})):
        drag(page, words[number].start_s, words[number].end_s, trace)
        assert {int(k) for k in state(page, "lit").split()} == tokens
        np.testing.assert_allclose(span_of(state(page, "brush")), words[number][1:3], atol=0.02)
    page.keyboard.press("Space")
    np.testing.assert_allclose(span_of(state(page, "played")), words[6][1:3], atol=0.02)
    page.keyboard.press("Escape")
    assert state(page, "brush") is None and state(page, "lit") is None and state(page, "playing") == "false"


def test_everything_goes_by_keyboard(page):
    page.locator("button.lv-token").first.focus()
    for key, selected in (("ArrowRight", "0"), ("ArrowRight", "1"), ("End", "10"), ("ArrowLeft", "9"), ("Home", "0")):
        page.keyboard.press(key)
        assert state(page, "selected") == selected
    assert page.evaluate("document.activeElement.textContent") == "good"
    page.keyboard.press("Space")
    assert state(page, "playing") == "true"
    page.keyboard.press("Space")
    assert state(page, "playing") == "false"
    page.keyboard.press("+")
    start, end = span_of(state(page, "view"))
    assert end - start < 4
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    assert state(page, "selected") is None and span_of(state(page, "view"))[0] == 0
    assert page.locator('button.lv-token[tabindex="0"]').count() == 1


def test_pickers_change_what_is_read(page, planted):
    canvas = "document.querySelector('.lv-base').toDataURL()"
    settle = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    pictures = [page.evaluate(canvas)]
    page.get_by_label("Layer").select_option("0")
    page.get_by_label("Head").select_option("1")
    page.evaluate(settle)
    pictures.append(page.evaluate(canvas))
    assert (state(page, "layer"), state(page, "head")) == ("0", "1")
    page.get_by_label("Head").select_option("mean")
    page.evaluate(settle)
    pictures.append(page.evaluate(canvas))
    page.get_by_label("Scale each token").uncheck()
    page.evaluate(settle)
    pictures.append(page.evaluate(canvas))
    assert len(set(pictures)) == 4 and state(page, "head") == "mean"
    page.locator("button.lv-token").nth(1).click()
    np.testing.assert_allclose(span_of(state(page, "played")), moment(planted[0], Head(0), [1]), atol=0.011)
    page.locator(".lv-best").click()
    assert (state(page, "layer"), state(page, "head")) == (str(POINTING[0]), str(POINTING[1]))
    np.testing.assert_allclose(  # the chosen word stays chosen and is read anew
        span_of(page.locator(".lv-readout dd").first.text_content().replace(" – ", "-").removesuffix(" s")),
        moment(planted[0], Head(*POINTING), [1]),
        atol=0.011,
    )


def test_clicks_in_the_plot_pick_tokens(page, planted):
    trace, words = planted
    box = page.locator(".lv-over").bounding_box()
    page.mouse.click(box["x"] + 300, box["y"] + 22 + 84 + 2 + 84 + 8 + 17 * 3 + 8)  # the fourth row of the heat map
    assert state(page, "selected") == "3"
    x = box["x"] + 76 + words[1].centre_s / trace.audio["input_0"].duration_s * (box["width"] - 77)
    page.mouse.click(x, box["y"] + 60)  # the sound of the second word
    assert state(page, "selected") == "1"


def test_zoom_and_pan_stay_inside_the_sound(page, planted):
    box = page.locator(".lv-over").bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 60)
    page.keyboard.down("Control")
    for _ in range(30):
        page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    page.wait_for_function(
        "(() => { const [a, b] = document.querySelector('.lv').dataset.view.split('-'); return b - a < 0.12; })()"
    )
    for _ in range(40):
        page.mouse.wheel(900, 0)
    duration = planted[0].audio["input_0"].duration_s
    page.wait_for_function(f"document.querySelector('.lv').dataset.view.endsWith('-{duration:.2f}')")
    page.locator(".lv-fit").click()
    assert span_of(state(page, "view")) == (0, pytest.approx(duration, abs=0.01))


def test_the_table_says_the_same(page, planted):
    trace = planted[0]
    page.locator("summary").click()
    page.wait_for_selector(".lv-table tbody tr")
    rows = page.locator(".lv-table tbody tr")
    assert rows.count() == trace.n_reply
    cells = rows.nth(1).locator("td, th").all_text_contents()
    start, end = moment(trace, Head(*POINTING), [1])
    assert cells[1] == "morning" and cells[4] == f"{start:.2f} – {end:.2f} s"
    assert float(cells[2]) == pytest.approx(np.exp(trace.tokens.logprob[trace.meta.n_prompt + 1]), abs=1e-3)
    share = audio_rows(trace, Head(*POINTING))[1].sum()
    assert cells[6] == f"{100 * share:.0f} %"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440, 2560])
def test_fits_every_width_in_both_themes(open_page, width, scheme):
    page = open_page(standalone_html(planted_trace(CHINESE)[0]), width=width, scheme=scheme)
    page.wait_for_selector(f".lv[data-theme={scheme}][data-layer]")
    page.locator("button.lv-token").nth(1).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = page.evaluate(
        "[...document.querySelectorAll('.lv button')].filter(b => b.offsetParent && b.offsetHeight < 28).length"
    )
    assert small == 0


def test_a_reply_without_spaces_wraps(open_page):
    page = open_page(standalone_html(planted_trace(("ha",) * 60)[0]), width=360)
    page.wait_for_selector(".lv[data-layer]")
    page.locator("button.lv-token").nth(1).click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_follows_the_theme_of_the_page_while_it_is_open(open_page, planted):
    page = open_page(bare_page(view_payload(planted[0])))
    page.wait_for_selector(".lv[data-theme=light]")
    page.evaluate("document.body.style.background = '#101418'")
    page.wait_for_selector(".lv[data-theme=dark]")


def test_text_of_models_is_never_markup(open_page, planted):
    trace = planted[0]
    text = list(trace.tokens.text)
    text[trace.meta.n_prompt + 1] = ' <img src="x" onerror="document.title=1"><b>bold</b>'
    page = open_page(standalone_html(replace(trace, tokens=replace(trace.tokens, text=text))))
    page.locator("button.lv-token").nth(1).click()
    page.locator("summary").click()
    assert page.locator(".lv img, .lv b").count() == 0
    assert page.locator("button.lv-token").nth(1).text_content() == text[trace.meta.n_prompt + 1].strip()


def test_layers_that_are_elsewhere_are_fetched(open_page, planted):
    payload = view_payload(planted[0], run_id="run-7")
    payload["matrices"].pop("2"), payload["matrices"].pop("0")
    answer = json.dumps(layer_payload(planted[0], 2))
    options = f"""{{
        fetchLayer: async (query) => {{
            heard.push(query);
            return query.layer === 2 ? {answer} : {{ error: "it has expired" }};
        }},
        onSelect: (chosen) => heard.push(chosen),
        onBrush: (stretch) => heard.push(stretch),
    }}"""
    page = open_page(bare_page(payload, options))
    page.wait_for_selector(".lv[data-layer='1']")
    page.get_by_label("Layer").select_option("2")
    page.wait_for_selector(".lv[data-layer='2']")
    page.get_by_label("Layer").select_option("0")
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('it has expired')")
    assert state(page, "layer") == "2" and page.get_by_label("Layer").input_value() == "2"
    page.locator("button.lv-token").nth(1).click()
    drag(page, 0.2, 0.8, planted[0])
    first, _, chosen, stretch = page.evaluate("heard")
    assert first == {"run": "run-7", "layer": 2}
    assert chosen["index"] == 1 and chosen["value"] == " morning" and chosen["run"] == "run-7" and chosen["layer"] == 2
    assert stretch["start"] == pytest.approx(0.2, abs=0.02) and stretch["head"] == POINTING[1]


def test_nothing_yet_teaches_and_updates_keep_the_picked_head(open_page, planted):
    page = open_page(bare_page(None, '{ labels: { emptyTitle: "还没有录音" } }'))
    assert state(page, "state") == "empty" and page.locator("h3").text_content() == "还没有录音"
    page.evaluate("payload => view.update(payload)", view_payload(planted[0]))
    page.wait_for_selector(".lv[data-state=ready][data-layer]")
    page.get_by_label("Head").select_option("3")
    page.evaluate("payload => view.update(payload)", view_payload(planted_trace(CHINESE, seed=2)[0]))
    page.wait_for_selector(".lv[data-head='3']")
    page.evaluate("view.select(2)")
    assert state(page, "selected") == "2" and state(page, "played") is None
    page.evaluate("view.destroy()")
    assert page.locator(".lv *").count() == 0 and state(page, "selected") is None


def test_a_turn_without_attention_still_shows_sound_and_words(open_page, planted):
    page = open_page(bare_page(view_payload(replace(planted[0], tensors={}))))
    assert "without attention" in page.locator("[role=status]").text_content()
    page.locator("button.lv-token").nth(1).click()
    assert page.locator(".lv-big").text_content() == "morning"
    page.keyboard.press("Escape")
    page.locator("button.lv-play").click()
    assert state(page, "playing") == "true"


def test_a_long_turn_opens_and_pans_fluently(open_page):
    trace = planted_trace(tuple(ENGLISH[:-1]) * 20, seconds=60.0)[0]
    page = open_page(standalone_html(trace))
    page.wait_for_selector(".lv[data-layer]")
    for _ in range(3):
        page.locator(".lv-zoom-in").click()
    milliseconds = page.evaluate("""async () => {
      const plot = document.querySelector('.lv-over'), start = performance.now();
      for (let k = 0; k < 30; k += 1) {
        plot.dispatchEvent(new WheelEvent('wheel', { deltaX: k % 10 < 5 ? 20 : -20, bubbles: true, cancelable: true }));
        await new Promise(done => requestAnimationFrame(done));
      }
      return (performance.now() - start) / 30;
    }""")
    assert milliseconds < 100  # 17 when nothing else runs on the machine
