"""The tabs Translation and Paralinguistics in a browser, on a scripted model."""

import csv

import pytest

from demo.settings import Settings
from tests.demo.fakes import WORDS, ready_workbench
from tests.demo.task_fakes import BACK, TRANSLATION, task_engine

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(serve):
    return serve(ready_workbench(task_engine(pause_s=0.01), settings=Settings(lang="auto")))


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()
    return page


def give(page, box, path):
    """Choose a sound file in one tab and wait until the page has it."""
    page.set_input_files(f"#{box} input[type=file]", str(path))
    page.wait_for_selector(f"#{box} audio, #{box} [data-testid=waveform-controls]", state="attached")


def translated(page, path):
    give(open_tab(page, "Translation"), "translation-sound", path)
    page.click("#translate")
    page.wait_for_selector("#translation-view .lv[data-layer]")
    page.wait_for_selector("#translated .pair[data-phase=done]")
    return page


def surveyed(page, path, tab="Paralinguistics"):
    give(open_tab(page, tab), "survey-sound", path)
    page.click("#ask-all")
    page.wait_for_selector("#survey .survey[data-phase=done]")
    page.wait_for_selector("#curves-plot .js-plotly-plot", state="attached")
    return page


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_translation_stands_beside_what_was_said_and_opens_in_inspect(visit, url, speech):
    page = translated(visit(url), speech)
    assert page.inner_text("#translated .translated .words") == "".join(TRANSLATION)
    assert page.inner_text("#translated .said .words") == "".join(WORDS)
    assert "Translation, Chinese" in page.inner_text("#translated") and page.is_enabled("#translate")
    page.click("#open-translation")
    page.wait_for_selector("#inspect-view .lv[data-layer]")


def test_the_other_direction_alone(visit, url, speech):
    page = open_tab(visit(url), "Translation")
    page.get_by_label("Chinese to English").check()
    page.uncheck("#with-source input")
    give(page, "translation-sound", speech)
    page.click("#translate")
    page.wait_for_selector("#translated .pair[data-phase=done]")
    assert page.inner_text("#translated .words") == "".join(BACK) and page.locator("#translated section").count() == 1
    assert "Translation, English" in page.inner_text("#translated")


def test_eleven_answers_with_bars_curves_files_and_inspect(visit, url, speech, tmp_path):
    page = surveyed(visit(url), speech)
    assert page.locator("#survey .card[data-state=done]").count() == 11
    card = page.locator("#survey .card[data-dimension=emotion]")
    assert card.locator(".card-label").inner_text() == "happy" and "75 %" in card.locator(".shares").first.inner_text()
    assert page.locator("#curves-plot .subplot").count() == 4 and "syllables/s" in page.inner_text("#curves")
    with page.expect_download() as caught:
        page.click("#survey-save-csv")
    table = tmp_path / "table.csv"
    caught.value.save_as(table)
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert {row["dimension"] for row in rows} >= {"gender", "vocal"} and len(rows) > 90
    card.locator(".inspect-one").click()
    page.wait_for_selector("#inspect-view .lv[data-layer]")
    assert page.get_by_role("tab", name="Inspect").get_attribute("aria-selected") == "true"


def test_stopping_a_survey_keeps_its_answers(visit, serve, speech):
    page = open_tab(visit(serve(ready_workbench(task_engine(pause_s=0.15)))), "Paralinguistics")
    give(page, "survey-sound", speech)
    page.click("#ask-all")
    page.wait_for_selector("#survey .card[data-state=done]")
    page.click("#survey-stop")
    page.wait_for_selector("#survey .survey[data-phase=stopped]")
    page.wait_for_selector("#ask-all:enabled")
    assert 1 <= page.locator("#survey .card[data-state=done]").count() < 11
    assert page.is_visible("#survey-save-json")


def test_an_untrained_model_is_told_quietly(visit, serve):
    page = visit(serve(ready_workbench(task_engine(trained_tasks=("asr",)))))
    for tab, box in (("Translation", "translation"), ("Paralinguistics", "paralinguistics")):
        open_tab(page, tab)
        page.wait_for_selector(f"#{box}-notice .untrained")
        assert "speech recognition" in page.inner_text(f"#{box}-notice")


def test_a_trained_model_has_no_notice(visit, url):
    page = open_tab(visit(url), "Translation")
    assert page.locator(".untrained").count() == 0 and not page.is_visible("#translation-notice")


def test_the_raw_microphone_is_one_switch_for_all_tabs(visit, url):
    page = visit(url)
    page.uncheck("#raw-microphone input")
    open_tab(page, "Translation")
    page.wait_for_function("!document.querySelector('#translation-raw-microphone input').checked")
    page.check("#translation-raw-microphone input")
    page.wait_for_function("window.stepAudioRawMicrophone.get() === true")


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_both_tabs_fit_and_every_control_has_a_name(width, dark, visit, url, speech):
    page = translated(visit(url, width=width, dark=dark), speech)
    assert fits(page)
    surveyed(page, speech)
    assert fits(page)
    page.click("#survey-method")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, a[href]')]
            .filter((e) => e.offsetParent && e.type !== 'file')
            .filter((e) => !(e.innerText || e.ariaLabel || e.title || e.dataset.title || e.labels?.length))
            .map((e) => e.outerHTML.slice(0, 160))"""
    )
    assert unnamed == []
    text = page.evaluate("getComputedStyle(document.querySelector('#curves-plot text')).fill")
    assert text == page.evaluate(
        """() => { const probe = document.createElement('i'); document.body.append(probe);
        probe.style.color = 'var(--body-text-color-subdued)'; return getComputedStyle(probe).color; }"""
    )


def test_a_chinese_page_is_chinese(visit, url, speech):
    page = surveyed(visit(url, locale="zh-CN"), speech, "副语言")
    assert "性别" in page.inner_text("#survey") and page.inner_text("#ask-all") == "十一项全问"
    assert "音高" in page.inner_text("#curves")
    open_tab(page, "翻译")
    assert "按“翻译”" in page.inner_text("#translated")
