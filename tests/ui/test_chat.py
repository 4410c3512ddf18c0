"""The speech chat in a browser, on a scripted model: said, thought, looked up, interrupted, kept and looked into."""

import json
import time
import zipfile

import pytest

from model.events import TextDelta, ThoughtDelta, TurnDone
from model.messages import Audio, Text
from tests.demo.fakes import ready_workbench, replay_engine

pytestmark = pytest.mark.browser
CALL = '<tool_call>function\nget_date_time\n{"location": "Tokyo"}</tool_call>'


def write(conversation, options):
    """Think, call the clock when the time is asked for, talk for ever when told to, else repeat what was said."""
    if options.think:
        return [ThoughtDelta("They sound calm.\n", (4, 5, 6), 0.1), TurnDone("stop", (4, 5, 6), 9, 3, 0.5)]
    last = conversation[-2]
    words = "".join(part.text for part in last.parts if isinstance(part, Text))
    if last.role == "input":
        return [TextDelta("It is noon in Tokyo.", (7,), 0.1), TurnDone("stop", (7, 2), 9, 2, 0.2)]
    if "time" in words:
        return [TextDelta(CALL, (6,), 0.1), TurnDone("stop", (6, 2), 9, 2, 0.2)]
    if "talk" in words:
        return [TextDelta(f"word {n} ", (7,), 0.1) for n in range(2000)]
    clips = sum(isinstance(part, Audio) for part in last.parts)
    said = f"You said <b>{words}</b> ![x](http://evil.invalid/x.png) with {clips} clips."
    return [TextDelta(said, (7,), 0.1), TurnDone("stop", (7, 2), 9, 2, 0.2)]


@pytest.fixture(scope="module")
def workbench():
    return ready_workbench(replay_engine(write, pause_s=0.02))


@pytest.fixture(scope="module")
def url(serve, workbench):
    return serve(workbench)


def opened(visit, url, **how):
    page = visit(url, **how)
    page.get_by_role("tab", name="Speech chat").click()
    page.wait_for_selector("#chat-box textarea")
    return page


def say(page, words):
    page.fill("#chat-box textarea", words)
    page.keyboard.press("Enter")


def finished(page, *, phase="done"):
    page.wait_for_selector(f"#chat-status [data-phase={phase}]")


def newest(workbench):
    """The conversation that was used last."""
    return list(workbench.talks._kept.values())[-1][1]


def test_a_thought_folds_a_tool_is_called_and_the_answer_stands(visit, url, workbench):
    page = opened(visit, url)
    page.locator("#chat-think input[value='48']").check()
    page.locator("#chat-tools input").first.check()
    say(page, "What time is it in Tokyo?")
    page.wait_for_selector("#chat >> text=It is noon in Tokyo.")
    finished(page)
    assert "3 tokens" in page.inner_text("#chat") and page.input_value("#chat-box textarea") == ""
    (exchange,) = newest(workbench).state.exchanges
    assert [m.role for m in exchange.messages] == ["human", "assistant", "input", "assistant"]


def test_what_the_model_writes_is_characters_and_fetches_nothing(visit, url):
    page = opened(visit, url)
    say(page, "hello <img src='http://evil.invalid/y.png'>")
    page.wait_for_selector("#chat >> text=<b>hello")
    assert page.locator("#chat .message b, #chat .message img").count() == 0


def test_an_answer_is_interrupted_by_stop_and_by_the_next_message(visit, url, workbench):
    page = opened(visit, url)
    say(page, "talk to me")
    page.wait_for_selector("#chat >> text=word 3")
    start_s = time.monotonic()
    page.click("#chat-stop")
    finished(page, phase="stopped")
    assert time.monotonic() - start_s < 10
    say(page, "talk again")
    page.wait_for_selector("#chat >> text=talk again")
    page.wait_for_selector("#chat-status [data-phase=writing]")
    say(page, "hello")
    page.wait_for_selector("#chat >> text=You said")
    finished(page)
    talk = newest(workbench)
    assert [e.turn.reason for e in talk.state.exchanges] == ["cancelled", "cancelled", "stop"]
    assert [e.asked.parts[-1].text for e in talk.state.exchanges] == ["talk to me", "talk again", "hello"]


def test_a_sound_and_words_are_one_message_that_can_be_kept_and_looked_into(visit, url, workbench, speech, tmp_path):
    page = opened(visit, url)
    page.set_input_files("#chat-box input[type=file]", str(speech))
    page.wait_for_selector("#chat-box .thumbnails, #chat-box [class*=thumbnail]")
    say(page, "and this?")
    page.wait_for_selector("#chat >> text=with 1 clips")
    finished(page)
    page.click("#chat-export")
    with page.expect_download() as download:
        page.locator("#chat-file a").first.click()
    download.value.save_as(tmp_path / "talk.zip")
    with zipfile.ZipFile(tmp_path / "talk.zip") as archive:
        record = json.loads(archive.read("conversation.json"))
        assert [part["type"] for part in record["exchanges"][0]["said"]] == ["audio", "text"]
        assert record["exchanges"][0]["said"][0]["file"] in archive.namelist()
    page.click("#chat-inspect")
    page.wait_for_selector("#inspect-view .lv[data-layer]")


def test_starting_over_forgets_everything(visit, url, workbench):
    page = opened(visit, url)
    say(page, "hello")
    page.wait_for_selector("#chat >> text=You said")
    finished(page)
    page.click("#chat-again")
    finished(page)
    assert len(newest(workbench).state.exchanges) == 1
    page.click("#chat-clear")
    page.wait_for_selector("#chat >> text=You said", state="detached")
    assert newest(workbench).state.exchanges == ()


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_telephone(visit, url, dark):
    page = opened(visit, url, width=390, height=800, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
